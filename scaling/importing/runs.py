"""Runs of other people's, and our own exports, as rows of a store: from CSV, JSONL and Weights & Biases exports.

Tables are read as text and every value is typed by the column it goes to, so that no identifier becomes a number. A
run's id is a hash of the data set's label and the run's own name there, so that importing twice adds nothing; a table
that `scaling export` wrote comes back as it was.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling.accounting import COUNTS, FLOP_TERMS, PARAM_GROUPS, flops_6nd
from scaling.errors import TableError
from scaling.importing.curves import read_curves, their_name
from scaling.importing.records import Names, Record, columns_of, plain_name, read_records, typed
from scaling.provenance import now, version
from scaling.store.files import is_run_id
from scaling.store.schema import ROW_COLUMNS
from scaling.store.store import Store

FINISHED_STATES = {"finished", ""}
"""States of a W&B run, or a status of ours, that count as finished; others are left out, and said so."""

NAMES: Names = {
    "run_id": ("run_id", "id", "_run_id", "run", "name", "run_name", "display_name"),
    "params": ("params", "params_total", "n_params", "num_params", "parameters", "n"),
    "tokens": ("tokens", "n_tokens", "num_tokens", "total_tokens", "d"),
    "loss": ("loss", "val_loss", "validation_loss", "eval_loss", "test_loss", "val/loss", "l"),
    "flops": ("flops", "flops_exact", "total_flops", "compute", "c"),
    "status": ("status", "state"),
    "lr": ("lr", "learning_rate"),
}


@dataclass(frozen=True)
class Imported:
    """What an import did. `runs`: added; `known`: there already, the same; `left_out`: row and reason."""

    store: Path
    runs: int
    known: int
    points: int
    left_out: tuple[tuple[str, str], ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    """Ours by theirs."""

    def to_json(self) -> dict[str, Any]:
        """`{"store", "runs", "known", "points", "left_out": [{"row", "reason"}], "columns": {OURS: THEIRS}}`."""
        return {
            "store": str(self.store),
            "runs": self.runs,
            "known": self.known,
            "points": self.points,
            "left_out": [{"row": row, "reason": reason} for row, reason in self.left_out],
            "columns": dict(self.columns),
        }


def import_runs(
    source: str | Path,
    store_path: str | Path,
    *,
    curves: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    curve_columns: Mapping[str, str] | None = None,
    label: str | None = None,
    objective: str = "",
) -> Imported:
    """Imports a table of runs, and perhaps their curves, into a store (made where it does not exist).

    Args:
        source: `.csv`, or `.jsonl` with one object a line (nested objects become `outer.inner`).
        store_path: the store.
        curves: training curves: one row a point with the run's id, or the wide export of a W&B panel
            (columns `Step`, `<run> - <metric>`).
        columns: our names to the table's: run_id, params (or params_total …), tokens, loss, flops, status, lr, seed,
            or any column of a row. Left out, the usual names are tried.
        curve_columns: the same for the curves: run_id, step, tokens, train_loss, loss, lr, elapsed_s.
        label: of the data set, part of every run's id; the file's stem where left out.
        objective: the rows' objective, which keeps sorts of runs apart in fits.

    Raises:
        TableError: no such file or column, a value of another type than its column (file, line, field), a run named
            twice, or one that the store holds with other values.
        StoreError: see `Store`.
    """
    path = Path(source)
    records = read_records(path)
    if not records:
        raise TableError(f"{path}: holds no runs")
    name = label or path.stem
    left: list[tuple[str, str]] = []
    if _is_export(records[0]):
        rows = [_exported(record, path) for record in records]
        used = {c.name: c.name for c in ROW_COLUMNS}
    else:
        used = columns_of(
            records[0], columns, path, names=NAMES, columns=ROW_COLUMNS, needed=("run_id", "params", "tokens", "loss")
        )
        rows = [row for record in records if (row := _row(record, used, name, objective, path, left))]
    _no_run_twice(rows, records, path)
    theirs = {row["run_id"]: row for row in rows}
    aliases = _aliases(records, rows)
    points = read_curves(Path(curves), curve_columns, theirs, aliases) if curves is not None else {}
    store = Store.create(store_path)
    return _publish(store, rows, points, left, used, path)


def _aliases(records: Sequence[Record], rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Run ids by every name that a run has in its table: W&B's curves name runs, its tables may carry ids."""
    by_place = {(json.loads(r["provenance"]).get("imported") or {}).get("at"): r["run_id"] for r in rows}
    found: dict[str, str] = {}
    for record in records:
        if record.where in by_place:
            names = {v for k, v in record.fields.items() if plain_name(k) in NAMES["run_id"] and v}
            found |= dict.fromkeys(names, by_place[record.where])
    return found


def _publish(
    store: Store,
    rows: Sequence[dict[str, Any]],
    points: Mapping[str, list[dict[str, Any]]],
    left: list[tuple[str, str]],
    used: Mapping[str, str],
    path: Path,
) -> Imported:
    present = {str(r["run_id"]): r for r in store.row_table(failures=False).to_pylist()}
    for row in rows:
        held = present.get(row["run_id"])
        if held is not None and not _same(held, row):
            raise TableError(
                f"{path}: run {their_name(row)} is in {store.root} with another loss, size or length;"
                " import it under another --label, or into another store"
            )
    added = known = written = 0
    for row in rows:
        if row["status"] == "failed":
            left.append((their_name(row), f"failed: {row['reason']}"))
            continue
        curve = points.get(row["run_id"])
        if row["run_id"] in present or not store.publish(row, curve, None):
            known += 1
            continue
        added += 1
        written += len(curve or ())
    return Imported(store.root, added, known, written, tuple(left), dict(used))


def _same(held: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and math.isnan(value) else value

    names = ("loss", "tokens", "params_total", "flops_exact", "status")
    return all(plain(held[n]) == plain(row[n]) for n in names)


def _no_run_twice(rows: Sequence[Mapping[str, Any]], records: Sequence[Record], path: Path) -> None:
    seen: set[str] = set()
    for row in rows:
        if row["run_id"] in seen:
            raise TableError(f"{path}: run {their_name(row)} is there twice; keep one, or name another column run_id")
        seen.add(row["run_id"])


def _is_export(record: Record) -> bool:
    """Whether a table has every column of ours, as `scaling export` writes it."""
    return {c.name for c in ROW_COLUMNS} <= set(record.fields)


def _exported(record: Record, path: Path) -> dict[str, Any]:
    row = {c.name: typed(record.fields[c.name], c, f"{path}: {record.where}", c.name) for c in ROW_COLUMNS}
    if not is_run_id(row["run_id"] or ""):
        raise TableError(f"{path}: {record.where}: run_id is {row['run_id']!r}, not 16 hex digits; export it again")
    if row["status"] not in ("finished", "diverged", "failed"):
        raise TableError(f"{path}: {record.where}: status is {row['status']!r}, not finished, diverged or failed")
    for name in ("spec", "execution", "provenance"):
        _json_object(row[name], f"{path}: {record.where}: {name}")
    if row["status"] == "finished" and (row["loss"] is None or not math.isfinite(row["loss"])):
        raise TableError(f"{path}: {record.where}: loss is {record.fields['loss']!r} in a finished run")
    return row


def _json_object(text: str, where: str) -> None:
    try:
        if not isinstance(json.loads(text), dict):
            raise ValueError("no object")
    except (ValueError, RecursionError):
        raise TableError(f"{where}: is not a JSON object; export it again") from None


def run_id_of(label: str, run: str) -> str:
    """16 hex digits that name a run of a labelled data set."""
    return hashlib.sha256(json.dumps(["imported", label, run]).encode()).hexdigest()[:16]


_BY_NAME = {c.name: c for c in ROW_COLUMNS}
_REAL = _BY_NAME["loss"]
_DERIVED = {
    "run_id",
    "lineage",
    "flops_exact",
    "tokens",
    "loss",
    "status",
    "reason",
    "spec",
    "execution",
    "provenance",
    "curve_sha256",
    "evals_sha256",
}


def _row(
    record: Record,
    used: Mapping[str, str],
    label: str,
    objective: str,
    path: Path,
    left: list[tuple[str, str]],
) -> dict[str, Any] | None:
    """A row from a record of somebody's table; None (and the reason noted) where the run did not finish."""
    where = f"{path}: {record.where}"
    run = record.fields[used["run_id"]]
    if not run:
        raise TableError(f"{where}: {used['run_id']} is empty; every run needs a name")
    state = record.fields[used["status"]].lower() if "status" in used else ""
    if state not in FINISHED_STATES:
        left.append((f"{record.where}, {run}", f"{used['status']} is {state}"))
        return None

    def number(ours: str) -> float:
        value = typed(record.fields[used[ours]], _REAL, where, used[ours])
        if value is None or not math.isfinite(value) or not value > 0:
            raise TableError(f"{where}: {used[ours]} is {record.fields[used[ours]]!r}, not a positive number")
        return float(value)

    params, tokens, loss = round(number("params")), round(number("tokens")), number("loss")
    row: dict[str, Any] = {c.name: "" if str(c.type) == "string" else None for c in ROW_COLUMNS}
    row |= {f"params_{group}": 0 for group in PARAM_GROUPS} | {"params_other": params}
    row |= {f"params_{count}": params for count in COUNTS}
    for ours, theirs in used.items():
        if ours in _BY_NAME and ours not in _DERIVED:
            value = typed(record.fields[theirs], _BY_NAME[ours], where, theirs)
            row[ours] = row[ours] if value is None else value
    flops = number("flops") if "flops" in used else float(flops_6nd(params, tokens))
    sizes = {count: int(row[f"params_{count}"]) for count in COUNTS}
    row |= {f"flops_6nd_{count}": float(flops_6nd(size, tokens)) for count, size in sizes.items()}
    row |= {f"flops_exact_{term}": 0.0 for term in FLOP_TERMS} | {"flops_exact_other": flops}
    run_id = run_id_of(label, run)
    trunk = record.fields[used["lineage"]] if "lineage" in used else ""
    return row | {
        "run_id": run_id,
        "lineage": run_id_of(label, f"lineage {trunk}") if trunk else run_id,
        "sweep": row["sweep"] or label,
        "status": "finished",
        "objective": row["objective"] or objective,
        "data_digest": row["data_digest"] or f"imported-{hashlib.sha256(label.encode()).hexdigest()[:8]}",
        "flops_exact": flops,
        "flops_marginal": flops,
        "tokens": tokens,
        "loss": loss,
        "spec": "{}",
        "execution": "{}",
        "provenance": json.dumps(
            {
                "imported": {
                    "run": run,
                    "label": label,
                    "file": path.name,
                    "at": record.where,
                    "when": now(),
                    "flops": "given" if "flops" in used else "6ND",
                    "columns": dict(used),
                    "scaling-lab": version(),
                }
            }
        ),
    }
