"""An isoFLOP sweep whose trainer trains nothing: its losses follow Hoffmann's law, with the noise of each seed."""

from __future__ import annotations

import math
import sys
from types import ModuleType

import numpy as np
import pytest

from scaling.trainer import Task, Trained

LAW = {"E": 0.7, "A": 60.0, "alpha": 0.42, "B": 600.0, "beta": 0.45}
SIGMA = 0.002


def law_sweep(budgets: str, number: int) -> str:
    """The sweep's YAML, of so many sizes at each budget."""
    return f"""\
name: law
architecture: {{type: decoder, seq_len: 32}}
objective: causal
corpus: {{type: markov, order: 1, symbols: 8, n_documents: 512, document_length: 512}}
trainer: law_training:train
heldout: nested
repeat: true
design:
  type: isoflop
  budgets: {budgets}
  sizes: {{centre: {{coefficient: 0.07, exponent: 0.5}}, number: {number}, ratio: 2}}
"""


def law_loss(task: Task) -> float:
    """The law at the run's size and tokens, with the noise of its seed."""
    trial = task.trial
    params = trial.objective.params(trial.architecture, task.vocab_size).non_embedding
    mean = LAW["E"] + LAW["A"] * params ** -LAW["alpha"] + LAW["B"] * trial.tokens ** -LAW["beta"]
    noise = np.random.default_rng([trial.seed, trial.steps, trial.architecture.d_model]).standard_normal()  # type: ignore[attr-defined]
    return float(mean * math.exp(SIGMA * noise))


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the trainer importable in this process."""
    module = ModuleType("law_training")
    module.train = lambda task: Trained(loss=law_loss(task), loss_se=0.001)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "law_training", module)
