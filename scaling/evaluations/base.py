"""What every evaluation states: which runs it serves, what it measures of one, and the settings that name it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from scaling.errors import InputError
from scaling.spec import Member, canonical

if TYPE_CHECKING:
    from scaling.evaluations.subject import Subject
    from scaling.trial import Trial


class Unserved(InputError):
    """An evaluation says nothing about a run; the message is the reason and the mend."""


class Point(NamedTuple):
    """One measured value: a metric, its standard error and the items behind it, at `x` where there are several."""

    metric: str
    value: float
    se: float | None = None
    n: int | None = None
    x: float | None = None


class Evaluation(Member):
    """A measurement of a trained model; its fields are its settings."""

    version: ClassVar[int] = 1
    """Raised when the same settings would give other values; every run is then measured again."""

    def prepare(self) -> None:
        """Looks at what the settings name (files, corpora) before any run is measured.

        Raises:
            InputError: it is missing or not what it should be.
        """

    def identity(self) -> dict[str, Any]:
        """The settings that a stored measurement is known by: those that differ from their defaults, and the type."""
        found: dict[str, Any] = canonical(self)
        return found

    def serves(self, trial: Trial) -> str | None:
        """None where a run of this trial can be measured, else the reason."""
        return None

    @abstractmethod
    def measure(self, subject: Subject) -> list[Point]:
        """What the evaluation finds of one run.

        Raises:
            Unserved: nothing can be said of this run.
        """
