"""Learning-rate annealing law over schedules: L(t) = L0 + A S1^−alpha − C S2, S2 the annealing area with momentum.

S1 = Σ_{i≤t} η_i; S2 = Σ_{i≤t} Σ_{k≤i} (η_{k−1} − η_k) λ^(i−k), λ = `momentum`; Tissue et al. 2024 (arXiv 2408.11029).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.laws.base import Array, Parameter
from analysis.laws.schedule import ScheduleLaw
from analysis.schedules import Sampled


@dataclass(frozen=True)
class Annealing(ScheduleLaw):
    """Loss at any step of any schedule, from the rate of every step.

    Summed over i first, a change of the rate at step k has given (1 − λ^(t−k+1))/(1 − λ) of its size by step t, so that
    its gain saturates after some `memory` = 1/(1 − λ) steps; the authors fix λ = .999 or so, here it is fitted. The
    warmup counts as if at its full rate, as in the authors' code; without momentum S2 would be the drop of the rate.
    """

    name: ClassVar[str] = "annealing"
    summary: ClassVar[str] = "loss over whole learning-rate schedules, area under the rate and annealing area"
    source: ClassVar[str] = "Tissue et al. 2024, arXiv 2408.11029"
    needs: ClassVar[str] = (
        "Whole loss curves with the rate of every step, of two or more schedules, one of them with a late decay."
    )
    misleads: ClassVar[str] = (
        "It extrapolates over schedules of one model, not over sizes, and the gain from a decay is linear in the "
        "rate: sharp or very long decays are off."
    )
    example: ClassVar[Mapping[str, float]] = {"L0": 2.6, "A": 0.5, "alpha": 0.5, "C": 0.7, "memory": 1000.0}
    formula = "L = L0 + A S1^-alpha - C S2(memory)"
    drop_amplitude: ClassVar[str] = "C"
    shape: ClassVar[tuple[str, ...]] = ("memory",)
    box: ClassVar[Mapping[str, tuple[float, float]]] = {"alpha": (0.1, 1.2), "memory": (20.0, 20_000.0)}
    flat: ClassVar[bool] = True
    parameters = (
        Parameter("L0", "loss at the end of all training, before any lowering of the rate", "nats", 0.0, np.inf, "log"),
        Parameter("A", "amplitude over the area under the rate", "nats·steps^alpha", 0.0, np.inf, "log"),
        Parameter("alpha", "exponent of the area under the rate", "", 1e-3, 4.0),
        Parameter("C", "loss that a unit of annealing area removes", "nats/steps", 0.0, np.inf, "log"),
        Parameter("memory", "1/(1 - lambda), steps over which a lowered rate pays", "steps", 2.0, 1e7, "log"),
    )

    @staticmethod
    def momentum(memory: float) -> float:
        """The authors' λ."""
        return 1.0 - 1.0 / memory

    def drop(self, p: Mapping[str, float], at: Sampled) -> tuple[Array, dict[str, Array]]:
        """See `ScheduleLaw.drop`."""
        change, memory = at.change[at.pair_node], p["memory"]
        log_momentum = np.log1p(-1.0 / memory)
        left = change * np.exp(at.pair_lag * log_momentum)
        area = at.total(change - left)
        # d λ^lag / d memory = lag λ^(lag−1) / memory².
        by_memory = area - at.total(left * at.pair_lag) / (memory - 1.0)
        return memory * area, {"memory": by_memory}
