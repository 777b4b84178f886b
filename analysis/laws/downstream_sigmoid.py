"""Downstream error of loss, a sigmoid between two levels: error = low + (high − low)/(1 + exp(−k (L − L0))).

As accuracy = a/(1 + exp(−k (L − L0))) + b in Bhagia et al. 2024 (arXiv 2412.04403).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from analysis.laws.base import Array, Parameter
from analysis.laws.smooth import Derivatives, SmoothLaw


@dataclass(frozen=True)
class DownstreamSigmoid(SmoothLaw):
    """One task's error, of a loss in nats, best of the task's own answers; bounded, unlike the exponential form.

    high is the error of chance and low the least there is. Far above L0 it is the exponential form, with eps = high,
    gamma = k. Points on one side of L0 do not tell the level of the other side, and the fit then says so.
    """

    name: ClassVar[str] = "downstream_sigmoid"
    summary: ClassVar[str] = "downstream error of loss, a sigmoid between chance and the least error"
    source: ClassVar[str] = "Bhagia et al. 2024, arXiv 2412.04403"
    needs: ClassVar[str] = "Loss and error on both sides of the half-way loss, down to near the least error."
    misleads: ClassVar[str] = (
        "Points on one side do not know the other side's level: a curve fitted near chance puts its least error "
        "anywhere."
    )
    example: ClassVar[Mapping[str, float]] = {"low": 0.08, "high": 0.75, "k": 4.0, "L0": 2.6}
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {"loss": (1.5, 4.5)}
    response: ClassVar[str] = "error"
    formula = "error = low + (high - low) / (1 + exp(-k (L - L0)))"
    variables = ("loss",)
    parameters = (
        Parameter("low", "error where the loss is small", "", 0.0, np.inf, "log"),
        Parameter("high", "error where the loss is large", "", 0.0, np.inf, "log"),
        Parameter("k", "steepness", "nats^-1", 1e-2, 1e3, "log"),
        Parameter("L0", "loss half-way between the levels", "nats", 0.0, 100.0),
    )
    amplitudes: ClassVar[tuple[str, ...]] = ("low", "high")

    def respond(self, p: Mapping[str, Any], x: Mapping[str, Any]) -> Derivatives:
        """See `SmoothLaw.respond`."""
        above = x["loss"] - p["L0"]
        rise = 0.5 + 0.5 * np.tanh(0.5 * p["k"] * above)  # the sigmoid, without overflow
        slope = (p["high"] - p["low"]) * rise * (1.0 - rise)
        return p["low"] + (p["high"] - p["low"]) * rise, {
            "low": 1.0 - rise,
            "high": rise,
            "k": slope * above,
            "L0": -slope * p["k"],
        }

    def box(self, response: Array, x: Mapping[str, Array]) -> Mapping[str, tuple[float, float]]:
        """See `SmoothLaw.box`."""
        low, high = float(x["loss"].min()), float(x["loss"].max())
        spread = max(high - low, 1e-3)
        return {"k": (1.0 / spread, 50.0 / spread), "L0": (max(low - 0.5 * spread, 1e-3), high + 0.5 * spread)}
