"""What heads on an encoder share: initial weights other than those of the encoder."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn


def generator_of(seed: int) -> torch.Generator:
    """Random numbers of a head, a pure function of the seed and others than those of the encoder below it."""
    words = np.random.SeedSequence([seed, 1]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) >> 1)


def matrix(rows: int, columns: int, generator: torch.Generator) -> nn.Parameter:
    """A matrix N(0, 1/columns)."""
    return nn.Parameter(torch.randn(rows, columns, generator=generator) / math.sqrt(columns))
