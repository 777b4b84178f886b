"""What a part of the study is: a question, the sweeps that answer it, and the numbers and figures made of their rows.

Nothing is typed by hand: every number of the page is a `Number`, with its interval, its worth, the runs behind it and
the call that gives it again.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from analysis.types import Estimate, FitResult, Status, jsonable
from scaling.errors import InputError
from scaling.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from analysis.figures.base import Drawn
    from analysis.table import Runs

COUNT = "non_embedding"
"""How Kaplan et al. 2020 count N, and what the studies in parts say unless they say otherwise."""
COST = "exact"
LEVEL = 0.9


@dataclass(frozen=True)
class Number:
    """One quantity: `name` within its part, `label` in words (Markdown), its worth, and where it comes from.

    `runs` is the row filter that selects the runs behind it, `n` their number (or that of the points fitted),
    `published` the paper's value, for orientation.
    """

    name: str
    label: str
    value: Estimate
    status: str
    runs: str
    n: int
    command: str
    reason: str = ""
    unit: str = ""
    published: float | None = None

    def to_json(self) -> dict[str, Any]:
        """All fields, plain."""
        return jsonable({name: getattr(self, name) for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Picture:
    """A figure of the page: the stem of its four files, or why it could not be drawn."""

    name: str
    caption: str
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return dict(vars(self))


@dataclass(frozen=True)
class Table:
    """A table of the page, cells as text (Markdown): what has more than one value a line; `detail` has its numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return jsonable(dict(vars(self)))


@dataclass(frozen=True)
class Finding:
    """What a part found: numbers, figures, sentences that say what they mean, and the analysis as it came (JSON)."""

    numbers: tuple[Number, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    says: tuple[str, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All fields, plain."""
        return jsonable({name: getattr(self, name) for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Measured:
    """The rows of one sweep of the study, all of them there: the filter that selects them, and their number."""

    where: str
    n: int


@dataclass
class Scope:
    """What a part may use: the store, the sweeps whose runs are complete, the figures' folder, what parts handed on."""

    scale: str
    store: Path
    figures: Path
    sweeps: Mapping[str, Measured]
    bootstrap: int = 1000
    level: float = LEVEL
    seed: int = 0
    handed_on: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The study's."""
        return self.figures.parent

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Every row of the store."""
        return Store.open(self.store).rows()

    def where(self, *sweeps: str, extra: str = "") -> str:
        """The filter of the rows of some sweeps, and of an `extra` condition."""
        parts = [self.sweeps[name].where for name in sweeps]
        text = parts[0] if len(parts) == 1 else " or ".join(f"({p})" for p in parts)
        return f"({text}) and {extra}" if extra else text

    def runs(self, *sweeps: str, extra: str = "", mixed: bool = False) -> Runs:
        """The rows of some sweeps, as the analysis reads them."""
        from analysis.table import read_table

        return read_table(self.store, where=self.where(*sweeps, extra=extra), allow_mixed_data=mixed)

    def rows(self, *sweeps: str, extra: str = "") -> pd.DataFrame:
        """The store's rows of some sweeps, diverged ones among them."""
        from analysis.where import select_rows

        return self.frame[select_rows(self.frame, self.where(*sweeps, extra=extra))].reset_index(drop=True)

    def curves(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The curves of some rows."""
        return Store.open(self.store).curves(list(rows.run_id))

    def evals(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The evaluations of some rows."""
        return Store.open(self.store).evals(list(rows.run_id))

    def fit(self, law: str, where: str, **options: Any) -> FitResult:
        """A law fitted to rows of the store."""
        from analysis.fitting import fit

        given: dict[str, Any] = {"count": COUNT, "cost": COST, "bootstrap": self.bootstrap, "level": self.level}
        return fit(self.store, law, where=where, **{**given, **options})

    def draw(self, name: str, caption: str, make: Callable[[], Drawn]) -> Picture:
        """Draws and saves a figure; where it cannot be drawn the picture says why."""
        from analysis.figures.base import NotDrawable

        try:
            make().save(self.figures, name)
        except NotDrawable as error:
            return Picture(name, caption, str(error))
        return Picture(name, caption)


class Part(ABC):
    """A part of the study. Members hold no state."""

    name: ClassVar[str]
    title: ClassVar[str]
    question: ClassVar[str]
    design: ClassVar[str]
    """What is held, what varies, and why, in words; the sweep files have the values."""
    sweeps: ClassVar[tuple[str, ...]] = ()
    """Its own sweeps: kaplan-<sweep>-<scale>.yaml."""
    uses: ClassVar[tuple[str, ...]] = ()
    """Sweeps of other parts that it needs as well."""
    limits: ClassVar[tuple[str, ...]] = ()
    """What this scale cannot settle of it, and why."""
    last: ClassVar[bool] = False
    """Trained after all others, whatever its place on the page."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Every sweep whose runs it needs."""
        return (*self.sweeps, *self.uses)

    def missing(self, scope: Scope) -> str:
        """Why there is nothing to measure although every run of its sweeps is there; "" where there is something."""
        return ""

    @abstractmethod
    def measure(self, scope: Scope) -> Finding:
        """Numbers and figures, once every run it needs is there."""


def unknown(level: float = LEVEL) -> Estimate:
    """The estimate that is not."""
    return Estimate.missing(level)


def of_fit(
    fit: FitResult,
    wanted: Mapping[str, tuple[str, str]],
    where: str,
    *,
    published: Mapping[str, float] | None = None,
    command: str | None = None,
) -> list[Number]:
    """Numbers of some parameters of a fit: parameter → (name, label).

    `command` is the call that makes it where `scaling fit` on the rows as they are does not.
    """
    return [
        Number(
            name=name,
            label=label,
            value=fit.params[parameter],
            status=str(fit.status),
            reason=fit.reason,
            runs=where,
            n=fit.n,
            command=command or command_of(fit, where),
            unit=fit.model.unit(parameter),
            published=(published or {}).get(parameter),
        )
        for parameter, (name, label) in wanted.items()
    ]


def command_of(fit: FitResult, where: str) -> str:
    """The command line that makes a fit again, from the study's folder."""
    return f'scaling fit store --law {fit.model.tag} --count {fit.count} --cost {fit.cost} --where "{where}"'


def plain(value: float, level: float = LEVEL) -> Estimate:
    """A quantity without an interval: one that was counted or set, not estimated."""
    return Estimate(value, (value, value), level)


def says(estimate: Estimate) -> str:
    """An estimate in a sentence."""
    if not estimate.known:
        return "unknown"
    lo, hi = (show(end) for end in estimate.ci)
    return f"{show(estimate.value)} [{lo}, {hi}]"


def show(value: float) -> str:
    """A number in three digits, `?` where there is none."""
    if not math.isfinite(value):
        return "?"
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:.3g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, each as a mapping."""
    return [{str(k): v for k, v in row.items()} for row in rows.to_dict("records")]


def one_of(names: Sequence[str], what: str, known: Sequence[str]) -> tuple[str, ...]:
    """The names, checked.

    Raises:
        InputError: one is not among the known.
    """
    for name in names:
        if name not in known:
            raise InputError(f"there is no {what} {name!r}; there are {', '.join(known)}")
    return tuple(dict.fromkeys(names))


CONVERGED = str(Status.CONVERGED)
