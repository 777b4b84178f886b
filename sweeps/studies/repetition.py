"""Repeated text, Muennighoff et al. 2023 (arXiv 2305.16264), at small scale: unique tokens × epochs, and fresh text."""

from __future__ import annotations

from typing import ClassVar

from sweeps.studies.part import Part
from sweeps.studies.parts import PartsStudy
from sweeps.studies.repetition_parts import PARTS


class RepetitionStudy(PartsStudy):
    """See the module."""

    name = "repetition"
    summary = "what a token is worth when it is seen again: unique text × epochs, against fresh text of equal loss"
    source = "Muennighoff et al. 2023 (arXiv 2305.16264)"
    members: ClassVar[tuple[Part, ...]] = PARTS
    parts: ClassVar[tuple[str, ...]] = tuple(p.name for p in PARTS)
    first = "worth"
    template = "repetition.md.jinja"
    compared = "Muennighoff et al."


STUDY = RepetitionStudy()
