"""Critical batch size at a loss: B_crit = B L^(−1/alpha_B) tokens; Kaplan et al. 2020 (arXiv 2001.08361) eq. 1.4.

B_crit at a loss is E_min/S_min of the law `batch_trade_off`, fitted to runs that reach that loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from analysis.laws.base import Array, Parameter
from analysis.laws.smooth import Derivatives, SmoothLaw


@dataclass(frozen=True)
class CriticalBatch(SmoothLaw):
    """L nats per token; the response is a batch in tokens."""

    name: ClassVar[str] = "critical_batch"
    summary: ClassVar[str] = "critical batch size in tokens of the loss, B_crit = B L^(-1/alpha_B)"
    source: ClassVar[str] = "Kaplan et al. 2020, arXiv 2001.08361"
    needs: ClassVar[str] = (
        "Critical batches measured at several losses, each from runs to that loss at several batch sizes."
    )
    misleads: ClassVar[str] = (
        "It is read off where the noise scale is measured; with another optimizer, or with the learning rate not "
        "tuned for each batch, it changes."
    )
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {"loss": (1.5, 6.0)}
    response: ClassVar[str] = "batch_tokens"
    formula = "B_crit = B L^(-1/alpha_B)"
    variables = ("loss",)
    parameters = (
        Parameter("B", "critical batch at a loss of 1 nat", "tokens·nats^(1/alpha_B)", 0.0, np.inf, "log"),
        Parameter("alpha_B", "inverse of the exponent of the loss", "", 0.02, 10.0, "log"),
    )
    amplitudes: ClassVar[tuple[str, ...]] = ("B",)
    instances: ClassVar[Mapping[str, Mapping[str, float]]] = {"kaplan_2020": {"B": 2.1e8, "alpha_B": 0.21}}

    def respond(self, p: Mapping[str, Any], x: Mapping[str, Any]) -> Derivatives:
        """See `SmoothLaw.respond`."""
        log_loss = np.log(x["loss"])
        unit = np.exp(-log_loss / p["alpha_B"])
        return p["B"] * unit, {"B": unit, "alpha_B": p["B"] * unit * log_loss / p["alpha_B"] ** 2}

    def box(self, response: Array, x: Mapping[str, Array]) -> Mapping[str, tuple[float, float]]:
        """Exponents 1/alpha_B of 1/3 to 25."""
        return {"alpha_B": (0.04, 3.0)}
