"""The parts of the study in the order they are trained and measured."""

from sweeps.studies.gap_parts.chain import PART as CHAIN
from sweeps.studies.gap_parts.counting import PART as COUNTING
from sweeps.studies.gap_parts.interactions import PART as INTERACTIONS
from sweeps.studies.part import Part

PARTS: tuple[Part, ...] = (CHAIN, COUNTING, INTERACTIONS)

__all__ = ["PARTS", "Part"]
