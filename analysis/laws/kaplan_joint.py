"""Kaplan's joint law: L = [(A N^−alpha)^(1/beta) + (B D^−beta)^(1/beta)]^beta; Kaplan et al. 2020 eq. 1.5.

In Kaplan's terms (arXiv 2001.08361) L = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D, with A = N_c^alpha_N, B =
D_c^alpha_D, alpha = alpha_N, beta = alpha_D. It tends to A N^−alpha for much data and to B D^−beta for large models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from analysis.laws.base import EXPONENT_BOUNDS, Array, Parameter
from analysis.laws.smooth import Derivatives, SmoothLaw


@dataclass(frozen=True)
class KaplanJoint(SmoothLaw):
    """N non-embedding parameters, D tokens, L nats per token of the early-stopped run."""

    name: ClassVar[str] = "kaplan_joint"
    summary: ClassVar[str] = "Kaplan's loss of size and data, L = [(A N^-alpha)^(1/beta) + (B D^-beta)^(1/beta)]^beta"
    source: ClassVar[str] = "Kaplan et al. 2020, arXiv 2001.08361"
    needs: ClassVar[str] = (
        "Runs stopped at their lowest held-out loss, sizes and amounts of data over two decades, some of them "
        "clearly short of data."
    )
    misleads: ClassVar[str] = (
        "There is no floor, so it fails near one; its published constants count non-embedding parameters and come"
        " from one fixed warmup and schedule, which moved its optimum far towards large models."
    )
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "params": (100000.0, 10000000000.0),
        "tokens": (100000000.0, 1000000000.0, 10000000000.0, 100000000000.0),
    }
    formula = "L = [(A N^-alpha)^(1/beta) + (B D^-beta)^(1/beta)]^beta"
    variables = ("params", "tokens")
    parameters = (
        Parameter("A", "amplitude over params, N_c^alpha", "nats·params^alpha", 0.0, np.inf, "log"),
        Parameter("alpha", "exponent of params, alpha_N", "", *EXPONENT_BOUNDS),
        Parameter("B", "amplitude over tokens, D_c^beta", "nats·tokens^beta", 0.0, np.inf, "log"),
        Parameter("beta", "exponent of tokens, alpha_D", "", *EXPONENT_BOUNDS),
    )
    pivots: ClassVar[Mapping[str, tuple[tuple[str, str, float], ...]]] = {
        "A": (("alpha", "params", -1.0),),
        "B": (("beta", "tokens", -1.0),),
    }
    instances: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "kaplan_2020": {"A": 6.4e13**0.076, "alpha": 0.076, "B": 1.8e13**0.103, "beta": 0.103},
    }

    def respond(self, p: Mapping[str, Any], x: Mapping[str, Any]) -> Derivatives:
        """See `SmoothLaw.respond`."""
        log_n, log_d, beta = np.log(x["params"]), np.log(x["tokens"]), p["beta"]
        size = (np.log(p["A"]) - p["alpha"] * log_n) / beta
        data = np.log(p["B"]) / beta - log_d
        top = np.maximum(np.real(size), np.real(data))
        total = top + np.log(np.exp(size - top) + np.exp(data - top))
        loss = np.exp(beta * total)
        by_size, by_data = np.exp(size - total), np.exp(data - total)
        return loss, {
            "A": loss * by_size / p["A"],
            "alpha": -loss * by_size * log_n,
            "B": loss * by_data / p["B"],
            "beta": loss * (total - by_size * size - by_data * (data + log_d)),
        }

    def box(self, response: Array, x: Mapping[str, Array]) -> Mapping[str, tuple[float, float]]:
        """Exponents of .02 to 1, and either term alone between a hundredth and all of the loss."""
        loss = float(np.exp(np.log(response).mean()))
        level = (loss / 100.0, loss * 1.2)
        return {"A": level, "B": level, "alpha": (0.02, 1.0), "beta": (0.02, 1.0)}
