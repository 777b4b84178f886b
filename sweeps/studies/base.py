"""What a study states, and what a call of it may choose."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

DRAWS = {"smoke": 60, "toy": 1000, "full": 1000}
"""Bootstrap draws behind the intervals, by scale."""


@dataclass(frozen=True)
class Options:
    """One call: scale, folder, trials at once, whether without Ray, whether silent, seconds until leaving, parts.

    `parts` are those whose runs are made, of a study that has parts; all where none is named.
    """

    scale: str
    out: Path
    workers: int | None = None
    serial: bool = False
    quiet: bool = False
    seconds: float | None = None
    parts: tuple[str, ...] = ()

    @property
    def draws(self) -> int:
        """Bootstrap draws behind the intervals."""
        return DRAWS[self.scale]

    def say(self, text: str) -> None:
        """Prints a line unless silent."""
        if not self.quiet:
            print(text, flush=True)


class Study(ABC):
    """A published study: its sweeps, fits, figures and page."""

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    scales: ClassVar[tuple[str, ...]] = ("smoke", "toy", "full")
    parts: ClassVar[tuple[str, ...]] = ()
    """Parts that can be asked for by name; none of a study that is one whole."""

    @abstractmethod
    def reproduce(self, options: Options) -> dict[str, Any]:
        """Runs what is missing, fits, predicts, scores, draws, writes the page; returns what fits.json holds."""
