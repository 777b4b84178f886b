"""Repeated data: L = E + A N'^−alpha + B D'^−beta; Muennighoff et al. 2023 (arXiv 2305.16264) eqs. 5 and 6.

D' = U_D + U_D R_D (1 − e^(−(D/U_D − 1)/R_D)), U_D = min(unique tokens, D): a token seen again is worth less, about
R_D repetitions in all. N' likewise from U_N = min(N, N_opt(U_D)): parameters beyond N_opt(U_D) = (alpha A/(beta B))^
(1/alpha) U_D^(beta/alpha), the size for which U_D is compute-optimal by the same E, A, B, alpha, beta, are worth less.
Where the tokens are unique and N is at most N_opt(D), it is Hoffmann's law.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp
from typing import Any, ClassVar

import numpy as np

from analysis.laws.base import EXPONENT_BOUNDS, Array, Parameter
from analysis.laws.smooth import Derivatives, SmoothLaw

_RATIO = 20.0
"""Tokens per parameter that stand in for N_opt while starts are looked for."""


@dataclass(frozen=True)
class DataConstrained(SmoothLaw):
    """N parameters, D tokens seen, U unique tokens among them, L nats per token."""

    name: ClassVar[str] = "data_constrained"
    summary: ClassVar[str] = (
        "loss of size, tokens and unique tokens: repeated tokens and excess parameters decay in worth"
    )
    source: ClassVar[str] = "Muennighoff et al. 2023, arXiv 2305.16264"
    needs: ClassVar[str] = (
        "Unique tokens fixed at several levels, each repeated from one to tens of epochs at several sizes; rows "
        "with no repetition fix the rest."
    )
    misleads: ClassVar[str] = (
        "Its penalty never turns the loss upwards, so it cannot show overfitting. R_D is known only if some runs "
        "repeat more than R_D times; without repeated rows it is chinchilla with two parameters too many."
    )
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "tokens": (10000000000.0, 30000000000000.0),
        "unique_tokens": (10000000000.0, 100000000000.0, 1000000000000.0),
        "params": (3000000000.0,),
    }
    floor: ClassVar[str | None] = "E"
    formula = "L = E + A N'^-alpha + B D'^-beta, D' = U (1 + R_D (1 - e^(-(D/U - 1)/R_D))), N' alike with N_opt(U)"
    variables = ("params", "tokens", "unique_tokens")
    parameters = (
        Parameter("E", "loss that neither size nor data removes", "nats", 0.0, np.inf, "log"),
        Parameter("A", "amplitude over effective params", "nats·params^alpha", 0.0, np.inf, "log"),
        Parameter("alpha", "exponent of effective params", "", *EXPONENT_BOUNDS),
        Parameter("B", "amplitude over effective tokens", "nats·tokens^beta", 0.0, np.inf, "log"),
        Parameter("beta", "exponent of effective tokens", "", *EXPONENT_BOUNDS),
        Parameter("R_N", "worth of parameters beyond N_opt(U), in multiples of N_opt(U)", "", 1e-2, 1e4, "log"),
        Parameter("R_D", "worth of repeated tokens, in multiples of U", "", 1e-2, 1e4, "log"),
    )
    amplitudes: ClassVar[tuple[str, ...]] = ("E", "A", "B")
    pivots: ClassVar[Mapping[str, tuple[tuple[str, str, float], ...]]] = {
        "A": (("alpha", "params", -1.0),),
        "B": (("beta", "tokens", -1.0),),
    }
    instances: ClassVar[Mapping[str, Mapping[str, float]]] = {
        # One exponent for both, hence N_opt(U) = U/19.6; C4, GPT-2 tokenizer, dropout and weight decay of .1.
        "muennighoff_2023": {
            "E": exp(0.6254804),
            "A": exp(6.255414),
            "alpha": 0.3526596,
            "B": exp(7.3049974),
            "beta": 0.3526596,
            "R_N": 5.309743,
            "R_D": 15.387756,
        }
    }

    def respond(self, p: Mapping[str, Any], x: Mapping[str, Any]) -> Derivatives:
        """See `SmoothLaw.respond`."""
        alpha, beta = p["alpha"], p["beta"]
        log_u = np.log(np.minimum(x["unique_tokens"], x["tokens"]))
        log_best = (np.log(alpha * p["A"] / (beta * p["B"])) + beta * log_u) / alpha
        beyond = np.real(log_best) < np.log(x["params"])
        unit = np.where(beyond, np.exp(log_best), x["params"])
        n, n_by_unit, n_by_r = _worth(x["params"], unit, p["R_N"])
        d, _, d_by_r = _worth(x["tokens"], np.exp(log_u), p["R_D"])
        log_n, log_d = np.log(n), np.log(d)
        by_a, by_b = np.exp(-alpha * log_n), np.exp(-beta * log_d)
        size, data = p["A"] * by_a, p["B"] * by_b
        by_n = -alpha * size / n
        # Through N_opt: the loss by ln U_N, and ln U_N by each parameter, where it is N_opt.
        by_best = np.where(beyond, by_n * n_by_unit * unit, 0.0)
        return p["E"] + size + data, {
            "E": 1.0,
            "A": by_a + by_best / (alpha * p["A"]),
            "alpha": -size * log_n + by_best * (1.0 / alpha - log_best) / alpha,
            "B": by_b - by_best / (alpha * p["B"]),
            "beta": -data * log_d + by_best * (log_u - 1.0 / beta) / alpha,
            "R_N": by_n * n_by_r,
            "R_D": -beta * data / d * d_by_r,
        }

    def linear(self, p: Mapping[str, Any], x: Mapping[str, Any]) -> tuple[Any, list[Any]]:
        """With N_opt(U) = U/20, which frees it of the amplitudes."""
        unique = np.minimum(x["unique_tokens"], x["tokens"])
        n, _, _ = _worth(x["params"], np.minimum(x["params"], unique / _RATIO), p["R_N"])
        d, _, _ = _worth(x["tokens"], unique, p["R_D"])
        return np.zeros(1), [np.ones(1), n ** -p["alpha"], d ** -p["beta"]]

    def box(self, response: Array, x: Mapping[str, Array]) -> Mapping[str, tuple[float, float]]:
        """Exponents of .05 to 1, repetitions of .5 to 100."""
        return {"alpha": (0.05, 1.0), "beta": (0.05, 1.0), "R_N": (0.5, 100.0), "R_D": (0.5, 100.0)}


def _worth(total: Any, unit: Any, r: Any) -> tuple[Any, Any, Any]:
    """unit (1 + r (1 − e^(−(total/unit − 1)/r))), and its derivatives by `unit` and by `r`."""
    again = total / unit - 1.0
    left = np.exp(-again / r)
    gone = -np.expm1(-again / r)
    return unit * (1.0 + r * gone), 1.0 + r * gone - left * (1.0 + again), unit * (gone - left * again / r)
