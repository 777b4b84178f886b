"""Rows, curves and evaluations for tests of the store: valid, and a pure function of a number."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from scaling.store.schema import ROW_SCHEMA


def run_id(number: int) -> str:
    return f"{number:016x}"


def make_row(number: int, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for field in ROW_SCHEMA:
        kinds = {pa.string(): f"{field.name} {number}", pa.int64(): 2**53 + number, pa.float64(): 0.1 * number + 1}
        row[field.name] = kinds[field.type]
    started = {"started_at": "2026-01-02T00:00:00+00:00"}
    row |= {"run_id": run_id(number), "status": "finished", "reason": "", "loss": 3 + number / 7, "budget": None}
    row |= {"spec": '{"seed":0}', "execution": "{}", "provenance": json.dumps(started)}
    del row["curve_sha256"], row["evals_sha256"]
    return row | changes


def make_failure(number: int, reason: str) -> dict[str, Any]:
    return make_row(number, status="failed", reason=reason, loss=None, steps=None)


def make_curve(number: int, elapsed: float = 0.25) -> list[dict[str, Any]]:
    return [
        {
            "step": s,
            "tokens": 2048 * s,
            "flops": 1e6 * s,
            "lr": 0.01 / s,
            "train_loss": 5 / s + number,
            "grad_norm": 1.0,
            "elapsed_s": elapsed * s,
            "loss": 4.5 if s == 5 else None,
        }
        for s in range(1, 6)
    ]


def make_evals(number: int) -> list[dict[str, Any]]:
    return [
        {"metric": m, "x": float(k), "value": number + k / 3, "se": None, "n": 7, "eval_version": 1}
        for m in ("document", "position")
        for k in range(3)
    ]
