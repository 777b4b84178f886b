"""The parts of the study in the order of the page."""

from sweeps.studies.frontier_parts.collapse import PART as COLLAPSE
from sweeps.studies.frontier_parts.decoder import PART as DECODER
from sweeps.studies.frontier_parts.encoder import PART as ENCODER
from sweeps.studies.frontier_parts.encoder_bytes import PART as BYTES
from sweeps.studies.frontier_parts.one_depth import PART as ONE_DEPTH
from sweeps.studies.frontier_parts.predictions import PART as PREDICTIONS
from sweeps.studies.frontier_parts.trunks import PART as TRUNKS
from sweeps.studies.frontier_parts.tuning import PARTS as TUNING
from sweeps.studies.part import Part

PARTS: tuple[Part, ...] = (DECODER, ONE_DEPTH, ENCODER, BYTES, PREDICTIONS, COLLAPSE, *TUNING, TRUNKS)

__all__ = ["PARTS", "Part"]
