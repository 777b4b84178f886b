"""Multi-power law over schedules: L(t) = L0 + A S1^−alpha − B Σ_k (η_{k−1} − η_k) G(η_k^−gamma S_k(t)).

G(x) = 1 − (C x + 1)^−beta; S1 = Σ_{k≤t} η_k, S_k(t) = Σ_{j=k}^{t} η_j; Luo et al. 2025 (arXiv 2503.12811).
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
class MultiPower(ScheduleLaw):
    """Loss at any step of any schedule, from the rate of every step.

    The warmup counts as it was: its rises of the rate are changes of negative sign, as in the authors' code, whose
    constants are the instances (peak rate 3e-4, 2,160 steps of warmup). They hold for that model, text and batch only.
    """

    name: ClassVar[str] = "multi_power"
    summary: ClassVar[str] = "loss over whole learning-rate schedules, each lowering of the rate a power law of its own"
    source: ClassVar[str] = "Luo et al. 2025, arXiv 2503.12811"
    needs: ClassVar[str] = (
        "Whole loss curves with the rate of every step, of schedules that decay at different times: cosine and "
        "constant at least, better with a two-stage one."
    )
    misleads: ClassVar[str] = (
        "Amplitudes belong to one model, batch and optimizer. Fitted to a single schedule, the drop's parameters "
        "are not known and other schedules are guesses."
    )
    formula = "L = L0 + A S1^-alpha - B sum_k (lr_k-1 - lr_k) (1 - (1 + C lr_k^-gamma S_k)^-beta)"
    drop_amplitude: ClassVar[str] = "B"
    shape: ClassVar[tuple[str, ...]] = ("C", "beta", "gamma")
    box: ClassVar[Mapping[str, tuple[float, float]]] = {
        "alpha": (0.1, 1.2),
        "C": (0.05, 50.0),
        "beta": (0.1, 1.5),
        "gamma": (0.0, 1.2),
    }
    parameters = (
        Parameter("L0", "loss at the end of all training, before any lowering of the rate", "nats", 0.0, np.inf, "log"),
        Parameter("A", "amplitude over the area under the rate", "nats·steps^alpha", 0.0, np.inf, "log"),
        Parameter("alpha", "exponent of the area under the rate", "", 1e-3, 4.0),
        Parameter("B", "loss that lowering the rate by one unit would remove", "nats", 0.0, np.inf, "log"),
        Parameter("C", "how soon a lowered rate pays", "rate^gamma/steps", 1e-8, 1e8, "log"),
        Parameter("beta", "exponent of what a lowered rate has yet to pay", "", 1e-3, 10.0, "log"),
        Parameter("gamma", "exponent of the lowered rate", "", -1.0, 3.0),
    )
    instances: ClassVar[Mapping[str, Mapping[str, float]]] = {
        f"luo_2025_{size}": dict(zip(("L0", "A", "alpha", "B", "C", "beta", "gamma"), values, strict=True))
        for size, values in {
            "25m": (3.04045406, 0.52468604, 0.50786857, 363.78751622, 2.06560812, 0.58279013, 0.64142257),
            "100m": (2.6514477, 0.60115152, 0.45295811, 437.9464276, 2.13245612, 0.59785199, 0.65523644),
            "400m": (2.37474466, 0.65421216, 0.42878731, 523.42464371, 2.02462735, 0.59350493, 0.63472457),
        }.items()
    }

    def drop(self, p: Mapping[str, float], at: Sampled) -> tuple[Array, dict[str, Array]]:
        """See `ScheduleLaw.drop`."""
        node, change = at.pair_node, at.change[at.pair_node]
        beta, gamma = p["beta"], p["gamma"]
        x = (p["C"] * np.exp(-gamma * at.log_rate))[node] * at.pair_area
        log = np.log1p(x)
        left = change * np.exp(-beta * log)
        slope = beta * left * x / (1.0 + x)
        return at.total(change - left), {
            "beta": at.total(left * log),
            "C": at.total(slope) / p["C"],
            "gamma": -at.total(slope * at.log_rate[node]),
        }
