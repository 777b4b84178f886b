"""Kaplan et al. 2020 (arXiv 2001.08361) at small scale: every relation of theirs that a small machine can show."""

from __future__ import annotations

from typing import ClassVar

from sweeps.studies.kaplan_parts import PARTS, Part
from sweeps.studies.parts import SWEEPS as SWEEPS
from sweeps.studies.parts import PartsStudy


class Kaplan(PartsStudy):
    """See the module."""

    name = "kaplan"
    summary = "loss by size, data, compute, steps, batch, shape, schedule and architecture, on real text"
    source = "Kaplan et al. 2020 (arXiv 2001.08361)"
    members: ClassVar[tuple[Part, ...]] = PARTS
    parts: ClassVar[tuple[str, ...]] = tuple(p.name for p in PARTS)
    first = "panels"
    template = "kaplan.md.jinja"
    compared = "Kaplan et al."


STUDY = Kaplan()
