"""Kaplan's rule of thumb for the learning rate: lr = a − b ln N; Kaplan et al. 2020 (arXiv 2001.08361) app. D.6."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from analysis.laws.base import Array, Parameter
from analysis.laws.smooth import Derivatives, SmoothLaw


@dataclass(frozen=True)
class LearningRateLog(SmoothLaw):
    """N non-embedding parameters; the rule falls to 0 at N = exp(a/b), 1.2e10 with the published constants.

    The constants, and that the logarithm is natural, were confirmed in third-party code only.
    """

    name: ClassVar[str] = "learning_rate_log"
    summary: ClassVar[str] = (
        "Kaplan's learning rate, falling with the logarithm of size (constants from a secondary source)"
    )
    source: ClassVar[str] = "Kaplan et al. 2020, arXiv 2001.08361"
    needs: ClassVar[str] = "Best learning rates at several sizes over two decades."
    misleads: ClassVar[str] = (
        "It turns negative: beyond N = exp(a/b) there is no learning rate. Its published constants are for one "
        "early recipe."
    )
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {"params": (10000.0, 1000000000.0)}
    response: ClassVar[str] = "lr"
    formula = "lr = a - b ln N"
    variables = ("params",)
    parameters = (
        Parameter("a", "rate of one parameter", "", 0.0, np.inf, "log"),
        Parameter("b", "fall of the rate as size grows e-fold", "", 0.0, np.inf, "log"),
    )
    instances: ClassVar[Mapping[str, Mapping[str, float]]] = {"kaplan_2020": {"a": 0.003239, "b": 0.0001395}}
    amplitudes: ClassVar[tuple[str, ...]] = ("a", "b")

    def respond(self, p: Mapping[str, Any], x: Mapping[str, Any]) -> Derivatives:
        """See `SmoothLaw.respond`."""
        log_n = np.log(x["params"])
        return p["a"] - p["b"] * log_n, {"a": np.ones_like(log_n + p["a"]), "b": -log_n + 0.0 * p["b"]}

    def box(self, response: Array, x: Mapping[str, Array]) -> Mapping[str, tuple[float, float]]:
        """See `SmoothLaw.box`; both parameters are amplitudes."""
        return {}
