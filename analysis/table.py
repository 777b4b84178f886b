"""Reading runs: a store, a parquet file, anyone's CSV or a DataFrame, as one checked value.

A store's rows carry every convention of size and cost; a plain table has `params`, `tokens`, `loss` and optionally
`flops`, `budget`, `lineage`, `loss_se`, and then every count is its `params`. A law may want further columns, such as
`unique_tokens`, `steps`, `batch_tokens` or `lr`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.laws.base import VARIABLES
from analysis.types import Array, Dropped
from analysis.where import select_rows
from scaling.accounting import COSTS, COUNTS
from scaling.errors import InputError, TableError

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("params", "tokens", "loss")
OPTIONAL = ("flops", "budget", "lineage", "loss_se")
SAME_BUDGET = 0.05
"""Runs whose FLOPs agree within this share belong to one isoFLOP group."""
LARGEST = 1e100
"""Beyond this, or below its inverse, products such as 6ND leave the range of a float."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Checked runs, one a row: positive finite sizes, tokens and losses.

    `labels` names each row for messages (run id, CSV line, index); `dropped` are rows that were left out, with reasons.
    """

    frame: pd.DataFrame
    source: str
    labels: tuple[int | str, ...]
    dropped: tuple[Dropped, ...] = ()
    load_curves: Callable[[], pd.DataFrame | None] | None = None

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        return f"Runs({len(self)} from {self.source}, {len(self.dropped)} dropped)"

    def _column(self, name: str) -> Array:
        if name not in self.frame.columns:
            raise TableError(f"{self.source}: {_no_column(name, self.frame)}")
        return self.frame[name].to_numpy(dtype=np.float64)

    @property
    def conventions(self) -> bool:
        """Whether the rows carry sizes and costs under every convention."""
        return "params_total" in self.frame.columns and "params" not in self.frame.columns

    def params(self, count: str = "total") -> Array:
        """Sizes (n,) under a count: total, non_embedding or non_embedding_head; a plain table has one size.

        Raises:
            InputError: no such count.
        """
        check_name("count", count, COUNTS)
        return self._column(f"params_{count}" if self.conventions else "params")

    def variable(self, name: str, count: str = "total", cost: str = "exact") -> Array:
        """Any quantity (n,) that a law is a function of or predicts, all positive.

        `params` under a count, `flops` under a cost, `unique_tokens` (a store's `tokens_unique`), else the column of
        that name.

        Raises:
            TableError: no such column, or a value in it that is no positive finite number (named by row).
            InputError: no such count or cost.
        """
        stored = "tokens_unique" if name == "unique_tokens" and name not in self.frame.columns else name
        if name == "params" and self.conventions:
            return self.params(count)
        if name == "flops":
            if not self.conventions and (cost == "6nd" or "flops" not in self.frame.columns):
                self.variable("params")
                self.variable("tokens")
            return self.flops(cost, count)
        if stored not in self.frame.columns:
            mend = f"name it with columns, as in {name}=COLUMN"
            raise TableError(f"{self.source}: {_no_column(name, self.frame)}; {mend}")
        return _numbers(self.frame[stored], list(self.labels), self.source, stored, gaps=False)

    def has(self, name: str) -> bool:
        """Whether `variable(name)` can be had."""
        if name == "flops" and "flops" not in self.frame.columns:
            return self.conventions or (self.has("params") and self.has("tokens"))
        if name == "params" and self.conventions:
            return True
        return name in self.frame.columns or (name == "unique_tokens" and "tokens_unique" in self.frame.columns)

    def cost_name(self, cost: str) -> str:
        """The cost that `flops(cost)` really is: `exact` is 6ND in a plain table without a `flops` column."""
        known = self.conventions or "flops" in self.frame.columns
        return cost if known else "6nd"

    def flops(self, cost: str = "exact", count: str = "total") -> Array:
        """Training FLOPs (n,) under a cost: `exact` (a plain table's `flops`, else 6ND) or `6nd` with that count.

        Raises:
            InputError: no such cost or count.
        """
        check_name("cost", cost, COSTS)
        check_name("count", count, COUNTS)
        if self.conventions:
            return self._column("flops_exact" if cost == "exact" else f"flops_6nd_{count}")
        if cost == "exact" and "flops" in self.frame.columns:
            return self._column("flops")
        return 6.0 * self.params(count) * self.tokens

    @property
    def tokens(self) -> Array:
        """Tokens seen in training (n,)."""
        return self._column("tokens")

    @property
    def loss(self) -> Array:
        """Held-out loss (n,), nats."""
        return self._column("loss")

    @property
    def loss_se(self) -> Array:
        """Standard error of each held-out loss (n,), NaN where not known; its shared part does not tell runs apart."""
        return self._column("loss_se") if "loss_se" in self.frame.columns else np.full(len(self), np.nan)

    @cached_property
    def lineage(self) -> NDArray[np.intp]:
        """Cluster number (n,) of each row: rows of one trunk share it; a row without a lineage is its own."""
        if "lineage" not in self.frame.columns:
            return np.arange(len(self))
        own = np.array([f"\0row {i}" for i in range(len(self))], dtype=object)
        names = self.frame["lineage"]
        known = names.notna().to_numpy() & (names.astype(str) != "").to_numpy()
        return np.unique(np.where(known, names.astype(str), own).astype(str), return_inverse=True)[1]

    @cached_property
    def budget(self) -> NDArray[np.intp]:
        """IsoFLOP group number (n,): the nominal budget where a row has one, else equal exact FLOPs within 5 %."""
        cost = self.flops("exact")
        nominal = self._column("budget") if "budget" in self.frame.columns else np.full(len(self), np.nan)
        groups = np.full(len(self), -1)
        levels = np.unique(nominal[np.isfinite(nominal)])
        for k, level in enumerate(levels):
            groups[nominal == level] = k
        rest = np.flatnonzero(groups < 0)
        order = rest[np.argsort(cost[rest], kind="stable")]
        next_group, first = len(levels) - 1, -np.inf
        for i in order:
            if cost[i] > first * (1 + SAME_BUDGET) or not np.isfinite(first):
                next_group, first = next_group + 1, cost[i]
            groups[i] = next_group
        return groups

    @cached_property
    def curves(self) -> pd.DataFrame | None:
        """Training curves of these runs by `run_id`, or None where there are none; read on first use."""
        found = self.load_curves() if self.load_curves is not None else None
        return None if found is None or len(found) == 0 else found

    def take(self, rows: NDArray[Any], dropped: tuple[Dropped, ...] = ()) -> Runs:
        """The runs at `rows` (indices or a mask), with further `dropped` noted."""
        index = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        return replace(
            self,
            frame=self.frame.iloc[index].reset_index(drop=True),
            labels=tuple(self.labels[i] for i in index),
            dropped=self.dropped + dropped,
        )


def check_name(what: str, name: str, names: tuple[str, ...]) -> None:
    """Raises InputError unless `name` is one of `names`."""
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(f"there is no {what} {name!r}{hint}; there are {', '.join(names)}")


def read_table(
    source: str | Path | pd.DataFrame | Runs,
    *,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    allow_mixed_data: bool = False,
    curves: pd.DataFrame | None = None,
    needs: tuple[str, ...] = REQUIRED,
) -> Runs:
    """Reads and checks a table of runs.

    Args:
        source: a store's folder, a `.parquet` or `.csv` file, a DataFrame, or runs already read. A path may end in
            `::` and a filter, as `runs/my::objective == 'causal'`, which holds beside `where`.
        columns: our name to the table's name, such as `{"params": "N", "tokens": "D", "loss": "L"}`.
        where: a filter over the columns, such as `objective == 'causal' and tokens > 1e7`.
        allow_mixed_data: whether rows of different data digests may be fitted together.
        curves: training curves of a plain table (which needs `run_id`): run_id, tokens, and loss or train_loss.
        needs: what the table must have; of params, tokens and loss those it has besides are checked as well.

    Raises:
        TableError: no such file, missing columns, no rows, a value that is not a positive finite number (named by
            row), or rows of several objectives or data sets.
    """
    if isinstance(source, Runs):
        return _needed(_filtered(source, where), needs)
    table: Any
    table, where = split_filter(source, where)
    frame, name, labels, loader = _load(table)
    if columns:
        frame = _renamed(frame, columns, name, needs)
    if len(frame) == 0:
        raise TableError(f"{name}: the table has no rows")
    if where:
        keep = select_rows(frame, where)
        if not keep.any():
            raise TableError(f"{name}: no row satisfies {where!r}")
        frame = frame.iloc[np.flatnonzero(keep)]
        labels = [label for label, k in zip(labels, keep, strict=True) if k]
    frame, labels, dropped = _finished(frame.reset_index(drop=True), labels, name)
    frame = _checked(frame, labels, name, needs)
    _one_kind(frame, name, allow_mixed_data)
    if curves is not None:
        if "run_id" not in frame.columns or "run_id" not in curves.columns:
            raise TableError(f"{name}: curves need a run_id column in the table and in the curves")
        loader = lambda ids: curves[curves["run_id"].isin(ids)]  # noqa: E731
    load = None
    if loader is not None and "run_id" in frame.columns:
        run_ids = [str(r) for r in frame["run_id"]]
        load = lambda: loader(run_ids)  # noqa: E731
    return _needed(Runs(frame, name, tuple(labels), dropped, load), needs)


def split_filter(source: Any, where: str | None = None) -> tuple[Any, str | None]:
    """A table and its filter, of `TABLE::FILTER`; both filters hold where there are two."""
    # os.path, since for pathlib a text too long to be a file's name is an error.
    if not isinstance(source, str) or "::" not in source or os.path.exists(source):
        return source, where
    path, _, own = source.partition("::")
    return path, own.strip() if where is None else f"({own.strip()}) and ({where})"


_Loader = Callable[[list[str]], "pd.DataFrame | None"]


def _filtered(runs: Runs, where: str | None) -> Runs:
    if not where:
        return runs
    keep = select_rows(runs.frame, where)
    if not keep.any():
        raise TableError(f"{runs.source}: no row satisfies {where!r}")
    return runs.take(keep)


def _needed(runs: Runs, needs: tuple[str, ...]) -> Runs:
    """The runs; raises TableError where a column that is needed is missing or holds no positive numbers."""
    for name in needs:
        runs.variable(name)
    return runs


def _load(source: str | Path | pd.DataFrame) -> tuple[pd.DataFrame, str, list[int | str], _Loader | None]:
    """The raw frame, its name, a label for each row, and how to read curves."""
    import pandas as pd

    if isinstance(source, pd.DataFrame):
        frame = source.reset_index(drop=True)
        return frame, "table", _labels(frame, 0), None
    path = Path(source)
    if path.is_dir():
        from scaling.store import Store

        store = Store.open(path)
        frame = store.rows().reset_index(drop=True)
        return frame, str(path), _labels(frame, 0), store.curves
    if not path.exists():
        raise TableError(f"{path}: no such file or store")
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
            return frame, str(path), _labels(frame, 0), None
        frame = pd.read_csv(path, skip_blank_lines=False, skipinitialspace=True)
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parse errors are ValueErrors
        raise TableError(f"{path}: cannot be read as a table: {str(error).strip().splitlines()[0]}") from None
    frame.columns = [str(c).strip() for c in frame.columns]
    blank = frame.isna().all(axis=1).to_numpy()
    labels = [f"line {i + 2}" for i in range(len(frame))]
    return (
        frame[~blank].reset_index(drop=True),
        str(path),
        [n for n, b in zip(labels, blank, strict=True) if not b],
        None,
    )


def _labels(frame: pd.DataFrame, first: int) -> list[int | str]:
    if "run_id" in frame.columns:
        return [str(r) for r in frame["run_id"]]
    return [f"row {i + first}" for i in range(len(frame))]


def _renamed(frame: pd.DataFrame, columns: Mapping[str, str], name: str, needs: tuple[str, ...] = ()) -> pd.DataFrame:
    known = tuple(dict.fromkeys((*REQUIRED, *OPTIONAL, *VARIABLES, *needs, "run_id")))
    for ours, theirs in columns.items():
        if ours not in known:
            near = difflib.get_close_matches(ours, known, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise TableError(f"columns: {ours!r} is no column of ours{hint}; ours are {', '.join(known)}")
        if theirs not in frame.columns:
            raise TableError(f"{name}: {_no_column(theirs, frame)}")
    clash = [ours for ours, theirs in columns.items() if ours in frame.columns and ours != theirs]
    return frame.drop(columns=clash).rename(columns={theirs: ours for ours, theirs in columns.items()})


def _no_column(wanted: str, frame: pd.DataFrame) -> str:
    names = [str(c) for c in frame.columns]
    lowered = {n.lower(): n for n in names}
    near = difflib.get_close_matches(wanted.lower(), lowered, 1)
    hint = f" (did you mean {lowered[near[0]]!r}?)" if near else ""
    return f"no column {wanted!r}{hint}; it has {', '.join(names[:20])}"


def _finished(
    frame: pd.DataFrame, labels: list[int | str], name: str
) -> tuple[pd.DataFrame, list[int | str], tuple[Dropped, ...]]:
    """Leaves out rows that did not finish, with their reasons."""
    if "status" not in frame.columns or "params_total" not in frame.columns:
        return frame, labels, ()
    done = (frame["status"] == "finished").to_numpy()
    reasons = frame["reason"] if "reason" in frame.columns else [""] * len(frame)
    dropped = tuple(
        Dropped(label, f"{status}: {reason}" if isinstance(reason, str) and reason else str(status))
        for label, status, reason, ok in zip(labels, frame["status"], reasons, done, strict=True)
        if not ok
    )
    if not done.any():
        raise TableError(f"{name}: no run finished ({len(dropped)} diverged or failed)")
    kept = [label for label, ok in zip(labels, done, strict=True) if ok]
    return frame[done].reset_index(drop=True), kept, dropped


def _checked(frame: pd.DataFrame, labels: list[int | str], name: str, needs: tuple[str, ...]) -> pd.DataFrame:
    """The frame with its numbers as float64, every one of them positive and finite where it must be."""
    if "params_total" in frame.columns and "params" not in frame.columns:
        positive = [
            *(f"params_{c}" for c in COUNTS),
            "tokens",
            "loss",
            "flops_exact",
            *(f"flops_6nd_{c}" for c in COUNTS),
        ]
        optional = ["budget", "loss_se"]
    else:
        derived = "flops" in needs and "flops" not in frame.columns  # C = 6ND
        wanted = {*needs, "params", "tokens"} if derived else set(needs)
        positive = [c for c in REQUIRED if c in frame.columns or c in wanted]
        positive += ["flops"] if "flops" in frame.columns else []
        optional = ["budget", "loss_se"]
    missing = [c for c in positive if c not in frame.columns]
    if missing:
        mend = "name it with columns, as in params=N,tokens=D,loss=L"
        raise TableError(f"{name}: {_no_column(missing[0], frame)}; {mend}")
    frame = frame.copy()
    for column in positive:
        frame[column] = _numbers(frame[column], labels, name, column, gaps=False)
    for column in optional:
        if column in frame.columns:
            frame[column] = _numbers(frame[column], labels, name, column, gaps=True)
    return frame


def _numbers(values: Any, labels: list[int | str], name: str, column: str, *, gaps: bool) -> Array:
    import pandas as pd

    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    low = 0.0 if not (gaps and column == "loss_se") else -np.finfo(float).tiny
    bad = ~(np.isfinite(numbers) & (numbers > low))
    beyond = ~bad & (numbers != 0) & ((numbers > LARGEST) | (numbers < 1 / LARGEST))
    if beyond.any():
        first = int(np.flatnonzero(beyond)[0])
        value = f"{labels[first]}: {column} is {numbers[first]:.4g}"
        raise TableError(f"{name}: {value}, outside 1e-100 to 1e100; mend it or filter it out")
    if gaps:
        bad &= ~pd.isna(values).to_numpy()
    if bad.any():
        at = np.flatnonzero(bad)
        raw = list(values)[at[0]]
        more = f" (and {len(at) - 1} more rows)" if len(at) > 1 else ""
        raise TableError(
            f"{name}: {labels[at[0]]}: {column} is {raw!s}, not a positive number{more}; mend it or filter it out"
        )
    return numbers


def _one_kind(frame: pd.DataFrame, name: str, allow_mixed_data: bool) -> None:
    """Refuses rows that no one law describes: several objectives, or several data sets."""
    if "objective" in frame.columns:
        objectives = sorted({str(o) for o in frame["objective"].dropna()})
        if len(objectives) > 1:
            raise TableError(
                f"{name}: rows of several objectives ({', '.join(objectives)}) are not comparable;"
                f' choose one with where "objective == \'{objectives[0]}\'", or as "{name}::objective =='
                f" '{objectives[0]}'\""
            )
    if "data_digest" in frame.columns and not allow_mixed_data:
        digests = sorted({str(d) for d in frame["data_digest"].dropna()})
        if len(digests) > 1:
            raise TableError(
                f"{name}: rows of {len(digests)} different data sets; choose one with"
                f" where \"data_digest == '{digests[0]}'\", or allow mixed data"
            )
