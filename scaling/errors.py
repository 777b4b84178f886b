"""Typed errors: bad input is one clear line, and the command line turns each into an exit status."""

from __future__ import annotations

from dataclasses import dataclass


class ScalingError(Exception):
    """Base of every error this project raises on purpose; `exit_status` is what the command line returns."""

    exit_status = 2


class InputError(ScalingError):
    """The user's input is wrong; the message names the place and the mend."""


class CorpusError(InputError):
    """A corpus cannot be read, is empty, is not text where text is promised, or is too short."""


class TableError(InputError):
    """A table of runs lacks a column or holds a value that cannot be fitted; rows are named."""


class StoreError(InputError):
    """A store cannot be opened: not a store, read-only, or of a newer version."""


class DiskError(StoreError):
    """A store cannot be written: disk full, over quota or over a size limit. No trial's fault, so it ends a sweep."""


class Interrupted(ScalingError):
    """The user or the system asked to stop; work in hand was checkpointed."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


@dataclass(frozen=True)
class Problem:
    """One mistake in a text file: where it is (1-based line and column), which field, what is wrong."""

    file: str
    line: int
    column: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column} {self.field}: {self.message}"


class SweepError(InputError):
    """A sweep definition is wrong; carries every problem found, in file order."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda p: (p.line, p.column))
        super().__init__("\n".join(str(p) for p in self.problems))
