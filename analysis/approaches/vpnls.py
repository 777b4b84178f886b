"""Variable projection: the same surface by least squares on the loss, amplitudes as non-negative least squares.

Golub and Pereyra 1973 (SIAM J. Numer. Anal. 10:413); the grid over (alpha, beta) with amplitudes by NNLS gives the
basin, and exponents and amplitudes are then refined together to the same minimum.
"""

from __future__ import annotations

from typing import ClassVar

from analysis.approaches.base import Approach, Task
from analysis.approaches.surface import surface_frontier
from analysis.types import Frontier


class VariableProjection(Approach):
    """The frontier of the surface fitted by least squares on the loss in nats."""

    name: ClassVar[str] = "vpnls"
    summary: ClassVar[str] = "variable projection: the surface E + A/N^alpha + B/D^beta by least squares on the loss"
    source: ClassVar[str] = "Golub and Pereyra 1973, SIAM J. Numer. Anal. 10:413"

    def frontier(self, task: Task) -> Frontier:
        """See `Approach.frontier`."""
        return surface_frontier(self, task, "ls")
