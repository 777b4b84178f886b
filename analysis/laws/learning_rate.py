"""Best peak learning rate of size and data, lr = A N^alpha D^beta (Li et al. 2025, "Step Law", arXiv 2503.04715).

In compute alone: DeepSeek LLM 2024 (arXiv 2401.02954); in size alone: Porian et al. 2024 (arXiv 2406.19146).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from analysis.laws.hyperparameter import HyperparameterLaw


@dataclass(frozen=True)
class LearningRate(HyperparameterLaw):
    """Peak rate of Adam; N and D as their authors count them, none of which is a store's own convention.

    `step_law_2025`: non-embedding N, D tokens, N 2e8 to 1e9 and D 4e9 to 1e11. `deepseek_2024`: C = M·D, M the
    non-embedding FLOPs a token, read from a secondary source, as is `porian_2024`. None may be carried below the range
    it was fitted in: at N = 1.5e5 and D = 1.1e7 they differ by a factor of seven.
    """

    name: ClassVar[str] = "learning_rate"
    summary: ClassVar[str] = "best learning rate (a row an optimum) as a power law of size and data, or of one of them"
    source: ClassVar[str] = "Li et al. 2025, arXiv 2503.04715"
    needs: ClassVar[str] = (
        "Best learning rates from grids with an interior optimum, at several sizes and amounts of data that do "
        "not move together."
    )
    misleads: ClassVar[str] = (
        "It holds for one optimizer, parametrisation, schedule and batch rule; sizes and data along a single ray "
        "give the sum of both exponents only."
    )
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "params": (10000000.0, 100000000000.0),
        "tokens": (1000000000.0, 10000000000.0, 100000000000.0, 1000000000000.0),
    }
    response: ClassVar[str] = "lr"
    symbol: ClassVar[str] = "lr"
    published: ClassVar[Mapping[str, Mapping[str, Mapping[str, float]]]] = {
        "params_tokens": {"step_law_2025": {"A": 1.79, "alpha": -0.713, "beta": 0.307}},
        "flops": {"deepseek_2024": {"A": 0.3118, "gamma": -0.1250}},
        "params": {"porian_2024": {"A": 3.7, "alpha": -0.36}},
    }
