"""Training curves of imported runs: one row a point, or the wide export of a Weights & Biases panel."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scaling.errors import TableError
from scaling.importing.records import Names, Record, columns_of, plain_name, read_records, typed
from scaling.store.schema import CURVE_COLUMNS

NAMES: Names = {
    "run_id": ("run_id", "id", "_run_id", "run", "name", "run_name", "display_name"),
    "step": ("step", "_step", "global_step", "iteration"),
    "tokens": ("tokens", "n_tokens", "num_tokens"),
    "train_loss": ("train_loss", "training_loss", "train/loss", "loss"),
    "loss": ("val_loss", "validation_loss", "eval_loss", "test_loss", "val/loss", "loss"),
    "lr": ("lr", "learning_rate"),
    "elapsed_s": ("elapsed_s", "_runtime"),
}

_WIDE = re.compile(r"(?P<run>.+?) - (?P<metric>.+?)(?P<edge>__MIN|__MAX)?")


def their_name(row: Mapping[str, Any]) -> str:
    """What a run was called where it came from."""
    imported = json.loads(row["provenance"]).get("imported", {})
    return str(imported.get("run", row["run_id"]))


def read_curves(
    path: Path,
    given: Mapping[str, str] | None,
    rows: Mapping[str, Mapping[str, Any]],
    aliases: Mapping[str, str],
) -> dict[str, list[dict[str, Any]]]:
    """Points by run id, steps rising; `aliases` are further names of runs.

    Raises:
        TableError: a run that the table of runs lacks, a step twice, a value of another type than its column.
    """
    records = read_records(path)
    if not records:
        raise TableError(f"{path}: holds no points")
    by_name = {**aliases, **{their_name(row): run_id for run_id, row in rows.items()}, **{i: i for i in rows}}
    wide = {m["run"] for name in records[0].fields if (m := _WIDE.fullmatch(name))}
    found = _wide_points(records, path, by_name) if wide and not given else _long_points(records, given, path, by_name)
    for run_id, points in found.items():
        points.sort(key=lambda p: p["step"])
        for before, after in itertools.pairwise(points):
            if before["step"] == after["step"]:
                run = their_name(rows[run_id])
                raise TableError(f"{path}: run {run} has step {after['step']} twice; keep one point a step")
        for point in points:
            _complete(point, rows[run_id])
    return found


def _long_points(
    records: Sequence[Record], given: Mapping[str, str] | None, path: Path, by_name: Mapping[str, str]
) -> dict[str, list[dict[str, Any]]]:
    used = columns_of(
        records[0],
        given,
        path,
        names=NAMES,
        columns=CURVE_COLUMNS,
        needed=("run_id", "step"),
        option="--curve-columns",
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        run = record.fields[used["run_id"]]
        if run not in by_name:
            raise TableError(f"{path}: {record.where}: run {run!r} is not in the table of runs")
        point = {
            c.name: typed(record.fields[used[c.name]], c, f"{path}: {record.where}", used[c.name])
            for c in CURVE_COLUMNS
            if c.name in used and c.name != "run_id"
        }
        if point["step"] is None:
            raise TableError(f"{path}: {record.where}: {used['step']} is empty")
        if point.get("train_loss") is not None or point.get("loss") is not None:
            found.setdefault(by_name[run], []).append(point)
    return found


def _wide_points(records: Sequence[Record], path: Path, by_name: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Points of a W&B panel's export: a column of steps, and one `<run> - <metric>` for each run."""
    header = list(records[0].fields)
    steps = next((name for name in header if plain_name(name) in NAMES["step"]), None)
    if steps is None:
        raise TableError(f"{path}: no column of steps; export the panel with Step as its x axis")
    found: dict[str, list[dict[str, Any]]] = {}
    step_column, loss_column = CURVE_COLUMNS[1], CURVE_COLUMNS[5]
    for name in header:
        match = _WIDE.fullmatch(name)
        if match is None or match["edge"] or plain_name(match["metric"]) in NAMES["step"]:
            continue
        if match["run"] not in by_name:
            raise TableError(f"{path}: line 1: run {match['run']!r} is not in the table of runs")
        metric = plain_name(match["metric"])
        ours = "loss" if metric in NAMES["loss"] and metric != "loss" else "train_loss"
        points = {p["step"]: p for p in found.setdefault(by_name[match["run"]], [])}
        for record in records:
            value = typed(record.fields[name], loss_column, f"{path}: {record.where}", name)
            step = typed(record.fields[steps], step_column, f"{path}: {record.where}", steps)
            if value is None:
                continue
            if step is None:
                raise TableError(f"{path}: {record.where}: {steps} is empty")
            points.setdefault(step, {"step": step})[ours] = value
        found[by_name[match["run"]]] = list(points.values())
    return {run: points for run, points in found.items() if points}


def _complete(point: dict[str, Any], row: Mapping[str, Any]) -> None:
    """Fills in what a point lacks: tokens by batch or by share of the run, FLOPs by tokens, NaN for the rest."""
    if point.get("tokens") is None:
        per_step = row["batch_tokens"] or (row["tokens"] / row["steps"] if row["steps"] else None)
        if per_step is None:
            raise TableError(
                f"run {their_name(row)}: its curve has steps but no tokens, and its row neither batch_tokens nor steps;"
                " name one of them with --columns or --curve-columns"
            )
        point["tokens"] = round(point["step"] * per_step)
    if point.get("flops") is None:
        point["flops"] = row["flops_exact"] * point["tokens"] / row["tokens"]
    for name in ("lr", "train_loss", "elapsed_s"):
        if point.get(name) is None:
            point[name] = math.nan
