"""The parts of the study in the order they are trained and measured; later ones use what earlier ones found."""

from sweeps.studies.kaplan_parts.batch import PART as BATCH
from sweeps.studies.kaplan_parts.compute import PART as COMPUTE
from sweeps.studies.kaplan_parts.data import PART as DATA
from sweeps.studies.kaplan_parts.efficiency import PART as EFFICIENCY
from sweeps.studies.kaplan_parts.lstm import PART as LSTM
from sweeps.studies.kaplan_parts.panels import PART as PANELS
from sweeps.studies.kaplan_parts.rates import PART as RATES
from sweeps.studies.kaplan_parts.schedules import PART as SCHEDULES
from sweeps.studies.kaplan_parts.second_corpus import PART as SECOND_CORPUS
from sweeps.studies.kaplan_parts.shape import PART as SHAPE
from sweeps.studies.kaplan_parts.sizes import PART as SIZES
from sweeps.studies.kaplan_parts.steps import PART as STEPS
from sweeps.studies.part import Part

PARTS: tuple[Part, ...] = (
    SIZES, DATA, BATCH, STEPS, COMPUTE, EFFICIENCY, SHAPE, LSTM, RATES, SCHEDULES, SECOND_CORPUS, PANELS,
)  # fmt: skip

__all__ = ["PARTS", "Part"]
