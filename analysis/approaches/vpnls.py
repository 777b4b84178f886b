"""Variable projection: the same surface by least squares on the loss, amplitudes as non-negative least squares.

Golub and Pereyra 1973 (SIAM J. Numer. Anal. 10:413); the grid over (alpha, beta) with amplitudes by NNLS gives the
basin, and exponents and amplitudes are then refined together to the same minimum.
"""

from __future__ import annotations

from typing import ClassVar

from analysis.approaches.surface import SurfaceApproach
from analysis.solve import Objective


class VariableProjection(SurfaceApproach):
    """The frontier of the surface fitted by least squares on the loss in nats; `vpnls:LAW` for another law."""

    name: ClassVar[str] = "vpnls"
    summary: ClassVar[str] = "variable projection: the surface E + A/N^alpha + B/D^beta by least squares on the loss"
    source: ClassVar[str] = "Golub and Pereyra 1973, SIAM J. Numer. Anal. 10:413"
    objective: ClassVar[Objective] = "ls"
