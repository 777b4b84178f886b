"""Steps against batch at one loss: S = S_min (1 + B_crit/B); McCandlish et al. 2018 (arXiv 1812.06162).

With E = B S examples (here tokens) it is the hyperbola (S/S_min − 1)(E/E_min − 1) = 1 of time and compute, E_min =
B_crit S_min; Kaplan et al. 2020 (arXiv 2001.08361) eq. 5.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from analysis.laws.base import Array, Parameter
from analysis.laws.smooth import Derivatives, SmoothLaw


@dataclass(frozen=True)
class BatchTradeOff(SmoothLaw):
    """B tokens a step; the response is the number of steps to the loss that all rows share."""

    name: ClassVar[str] = "batch_trade_off"
    summary: ClassVar[str] = "steps to one fixed loss of the batch, S = S_min (1 + B_crit/B)"
    source: ClassVar[str] = "McCandlish et al. 2018, arXiv 1812.06162"
    needs: ClassVar[str] = (
        "Steps to one and the same loss at five or more batch sizes on both sides of the critical one, each with "
        "its own tuned learning rate."
    )
    misleads: ClassVar[str] = (
        "With the learning rate left alone the curve is that of the rate. Far below the critical batch only the "
        "product of the two parameters can be told."
    )
    example: ClassVar[Mapping[str, float]] = {"S_min": 5000.0, "B_crit": 2000000.0}
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {"batch_tokens": (30000.0, 100000000.0)}
    response: ClassVar[str] = "steps"
    formula = "S = S_min (1 + B_crit/B)"
    variables = ("batch_tokens",)
    parameters = (
        Parameter("S_min", "steps with a batch without bound", "steps", 0.0, np.inf, "log"),
        Parameter(
            "B_crit", "batch at which steps are twice S_min and tokens twice E_min", "tokens", 0.0, np.inf, "log"
        ),
    )
    amplitudes: ClassVar[tuple[str, ...]] = ("S_min",)

    def respond(self, p: Mapping[str, Any], x: Mapping[str, Any]) -> Derivatives:
        """See `SmoothLaw.respond`."""
        more = 1.0 + p["B_crit"] / x["batch_tokens"]
        return p["S_min"] * more, {"S_min": more, "B_crit": p["S_min"] / x["batch_tokens"]}

    def box(self, response: Array, x: Mapping[str, Array]) -> Mapping[str, tuple[float, float]]:
        """A critical batch within a factor of 100 of the batches."""
        batch = x["batch_tokens"]
        return {"B_crit": (float(batch.min()) / 100.0, float(batch.max()) * 100.0)}

    @staticmethod
    def minimal(params: Mapping[str, Any], steps: ArrayLike, batch_tokens: ArrayLike) -> tuple[Array, Array]:
        """S_min and E_min (tokens) of a run of so many steps at a batch, by its critical batch.

        S_min = S/(1 + B_crit/B), E_min = B S/(1 + B/B_crit); Kaplan et al. 2020 eqs. 5.4 and 5.5.
        """
        ratio = np.asarray(params["B_crit"], dtype=np.float64) / np.asarray(batch_tokens, dtype=np.float64)
        s, e = np.asarray(steps, dtype=np.float64), np.asarray(steps, dtype=np.float64) * np.asarray(batch_tokens)
        return s / (1.0 + ratio), e / (1.0 + 1.0 / ratio)
