"""Objectives at equal compute, on our own runs: one isoFLOP design over causal, masked and other objectives.

Each objective's batch and rate are asked for apart. Losses of different objectives stand on different axes: where they
are compared it is by exponents, tokens per parameter, or a metric measured from the kept weights of both.
"""

from __future__ import annotations

from typing import ClassVar

from sweeps.studies.objectives_parts import PARTS
from sweeps.studies.part import Part
from sweeps.studies.parts import PartsStudy


class Objectives(PartsStudy):
    """See the module."""

    name = "objectives"
    summary = "causal against masked, mask rates, replaced tokens, shared layers and pair objectives at equal compute"
    source = (
        "Cheng et al. 2024 (arXiv 2411.02142); Wettig et al. 2022 (arXiv 2202.08005); Clark et al. 2020 (arXiv"
        " 2003.10555); Lan et al. 2019 (arXiv 1909.11942)"
    )
    members: ClassVar[tuple[Part, ...]] = PARTS
    parts: ClassVar[tuple[str, ...]] = tuple(p.name for p in PARTS)
    first = "causal_masked"
    template = "objectives.md.jinja"
    compared = "published"


STUDY = Objectives()
