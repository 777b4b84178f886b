"""Approach 3: L = E + A N^−alpha + B D^−beta by Huber loss on ln L; Hoffmann et al. 2022 (arXiv 2203.15556) §3.3."""

from __future__ import annotations

from typing import ClassVar

from analysis.approaches.base import Approach, Task
from analysis.approaches.surface import surface_frontier
from analysis.types import Frontier


class Parametric(Approach):
    """The frontier of the surface fitted with Huber's loss, delta 1e-3, summed."""

    name: ClassVar[str] = "parametric"
    summary: ClassVar[str] = "approach 3: the surface E + A/N^alpha + B/D^beta by Huber loss on log loss"
    source: ClassVar[str] = "Hoffmann et al. 2022, arXiv 2203.15556, §3.3"

    def frontier(self, task: Task) -> Frontier:
        """See `Approach.frontier`."""
        return surface_frontier(self, task, "huber_log")
