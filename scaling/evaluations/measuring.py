"""Measures many runs of a store, one after another, and publishes each result as soon as it is there."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from scaling.evaluations.base import Evaluation, Point, Unserved
from scaling.evaluations.subject import Subject, trial_of
from scaling.store.measured import Measurement

if TYPE_CHECKING:
    from scaling.store import Store


@dataclass
class Outcome:
    """What came of it: points by run measured now, runs that were measured before, runs left out with the reason."""

    settings: str
    version: int
    measured: dict[str, list[Point]] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def settings_of(evaluation: Evaluation) -> str:
    """The evaluation's identity as canonical JSON, which names its measurements in a store."""
    return json.dumps(evaluation.identity(), sort_keys=True, separators=(",", ":"), allow_nan=False)


def measure_runs(
    store: Store,
    evaluation: Evaluation,
    rows: Sequence[Mapping[str, Any]],
    say: Callable[[str, str], None] = lambda run_id, what: None,
) -> Outcome:
    """Measures the runs of some rows that were not measured before; `say` hears of each run what came of it.

    Raises:
        InputError: what the settings name is missing.
        StoreError: the store cannot be written.
    """
    evaluation.prepare()
    outcome = Outcome(settings_of(evaluation), evaluation.version)
    there = store.measurements([str(row["run_id"]) for row in rows])
    for row in rows:
        run_id = str(row["run_id"])
        if Measurement(run_id, outcome.settings, outcome.version) in there:
            outcome.known.append(run_id)
            say(run_id, "measured before")
            continue
        try:
            points = _measure(store, evaluation, row)
        except Unserved as error:
            outcome.left_out[run_id] = str(error)
            say(run_id, f"left out: {error}")
            continue
        store.publish_measurement(run_id, outcome.settings, outcome.version, [_row(p, outcome) for p in points])
        outcome.measured[run_id] = points
        say(run_id, "measured")
    return outcome


def _measure(store: Store, evaluation: Evaluation, row: Mapping[str, Any]) -> list[Point]:
    if row["status"] != "finished":
        raise Unserved(f"the run {row['status']}")
    trial = trial_of(row)
    reason = evaluation.serves(trial)
    if reason is not None:
        raise Unserved(reason)
    # Like the model: on a loaded machine a second thread of a small product waits longer than the product takes.
    with threadpool_limits(limits=1, user_api="blas"):
        points = evaluation.measure(Subject.load(store, row, trial))
    wrong = [p for p in points if not math.isfinite(p.value)]
    if wrong or not points:
        raise Unserved(f"{wrong[0].metric} is {wrong[0].value}" if wrong else "nothing could be measured")
    return points


def _row(point: Point, outcome: Outcome) -> dict[str, Any]:
    return {**point._asdict(), "se": _known(point.se), "eval_version": outcome.version, "settings": outcome.settings}


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
