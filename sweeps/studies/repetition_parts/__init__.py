"""The parts of the study in the order they are trained and measured; the worth is set beside the law's."""

from sweeps.studies.part import Part
from sweeps.studies.repetition_parts.forms import PART as FORMS
from sweeps.studies.repetition_parts.law import PART as LAW
from sweeps.studies.repetition_parts.worth import PART as WORTH

PARTS: tuple[Part, ...] = (LAW, WORTH, FORMS)

__all__ = ["PARTS", "Part"]
