"""What heads on an encoder share: nats of logits, and initial weights other than those of the encoder."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.models.multihead import at_least_float32


def nats_of(logits_BPV: Tensor, targets_BP: Tensor) -> Tensor:
    """Cross-entropy of each target, (…, B, P); 0 where it is -1."""
    logits = at_least_float32(logits_BPV).flatten(0, -2)
    return F.cross_entropy(logits, targets_BP.flatten(), reduction="none", ignore_index=-1).view(targets_BP.shape)


def generator_of(seed: int) -> torch.Generator:
    """Random numbers of a head, a pure function of the seed and others than those of the encoder below it."""
    words = np.random.SeedSequence([seed, 1]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) >> 1)


def matrix(rows: int, columns: int, generator: torch.Generator) -> nn.Parameter:
    """A matrix N(0, 1/columns)."""
    return nn.Parameter(torch.randn(rows, columns, generator=generator) / math.sqrt(columns))
