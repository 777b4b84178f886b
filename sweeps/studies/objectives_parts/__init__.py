"""The parts of the study in the order they are trained and measured."""

from sweeps.studies.objectives_parts.causal_masked import PART as CAUSAL_MASKED
from sweeps.studies.objectives_parts.electra import PART as ELECTRA
from sweeps.studies.objectives_parts.mask_rate import PART as MASK_RATE
from sweeps.studies.objectives_parts.pairs import PART as PAIRS
from sweeps.studies.objectives_parts.sharing import PART as SHARING
from sweeps.studies.part import Part

PARTS: tuple[Part, ...] = (CAUSAL_MASKED, SHARING, MASK_RATE, ELECTRA, PAIRS)

__all__ = ["PARTS", "Part"]
