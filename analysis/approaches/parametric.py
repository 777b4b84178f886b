"""Approach 3: L = E + A N^−alpha + B D^−beta by Huber loss on ln L; Hoffmann et al. 2022 (arXiv 2203.15556) §3.3."""

from __future__ import annotations

from typing import ClassVar

from analysis.approaches.surface import SurfaceApproach
from analysis.solve import Objective


class Parametric(SurfaceApproach):
    """The frontier of the surface fitted with Huber's loss, delta 1e-3, summed; `parametric:LAW` for another law."""

    name: ClassVar[str] = "parametric"
    summary: ClassVar[str] = "approach 3: the surface E + A/N^alpha + B/D^beta by Huber loss on log loss"
    source: ClassVar[str] = "Hoffmann et al. 2022, arXiv 2203.15556, §3.3"
    objective: ClassVar[Objective] = "huber_log"
