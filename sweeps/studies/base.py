"""What a study states, and what a call of it may choose."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from sweeps.definition import Sweep

DRAWS = {"smoke": 60, "toy": 1000, "full": 1000}
"""Bootstrap draws behind the intervals, by scale."""


@dataclass(frozen=True)
class Options:
    """One call: scale, folder, trials at once, whether without Ray, whether silent, seconds until leaving, parts.

    `parts` are those whose runs are made, of a study that has parts; all where none is named, and where `train` is
    False none: the page is of the runs that are there.
    """

    scale: str
    out: Path
    workers: int | None = None
    serial: bool = False
    quiet: bool = False
    seconds: float | None = None
    parts: tuple[str, ...] = ()
    train: bool = True

    @property
    def draws(self) -> int:
        """Bootstrap draws behind the intervals."""
        return DRAWS[self.scale]

    def say(self, text: str) -> None:
        """Prints a line unless silent."""
        if not self.quiet:
            print(text, flush=True)


@dataclass(frozen=True)
class Section:
    """A part of a study, or what stands for one, in the order of training."""

    part: str
    sweeps: tuple[Sweep, ...]
    later: tuple[float, ...] = ()
    """FLOPs of runs whose size a forecast has yet to choose."""


class Study(ABC):
    """A published study: its sweeps, fits, figures and page."""

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    scales: ClassVar[tuple[str, ...]] = ("smoke", "toy", "full")
    parts: ClassVar[tuple[str, ...]] = ()
    """Parts that can be asked for by name; none of a study that is one whole."""

    @abstractmethod
    def ahead(self, options: Options, store: Path) -> list[Section]:
        """What `reproduce` would train, in that order; sweep files that the folder lacks are put there."""

    @abstractmethod
    def reproduce(self, options: Options) -> dict[str, Any]:
        """Runs what is missing, fits, predicts, scores, draws, writes the page; returns what fits.json holds."""


def launch(sweeps: Sequence[Sweep], options: Options, seconds: float | None) -> bool:
    """Runs what is missing of some sweeps, together; False where time ran out first."""
    from sweeps.run import run_sweeps

    if seconds is not None and seconds <= 0:
        return False
    outcomes = run_sweeps(
        sweeps,
        options.out / "store",
        workers=options.workers,
        serial=options.serial,
        quiet=options.quiet,
        seconds=seconds,
        compile_trials=False if options.scale == "smoke" else None,
    )
    return not any(o.drained for o in outcomes)
