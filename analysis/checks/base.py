"""What every check is given and what it answers: a table with its fit, and a typed verdict with its reason and rows."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.table import Runs
from analysis.types import Array, FitResult, Frontier, jsonable

if TYPE_CHECKING:
    from analysis.checks.response import Rung
    from analysis.noise import SeedNoise

Row = int | str


class Verdict(StrEnum):
    """What a check found; a closed list. `cannot_tell` is an answer, with what would be needed."""

    CLEAR = "clear"
    SUSPECTED = "suspected"
    CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True, repr=False)
class Finding:
    """One check's answer: verdict, reason, the rows it is about (labels of the table), and the numbers behind it."""

    check: str
    verdict: Verdict
    reason: str
    rows: tuple[Row, ...] = ()
    measured: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """`{"check", "verdict", "reason", "rows", "measured"}`."""
        return {
            "check": self.check,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "rows": jsonable(self.rows),
            "measured": jsonable(self.measured),
        }

    def __repr__(self) -> str:
        return f"{self.check}: {self.verdict}, {self.reason}"


@dataclass(frozen=True, eq=False)
class Subject:
    """A table under one count and one cost, with the fit of its surface and its frontier where there are any."""

    runs: Runs
    count: str = "total"
    cost: str = "exact"
    level: float = 0.9
    seed: int = 0
    fit: FitResult | None = None
    frontier: Frontier | None = None

    @property
    def params(self) -> Array:
        """Sizes (n,) under the subject's count."""
        return self.runs.params(self.count)

    @property
    def flops(self) -> Array:
        """FLOPs (n,) under the subject's cost."""
        return self.runs.flops(self.cost, self.count)

    def label(self, rows: Sequence[int] | NDArray[Any]) -> tuple[Row, ...]:
        """Labels of rows given by index or mask."""
        at = np.asarray(rows)
        index = np.flatnonzero(at) if at.dtype == bool else at.astype(int)
        return tuple(self.runs.labels[i] for i in index)

    def number(self, *names: str) -> Array | None:
        """The first of these columns that the table has, as floats (n,) with NaN for gaps; None where it has none."""
        import pandas as pd

        for name in names:
            if name in self.runs.frame.columns:
                return pd.to_numeric(self.runs.frame[name], errors="coerce").to_numpy(dtype=np.float64)
        return None

    def text(self, *names: str) -> NDArray[Any] | None:
        """The first of these columns that the table has, as text (n,), "" for gaps; None where it has none."""
        for name in names:
            if name in self.runs.frame.columns:
                column = self.runs.frame[name]
                return np.where(column.notna(), column.astype(str), "").astype(object)
        return None

    @cached_property
    def specs(self) -> list[dict[str, Any]] | None:
        """Each row's canonical trial, of a store; None where the table has none."""
        column = self.text("spec")
        if column is None:
            return None
        return [json.loads(s) if s.startswith("{") else {} for s in column]

    @cached_property
    def batch(self) -> Array | None:
        """Tokens in an optimizer step (n,), None where the table does not tell."""
        return self.number("batch_tokens", "batch")

    @cached_property
    def cells(self) -> NDArray[np.intp]:
        """Number (n,) of each row's cell: rows that differ in nothing but their seed share one."""
        return cells_of(self.runs)

    @cached_property
    def rungs(self) -> tuple[Rung, ...]:
        """The rungs with a grid of rates or batches, each with its response surface."""
        from analysis.checks.response import response_surfaces

        return response_surfaces(self)

    @cached_property
    def seeds(self) -> SeedNoise | None:
        """The noise of seeds, sigma(N, D) from repeated cells; None where no cell is repeated."""
        from analysis.noise import seed_noise

        return seed_noise(
            {"params": self.params, "tokens": self.runs.tokens}, self.runs.loss, self.cells.astype(np.float64)
        )

    @property
    def seed_sigma(self) -> float:
        """One sigma of the log loss from seed to seed, the mean square over the rows; NaN where no cell is repeated."""
        return float("nan") if self.seeds is None else float(np.sqrt(np.mean(self.seeds.sigma**2)))

    def known_sigma(self) -> float:
        """Noise of a run's log loss: of repeated cells, else of the fit's residuals, NaN where there is neither."""
        if self.seeds is not None:
            return self.seed_sigma
        return self.fit.sigma if self.fit is not None else float("nan")


_NOT_OF_A_CELL = {
    "run_id", "lineage", "sweep", "seed", "loss", "loss_se", "loss_best", "train_loss", "bits_per_byte", "wall_s",
    "tokens_per_s", "execution", "provenance", "curve_sha256", "evals_sha256", "reason", "status", "smooth loss",
    "exp_name", "flops_marginal",
}  # fmt: skip


def cells_of(runs: Runs) -> NDArray[np.intp]:
    """Number (n,) of each row's cell: rows whose columns agree in all but seed, names and what was measured.

    A store's rows are compared by their canonical trial without its seed, and by their data.
    """
    frame = runs.frame
    if "spec" in frame.columns and frame["spec"].astype(str).str.startswith("{").all():
        digests = frame["data_digest"].astype(str) if "data_digest" in frame.columns else [""] * len(frame)
        keys = [
            json.dumps({k: v for k, v in json.loads(s).items() if k != "seed"}, sort_keys=True) + d
            for s, d in zip(frame["spec"], digests, strict=True)
        ]
    else:
        columns = [c for c in frame.columns if str(c) not in _NOT_OF_A_CELL]
        keys = [repr(row) for row in frame[columns].itertuples(index=False, name=None)]
    return np.unique(np.array(keys, dtype=object).astype(str), return_inverse=True)[1]


class Check(ABC):
    """A detector. Members are stateless; their file in this package is all there is to adding one.

    `undertuning` marks those whose suspicion means that some rung was not trained as well as it could have been.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""
    undertuning: ClassVar[bool] = False

    @abstractmethod
    def look(self, subject: Subject) -> Finding:
        """The verdict."""

    def clear(self, reason: str, **measured: Any) -> Finding:
        """Nothing found."""
        return Finding(self.name, Verdict.CLEAR, reason, (), measured)

    def suspected(self, reason: str, rows: tuple[Row, ...] = (), **measured: Any) -> Finding:
        """Something found."""
        return Finding(self.name, Verdict.SUSPECTED, reason, rows, measured)

    def cannot_tell(self, reason: str, rows: tuple[Row, ...] = (), **measured: Any) -> Finding:
        """The table does not say."""
        return Finding(self.name, Verdict.CANNOT_TELL, reason, rows, measured)
