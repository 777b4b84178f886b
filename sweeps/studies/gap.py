"""Why Kaplan's and Hoffmann's exponents differ, on our own runs: one protocol turned into the other, factor by factor.

Porian et al. 2024 (arXiv 2406.19146) walked from .835 to .497 by counting the head, shortening the warmup, matching the
decay and tuning; Pearce and Song 2024 (arXiv 2406.12907) put it down to counting at small scale. Both are asked here.
"""

from __future__ import annotations

from typing import ClassVar

from sweeps.studies.gap_parts import PARTS
from sweeps.studies.part import Part
from sweeps.studies.parts import PartsStudy


class Gap(PartsStudy):
    """See the module."""

    name = "gap"
    summary = "from Kaplan's exponent of the best size to the tuned one, one factor of the protocol at a time"
    source = "Porian et al. 2024 (arXiv 2406.19146); Pearce and Song 2024 (arXiv 2406.12907)"
    members: ClassVar[tuple[Part, ...]] = PARTS
    parts: ClassVar[tuple[str, ...]] = tuple(p.name for p in PARTS)
    first = "chain"
    template = "gap.md.jinja"
    compared = "published"


STUDY = Gap()
