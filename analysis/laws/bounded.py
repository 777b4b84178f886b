"""Bounded loss with overfitting: L = E + (L0 − E) h/(1 + h); Bryant and Liu 2026 (arXiv 2605.09189).

h = a N^−alpha + b D^−beta + c N^gamma U^−delta: too small a model, too little training, and too large a model for U
unique tokens. The loss stays between the floor E and L0, that of a model that has learnt nothing (ln of the vocabulary,
or the unigram entropy). Where h is small and U plentiful it is Hoffmann's law with A = (L0 − E) a, B = (L0 − E) b. The
form was checked against independent accounts of the paper, not against its text; it publishes no constants here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from analysis.laws.base import EXPONENT_BOUNDS, Array, Parameter
from analysis.laws.smooth import Derivatives, SmoothLaw


@dataclass(frozen=True)
class Bounded(SmoothLaw):
    """N parameters, D tokens seen, U unique tokens among them, L nats per token.

    U is at most D: a run that stops within its first pass has seen no more. While h is far below 1 everywhere, only
    (L0 − E) a, (L0 − E) b and (L0 − E) c can be told: L0 needs rows that have hardly learnt.
    """

    name: ClassVar[str] = "bounded"
    summary: ClassVar[str] = "loss of size, tokens and unique tokens between a floor and a ceiling, with overfitting"
    source: ClassVar[str] = "Bryant and Liu 2026, arXiv 2605.09189"
    needs: ClassVar[str] = (
        "As data_constrained, with models large enough to overfit, and some rows that have hardly learnt for the "
        "ceiling L0."
    )
    misleads: ClassVar[str] = (
        "Nine parameters: on fewer than some forty well spread runs several of them trade off freely. L0 is not "
        "told from the amplitudes while no row is near it."
    )
    example: ClassVar[Mapping[str, float]] = {
        "E": 1.7,
        "L0": 10.0,
        "a": 50.0,
        "alpha": 0.34,
        "b": 180.0,
        "beta": 0.33,
        "c": 0.2,
        "gamma": 0.6,
        "delta": 0.6,
    }
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "params": (10000000.0, 1000000000000.0),
        "unique_tokens": (1000000000.0, 10000000000.0, 100000000000.0),
        "tokens": (1000000000000.0,),
    }
    floor: ClassVar[str | None] = "E"
    formula = "L = E + (L0 - E) h/(1 + h), h = a N^-alpha + b D^-beta + c N^gamma U^-delta"
    variables = ("params", "tokens", "unique_tokens")
    parameters = (
        Parameter("E", "loss that neither size nor data removes", "nats", 0.0, np.inf, "log"),
        Parameter("L0", "loss of a model that has learnt nothing", "nats", 0.0, np.inf, "log"),
        Parameter("a", "amplitude of too small a model", "params^alpha", 0.0, np.inf, "log"),
        Parameter("alpha", "exponent of params", "", *EXPONENT_BOUNDS),
        Parameter("b", "amplitude of too little training", "tokens^beta", 0.0, np.inf, "log"),
        Parameter("beta", "exponent of tokens", "", *EXPONENT_BOUNDS),
        Parameter("c", "amplitude of overfitting", "params^-gamma·tokens^delta", 0.0, np.inf, "log"),
        Parameter("gamma", "exponent of params in overfitting", "", *EXPONENT_BOUNDS),
        Parameter("delta", "exponent of unique tokens in overfitting", "", *EXPONENT_BOUNDS),
    )
    amplitudes: ClassVar[tuple[str, ...]] = ("E", "L0")
    pivots: ClassVar[Mapping[str, tuple[tuple[str, str, float], ...]]] = {
        "a": (("alpha", "params", -1.0),),
        "b": (("beta", "tokens", -1.0),),
        "c": (("gamma", "params", 1.0), ("delta", "unique_tokens", -1.0)),
    }

    def respond(self, p: Mapping[str, Any], x: Mapping[str, Any]) -> Derivatives:
        """See `SmoothLaw.respond`."""
        log_n, log_d = np.log(x["params"]), np.log(x["tokens"])
        log_u = np.log(np.minimum(x["unique_tokens"], x["tokens"]))
        size, data = np.exp(-p["alpha"] * log_n), np.exp(-p["beta"] * log_d)
        over = np.exp(p["gamma"] * log_n - p["delta"] * log_u)
        h = p["a"] * size + p["b"] * data + p["c"] * over
        share = h / (1.0 + h)
        by_h = (p["L0"] - p["E"]) / (1.0 + h) ** 2
        return p["E"] + (p["L0"] - p["E"]) * share, {
            "E": 1.0 - share,
            "L0": share,
            "a": by_h * size,
            "alpha": -by_h * p["a"] * size * log_n,
            "b": by_h * data,
            "beta": -by_h * p["b"] * data * log_d,
            "c": by_h * over,
            "gamma": by_h * p["c"] * over * log_n,
            "delta": -by_h * p["c"] * over * log_u,
        }

    def box(self, response: Array, x: Mapping[str, Array]) -> Mapping[str, tuple[float, float]]:
        """Each term at the centre of the data between a thousandth and 3; exponents of .05 to 1.5."""
        level, exponent = (1e-3, 3.0), (0.05, 1.5)
        return {
            **dict.fromkeys(("a", "b", "c"), level),
            **dict.fromkeys(("alpha", "beta", "gamma", "delta"), exponent),
        }
