"""One exponent for size and data: L = E + A N^−alpha + B D^−alpha; Gadre et al. 2024 (arXiv 2403.08540).

Gadre et al. write L = E + a N^−eta' + b 6^(−eta'/2) (M N)^−eta' with M = D/N tokens per parameter, so that A = a,
B = b 6^(−eta'/2), alpha = eta'; along equal M the loss over the floor is a power of compute with exponent alpha/2, and
the best M is the same at every budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from analysis.laws.base import EXPONENT_BOUNDS, Array, Parameter
from analysis.laws.smooth import Derivatives, SmoothLaw


@dataclass(frozen=True)
class Tied(SmoothLaw):
    """N parameters, D tokens, L nats per token."""

    name: ClassVar[str] = "tied"
    summary: ClassVar[str] = "loss of size and data with one exponent, L = E + A N^-alpha + B D^-alpha"
    source: ClassVar[str] = "Gadre et al. 2024, arXiv 2403.08540"
    needs: ClassVar[str] = (
        "As chinchilla, at several ratios of tokens to parameters; the shared exponent is what makes few runs enough."
    )
    misleads: ClassVar[str] = (
        "It says that the best tokens per parameter are the same at every budget. Where the exponents differ it "
        "hides a drift of the optimum, and its narrow intervals are those of the wrong form."
    )
    example: ClassVar[Mapping[str, float]] = {"E": 1.7, "A": 300.0, "B": 900.0, "alpha": 0.31}
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "params": (1000000.0, 1000000000000.0),
        "tokens": (1000000000.0, 10000000000.0, 100000000000.0, 1000000000000.0),
    }
    floor: ClassVar[str | None] = "E"
    formula = "L = E + A N^-alpha + B D^-alpha"
    variables = ("params", "tokens")
    parameters = (
        Parameter("E", "loss that neither size nor data removes", "nats", 0.0, np.inf, "log"),
        Parameter("A", "amplitude over params", "nats·params^alpha", 0.0, np.inf, "log"),
        Parameter("B", "amplitude over tokens", "nats·tokens^alpha", 0.0, np.inf, "log"),
        Parameter("alpha", "exponent of params and of tokens", "", *EXPONENT_BOUNDS),
    )
    amplitudes: ClassVar[tuple[str, ...]] = ("E", "A", "B")
    pivots: ClassVar[Mapping[str, tuple[tuple[str, str, float], ...]]] = {
        "A": (("alpha", "params", -1.0),),
        "B": (("alpha", "tokens", -1.0),),
    }

    def respond(self, p: Mapping[str, Any], x: Mapping[str, Any]) -> Derivatives:
        """See `SmoothLaw.respond`."""
        log_n, log_d = np.log(x["params"]), np.log(x["tokens"])
        n, d = np.exp(-p["alpha"] * log_n), np.exp(-p["alpha"] * log_d)
        size, data = p["A"] * n, p["B"] * d
        return p["E"] + size + data, {"E": 1.0, "A": n, "B": d, "alpha": -size * log_n - data * log_d}

    def box(self, response: Array, x: Mapping[str, Array]) -> Mapping[str, tuple[float, float]]:
        """Exponents of .02 to 2."""
        return {"alpha": (0.02, 2.0)}

    def optimal_ratio(self, params: Mapping[str, Any]) -> Array:
        """Tokens per parameter at every compute-optimal point: (B/A)^(1/alpha)."""
        return np.asarray((np.asarray(params["B"]) / params["A"]) ** (1.0 / np.asarray(params["alpha"])))
