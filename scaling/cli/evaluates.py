"""The command evaluate: measures finished runs of a store from their kept final weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli import options as o
from scaling.cli import output as out
from scaling.cli.results import typed
from scaling.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from analysis.probes import TaskScore
    from scaling.evaluations import Evaluation
    from scaling.evaluations.base import Point
    from scaling.evaluations.measuring import Outcome
    from scaling.store import Store

MOST_POINTS = 12
"""Values of one run that are printed one by one."""


def evaluate(
    context: typer.Context,
    store: o.StoreFolder,
    metric: Annotated[str, typer.Option(metavar="NAME", help="`scaling list evaluations` names them.")],
    where: o.Where = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="A setting of it, in YAML; may be repeated.")
    ] = None,
    json: o.Json = False,
) -> int:
    """Measure finished runs from their kept final weights.

    Results join the store's evals; what was measured before with the same settings is left as it is. Exit status 1
    where no run could be measured.
    """
    from scaling.evaluations.measuring import measure_runs
    from scaling.store import Store

    opened = Store.open(store, write=True)
    evaluation = evaluation_of(metric, settings or ())
    with out.stdout_to_stderr():
        rows = _chosen(opened.rows(), where)
        total = len(rows)
        say = _Progress(total)
        outcome = measure_runs(opened, evaluation, rows, say)
    scores = _judged(opened, outcome)
    if json:
        found = _plain(metric, outcome) | {"scores": [score.to_json() for score in scores]}
        out.print_json({"store": store, **found, "command": typed(context)})
    else:
        _print(store, metric, outcome, scores)
    return 0 if outcome.measured or outcome.known or not total else 1


def evaluation_of(metric: str, settings: Sequence[str]) -> Evaluation:
    """The evaluation that a name and `a.b=c` settings describe.

    Raises:
        InputError: there is no such evaluation, or a setting is not one of it.
    """
    import difflib

    from pydantic import ValidationError

    from scaling.evaluations import Evaluation
    from scaling.spec import members

    known = members("scaling.evaluations", Evaluation)
    if metric not in known:
        near = difflib.get_close_matches(metric, known, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(f"there is no evaluation {metric!r}{hint}; there are {', '.join(known)}")
    try:
        found = known[metric].model_validate({"type": metric, **_nested(settings)})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-")) or "settings"
        mend = f"; give it with --set {place}=…" if first["type"] == "missing" else ""
        raise InputError(f"{metric}: {place}: {first['msg']}{mend}") from None
    assert isinstance(found, Evaluation)
    return found


def _nested(settings: Iterable[str]) -> dict[str, Any]:
    """`{"a": {"b": c}}` of `a.b=c`, c read as YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    found: dict[str, Any] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        keys = name.strip().split(".")
        if not equals or not all(keys):
            raise InputError(f"--set {text!r} is not of the form a.b=c")
        at = found
        for key in keys[:-1]:
            at = at.setdefault(key, {})
            if not isinstance(at, dict):
                raise InputError(f"--set {text!r}: {key} was set to a value before; write it as one or the other")
        try:
            at[keys[-1]] = YAML(typ="safe", pure=True).load(value)
        except YAMLError:
            raise InputError(f"--set {text!r}: {value!r} is not YAML") from None
    return found


def _chosen(frame: pd.DataFrame, where: str | None) -> list[dict[str, Any]]:
    """The rows that `--where` keeps, the cheapest first."""
    if where is not None:
        from analysis.where import select_rows

        frame = frame[select_rows(frame, where)]
    rows = frame.sort_values(["flops_exact", "run_id"]).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


class _Progress:
    """Says on stderr what came of each run."""

    def __init__(self, total: int) -> None:
        self.done, self.total = 0, total

    def __call__(self, run_id: str, what: str) -> None:
        self.done += 1
        if what == "measured":
            out.note(f"{self.done}/{self.total} {run_id} {what}")


def _judged(store: Store, outcome: Outcome) -> list[TaskScore]:
    """Whether what these runs score with these settings, now or before, beats its baselines."""
    from analysis.probes import judge

    evals = store.evals([*outcome.measured, *outcome.known])
    return judge(evals[evals["settings"] == outcome.settings])


def _plain(metric: str, outcome: Outcome) -> dict[str, Any]:
    import json

    return {
        "metric": metric,
        "settings": json.loads(outcome.settings),
        "eval_version": outcome.version,
        "measured": [
            {"run_id": run_id, **point._asdict()} for run_id, points in outcome.measured.items() for point in points
        ],
        "known": outcome.known,
        "left_out": [{"run_id": run_id, "reason": reason} for run_id, reason in outcome.left_out.items()],
    }


def _print(store: str, metric: str, outcome: Outcome, scores: Sequence[TaskScore]) -> None:
    counts = f"{len(outcome.measured)} runs measured, {len(outcome.known)} before, {len(outcome.left_out)} left out"
    print(f"{store}: {metric}: {counts}")
    rows = [[run_id, *cells] for run_id, points in outcome.measured.items() for cells in _cells(points)]
    if rows:
        out.print_table(["run", "metric", "x", "value", "se", "n"], rows, left=("run", "metric"))
    if scores:
        print()
        cells = [[s.run_id, s.metric, out.number(s.value, 4), s.status, s.reason] for s in scores]
        out.print_table(["run", "score", "value", "status", "why"], cells, left=("run", "score", "status", "why"))
    by_reason: dict[str, list[str]] = {}
    for run_id, reason in outcome.left_out.items():
        by_reason.setdefault(reason, []).append(run_id)
    for reason, runs in by_reason.items():
        named = ", ".join(runs[:3]) + (f" and {len(runs) - 3} more" if len(runs) > 3 else "")
        out.note(f"left out: {named}: {reason}")


def _cells(points: Sequence[Point]) -> list[list[str]]:
    """Values that stand alone one by one; of those along x the first, the last and some between; no items."""
    by_metric: dict[str, list[Point]] = {}
    for point in points:
        if not point.metric.endswith(("by_document", "by_item")):
            by_metric.setdefault(point.metric, []).append(point)
    found = []
    for metric, own in by_metric.items():
        if len(own) > MOST_POINTS:
            last = len(own) - 1
            shown = sorted({0, last, *(2**k - 1 for k in range(last.bit_length()))})
        else:
            shown = list(range(len(own)))
        found += [
            [metric, out.number(own[i].x), out.number(own[i].value, 4), out.number(own[i].se), out.number(own[i].n)]
            for i in shown
        ]
    return found
