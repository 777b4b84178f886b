"""Metrics on which objectives with losses on different axes are compared: measured from the kept final weights.

Each is paired over its items. Tasks need data that no corpus has, from the folder that SCALING_TEST_DATA names; where
that or the English is missing a metric is `not_measured` and says why, unless the store has it of every run already. A
score on a task counts only where every run of both arms beats an untrained model and n-grams by three standard errors,
else it is `below_baseline`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from analysis.contrasts import Contrast, Scored, contrast, seed_noise, slope_weights
from analysis.figures.contrasts import Point
from analysis.replicates import Pooled
from analysis.types import Estimate, Status
from scaling.store import Store
from sweeps.studies.objectives_parts.arms import Arm, number, of, sums_by
from sweeps.studies.part import Number, Scope, records

if TYPE_CHECKING:
    from scaling.evaluations.base import Evaluation

BELOW, NOT_MEASURED = "below_baseline", "not_measured"
DATA = "SCALING_TEST_DATA"
WINDOWS = {"smoke": 4, "toy": 128, "full": 256}
PAIRS = {"smoke": 1, "toy": 5, "full": 50}
TEXTS = {"smoke": 100, "toy": 10_000, "full": 20_000}


@dataclass(frozen=True)
class Metric:
    """What is measured, by which evaluation (of the scale and the task's folder), and the name it stores items under.

    `kind`: `documents` are summed losses, compared by percent; `shares` are right answers and `cosines` are ranked
    against human scores, both compared in points (hundredths). `folder` is the task's, below `tasks`.
    """

    name: str
    label: str
    kind: Literal["documents", "shares", "cosines"]
    stored: str
    items: str
    make: Callable[[str, str], Evaluation]
    folder: str = ""

    @property
    def unit(self) -> str:
        """Of a difference."""
        return "%" if self.kind == "documents" else "points"

    @property
    def judged(self) -> bool:
        """Whether it has baselines to beat."""
        return self.stored.startswith(("probe:", "sts", "sentence_pairs:"))


def _pll(scale: str, path: str) -> Evaluation:
    from scaling.evaluations.pseudo_log_likelihood import PseudoLogLikelihood

    return PseudoLogLikelihood(windows=WINDOWS[scale])


def _minimal(scale: str, path: str) -> Evaluation:
    from scaling.evaluations.minimal_pairs import MinimalPairs

    return MinimalPairs(path=path, limit=PAIRS[scale])


def _probe(scale: str, path: str) -> Evaluation:
    from scaling.evaluations.linear_probe import LinearProbe

    return LinearProbe(path=path, limit=TEXTS[scale])


def _sts(scale: str, path: str) -> Evaluation:
    from scaling.evaluations.sts import Sts

    return Sts(path=path)


def _adjacent(scale: str, path: str) -> Evaluation:
    from scaling.evaluations.sentence_pairs import SentencePairs

    return SentencePairs(relation="adjacent")


def _order(scale: str, path: str) -> Evaluation:
    from scaling.evaluations.sentence_pairs import SentencePairs

    return SentencePairs(relation="order")


PLL = Metric(
    "pll", "pseudo-log-likelihood, nats per token", "documents", "pseudo_log_likelihood",
    "pseudo_log_likelihood:by_document", _pll,
)  # fmt: skip
BLIMP = Metric("blimp", "minimal pairs (BLiMP)", "shares", "minimal_pairs", "minimal_pairs:by_item", _minimal, "blimp")
SUBJECTIVITY = Metric(
    "subjectivity", "probe, subjectivity", "shares", "probe:subjectivity", "probe:subjectivity:by_item", _probe,
    "nltk_subjectivity",
)  # fmt: skip
SST2 = Metric("sst2", "probe, SST-2", "shares", "probe:sst2", "probe:sst2:by_item", _probe, "sst2")
STS = Metric("sts", "similarity, STS-B", "cosines", "sts", "sts:by_item", _sts, "stsb")
ADJACENT = Metric(
    "adjacent", "probe, neighbouring sentences", "shares", "sentence_pairs:adjacent", "sentence_pairs:adjacent:by_item",
    _adjacent,
)  # fmt: skip
ORDER = Metric(
    "order", "probe, order of sentences", "shares", "sentence_pairs:order", "sentence_pairs:order:by_item", _order
)


@dataclass(frozen=True, eq=False)
class Scores:
    """What a metric gave for some runs; `reason` where it gave nothing, `below` why a run does not count."""

    metric: Metric
    by_run: Mapping[str, Scored]
    noise: Pooled
    reason: str = ""
    below: Mapping[str, str] = field(default_factory=dict)

    @property
    def call(self) -> str:
        """The command line that measures it."""
        kind = self.metric.stored.split(":")[0].replace("probe", "linear_probe")
        path = f" --set path=TASKS/{self.metric.folder}" if self.metric.folder else ""
        more = f" --set relation={self.metric.name}" if kind == "sentence_pairs" else ""
        return f"scaling evaluate store --metric {kind}{path}{more}"


def scores_of(scope: Scope, metric: Metric, arms: Sequence[Arm]) -> Scores:
    """The runs of some arms, measured where they were not yet."""
    nothing = Pooled(float("nan"), 0)
    path = _path(metric)
    from scaling.evaluations.measuring import measure_runs
    from scaling.evaluations.subject import trial_of

    rows = [row for arm in arms for row in records(arm.rows)]
    evaluation = metric.make(scope.scale, path)
    if metric.folder and not path:
        ids = [str(row["run_id"]) for row in rows]
        held = _held(scope, metric, evaluation, ids)
        if held is None:
            return Scores(metric, {}, nothing, f"{DATA} names no folder that holds tasks/{metric.folder}")
        return _scores(scope, metric, arms, evaluation, ids, held)
    refused = {reason for row in rows if (reason := evaluation.serves(trial_of(row)))}
    if refused and all(evaluation.serves(trial_of(row)) for row in rows):
        return Scores(metric, {}, nothing, "; ".join(sorted(refused)))
    outcome = measure_runs(Store.open(scope.store, write=True), evaluation, rows)
    ids = [*outcome.measured, *outcome.known]
    if not ids:
        return Scores(metric, {}, nothing, "; ".join(sorted(set(outcome.left_out.values()))) or "no run to measure")
    return _scores(scope, metric, arms, evaluation, ids, outcome.settings, outcome.left_out)


def _scores(
    scope: Scope,
    metric: Metric,
    arms: Sequence[Arm],
    evaluation: Evaluation,
    ids: Sequence[str],
    settings: str,
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> Scores:
    """What the store has of some runs; nothing where an arm has no run with a value."""
    nothing = Pooled(float("nan"), 0)
    by_run = _read(scope, metric, evaluation, ids, settings)
    bare = [i for arm in arms if not of(by_run, arm.ids) for i in arm.ids]
    if bare:
        runs = sum(len(arm.ids) for arm in arms)
        why = "; ".join(sorted({left_out.get(i, "no value") for i in bare}))
        return Scores(metric, {}, nothing, f"{len(bare)} of {runs} runs could not be: {why}")
    noise = seed_noise([of(by_run, arm.ids) for arm in arms])
    return Scores(metric, by_run, noise, "", _below(scope, ids, settings) if metric.judged else {})


def _held(scope: Scope, metric: Metric, evaluation: Evaluation, ids: Sequence[str]) -> str | None:
    """The settings under which the store has every one of some runs measured, where the task itself is not at hand.

    None where that is not so of exactly one, and of rankings, which are read against the task's own scores.
    """
    if metric.kind == "cosines":
        return None
    evals = Store.open(scope.store).evals(list(ids), metric.items)
    evals = evals[evals.eval_version == evaluation.version]
    whole = [str(settings) for settings, part in evals.groupby("settings") if set(part.run_id) == set(ids)]
    return whole[0] if len(whole) == 1 else None


def _path(metric: Metric) -> str:
    root = os.environ.get(DATA, "")
    place = Path(root) / "tasks" / metric.folder
    return str(place) if root and metric.folder and place.is_dir() else ""


def _read(scope: Scope, metric: Metric, evaluation: Any, ids: Sequence[str], settings: str) -> dict[str, Scored]:
    """Each run's score with its draws over items."""
    if metric.kind != "cosines":
        return sums_by(scope.store, ids, metric.items, settings, log=metric.kind == "documents")
    from scaling.evaluations.spread import correlation

    evals = Store.open(scope.store).evals(list(ids), metric.items)
    found = {}
    for run, part in evals[evals.settings == settings].groupby("run_id"):
        cosines = part.sort_values("x").value.to_numpy()
        found[str(run)] = Scored(*correlation(cosines, evaluation.pairs.score))
    return found


def _below(scope: Scope, ids: Sequence[str], settings: str) -> dict[str, str]:
    from analysis.probes import BELOW as LOST
    from analysis.probes import judge

    evals = Store.open(scope.store).evals(list(ids))
    found = judge(evals[evals.settings == settings])
    return {s.run_id: f"{s.metric} {s.value:.3f}: {s.reason}" for s in found if s.status == LOST}


def effect(
    scope: Scope, scores: Scores, name: str, label: str, a: Sequence[Arm], b: Sequence[Arm], weights: Any = None
) -> tuple[Number, Point]:
    """Arms b less arms a, one for one, averaged (or by `weights`), as a number and a point of the figure."""
    metric, arms = scores.metric, [*a, *b]
    w = [1.0 / len(a)] * len(a) if weights is None else [float(x) for x in weights]
    terms = [(c * s, of(scores.by_run, arm.ids)) for s, side in ((1.0, b), (-1.0, a))
             for c, arm in zip(w, side, strict=True)]  # fmt: skip
    full = f"{metric.label}: {label}"
    if scores.reason:
        missing = Contrast(Estimate.missing(scope.level), float("nan"), float("nan"), 0, Status.TOO_FEW_POINTS)
        return (
            number(
                f"{metric.name}_{name}", full, missing, arms, scores.call, status=NOT_MEASURED, reason=scores.reason
            ),
            Point(float(a[0].params), missing, NOT_MEASURED),
        )
    found = contrast(terms, scores.noise, scope.level, scale=100.0)
    lost = sorted({scores.below[i] for arm in arms for i in arm.ids if i in scores.below})
    status, reason = "", ""
    if lost:
        more = f" (and {len(lost) - 1} runs more)" if len(lost) > 1 else ""
        status, reason = BELOW, lost[0] + more
    made = number(f"{metric.name}_{name}", full, found, arms, scores.call, unit=metric.unit, status=status,
                  reason=reason)  # fmt: skip
    return made, Point(float(a[0].params), found, made.status)


def trend(scope: Scope, scores: Scores, name: str, label: str, a: Sequence[Arm], b: Sequence[Arm]) -> Number:
    """How b less a changes with size, by a factor of ten in N."""
    import numpy as np

    weights = np.log(10.0) * slope_weights(np.log([arm.params for arm in a]))
    return effect(scope, scores, name, label, a, b, weights)[0]


def sentence(made: Number) -> str:
    """A number in words."""
    from sweeps.studies.part import CONVERGED, says

    if made.status == NOT_MEASURED:
        return f"{made.label}: not measured, {made.reason}."
    told = "" if made.status == CONVERGED else f" ({made.status}: {made.reason})"
    return f"{made.label}: {says(made.value)} {made.unit}{told}."
