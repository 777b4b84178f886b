"""The parts of the study in the order they are trained and measured."""

from sweeps.studies.kaplan_parts.base import Part
from sweeps.studies.objectives_parts.causal_masked import PART as CAUSAL_MASKED
from sweeps.studies.objectives_parts.sharing import PART as SHARING

PARTS: tuple[Part, ...] = (CAUSAL_MASKED, SHARING)

__all__ = ["PARTS", "Part"]
