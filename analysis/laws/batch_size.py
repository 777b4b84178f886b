"""Best batch in tokens: B = A D^beta (Li et al. 2025, "Step Law", arXiv 2503.04715), independent of size.

In compute alone: DeepSeek LLM 2024 (arXiv 2401.02954); in size alone: Porian et al. 2024 (arXiv 2406.19146).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from analysis.laws.hyperparameter import HyperparameterLaw


@dataclass(frozen=True)
class BatchSize(HyperparameterLaw):
    """Tokens a batch; N and D as their authors count them (see `LearningRate`).

    Bergsma et al. 2025 (arXiv 2505.13738) find B ∝ D^.383 as well, without an amplitude that could be checked.
    """

    x: str = "tokens"

    name: ClassVar[str] = "batch_size"
    summary: ClassVar[str] = "best batch in tokens (a row an optimum) as a power law of data, or of size or compute"
    source: ClassVar[str] = "Li et al. 2025, arXiv 2503.04715"
    needs: ClassVar[str] = (
        "Best batch sizes from grids of learning rate and batch whose optimum is interior, at several amounts of data."
    )
    misleads: ClassVar[str] = (
        "The minimum over the batch is flat: optima at the edge of a grid, or grids with one learning rate, give "
        "an exponent of the grid."
    )
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {"tokens": (1000000000.0, 10000000000000.0)}
    response: ClassVar[str] = "batch_tokens"
    response_unit: ClassVar[str] = "tokens"
    symbol: ClassVar[str] = "B"
    published: ClassVar[Mapping[str, Mapping[str, Mapping[str, float]]]] = {
        "tokens": {"step_law_2025": {"A": 0.58, "beta": 0.571}},
        "flops": {"deepseek_2024": {"A": 0.2920, "gamma": 0.3271}},
        "params": {"porian_2024": {"A": 0.7576, "alpha": 0.703}},
    }
