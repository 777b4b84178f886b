"""Downstream error of loss: error = eps − k exp(−gamma L); Gadre et al. 2024 (arXiv 2403.08540) eq. 5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from analysis.laws.base import Array, Parameter
from analysis.laws.smooth import Derivatives, SmoothLaw


@dataclass(frozen=True)
class Downstream(SmoothLaw):
    """Mean top-1 error over tasks, of the validation loss L in nats; fit it with `objective="ls"`, as its authors do.

    eps is the error of a model without skill, near that of chance, and k exp(−gamma L) a power of perplexity. The law
    says nothing far below the lowest loss it was fitted to: it crosses 0 at L = ln(k/eps)/gamma. The instances, by
    training set, give the mean error over 17 tasks from the loss on C4; they are refitted from the authors' runs.
    """

    name: ClassVar[str] = "downstream"
    summary: ClassVar[str] = "downstream error of loss, exponential, error = eps - k exp(-gamma L)"
    source: ClassVar[str] = "Gadre et al. 2024, arXiv 2403.08540"
    needs: ClassVar[str] = (
        "Loss and error of models over the whole range from chance to the best, on tasks averaged together, with "
        "the loss on one fixed text."
    )
    misleads: ClassVar[str] = (
        "Below the loss where a task starts to move the error is flat, and points from there say nothing of "
        "gamma; single tasks are noisy, and the error has no floor of its own."
    )
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {"loss": (1.8, 4.5)}
    response: ClassVar[str] = "error"
    formula = "error = eps - k exp(-gamma L)"
    variables = ("loss",)
    parameters = (
        Parameter("eps", "error where the loss is large", "", 0.0, np.inf, "log"),
        Parameter("k", "error removed, carried to a loss of 0", "", 0.0, np.inf, "log"),
        Parameter("gamma", "how fast error falls with loss", "nats^-1", 1e-3, 50.0, "log"),
    )
    instances: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "gadre_2024_c4": {"eps": 0.850, "k": 2.08, "gamma": 0.756},
        "gadre_2024_redpajama": {"eps": 0.857, "k": 2.21, "gamma": 0.715},
        "gadre_2024_refinedweb": {"eps": 0.865, "k": 2.21, "gamma": 0.707},
    }
    amplitudes: ClassVar[tuple[str, ...]] = ("eps", "k")

    def respond(self, p: Mapping[str, Any], x: Mapping[str, Any]) -> Derivatives:
        """See `SmoothLaw.respond`."""
        gain = np.exp(-p["gamma"] * x["loss"])
        return p["eps"] - p["k"] * gain, {
            "eps": np.ones_like(gain + p["eps"]),
            "k": -gain,
            "gamma": p["k"] * x["loss"] * gain,
        }

    def box(self, response: Array, x: Mapping[str, Array]) -> Mapping[str, tuple[float, float]]:
        """See `SmoothLaw.box`."""
        spread = max(float(np.ptp(x["loss"])), 1e-3)
        return {"gamma": (0.02 / spread, 20.0 / spread)}
