"""The parts of the study in the order of the page."""

from sweeps.studies.frontier_parts.decoder import PART as DECODER
from sweeps.studies.frontier_parts.encoder import PART as ENCODER
from sweeps.studies.frontier_parts.predictions import PART as PREDICTIONS
from sweeps.studies.kaplan_parts.base import Part

PARTS: tuple[Part, ...] = (DECODER, ENCODER, PREDICTIONS)

__all__ = ["PARTS", "Part"]
