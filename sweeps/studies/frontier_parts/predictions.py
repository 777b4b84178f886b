"""The rolling-origin ledger: every budget predicted from those below it before it was trained, and what came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.types import jsonable
from sweeps.studies.frontier_parts.decoder import ARM as DECODER
from sweeps.studies.frontier_parts.encoder import ARM as ENCODER
from sweeps.studies.frontier_parts.one_depth import ARM as ONE_DEPTH
from sweeps.studies.frontier_parts.rolling import SEEDS, Target, targets
from sweeps.studies.part import COST, COUNT, Finding, Part, Picture, Scope, Table, show

if TYPE_CHECKING:
    from analysis.figures.prediction import Scored
    from analysis.replicates import Pooled
    from sweeps.studies.frontier_parts.arm import Arm

ARMS = (DECODER, ONE_DEPTH, ENCODER)
BASELINES = {"power_law": "pure power law", "last_two": "line through the last two budgets"}
HEADER = (
    "", "C", "fitted up to", "predicted loss", "observed ± se", "error", "inside?", "interval score",
    *(f"{words}: loss, error, skill" for words in BASELINES.values()),
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A target and the observed mean with its standard error over seeds, NaN where it was not trained."""

    target: Target
    observed: float
    se: float

    def to_json(self) -> dict[str, Any]:
        """`{"family", "flops", "fitted", "state", "reason", "observed_mean", "se", …}` and the outcome."""
        t = self.target
        mine = {
            "family": t.family,
            "flops": t.flops,
            "fitted_up_to": t.fitted,
            "state": t.state,
            "reason": t.reason,
            "observed_mean": self.observed,
            "se": self.se,
        }
        return jsonable({**mine, "outcome": t.outcome})


class Predictions(Part):
    """See the module."""

    name = "predictions"
    title = "Predictions registered before training"
    question = (
        "Does a law fitted to cheap runs say what the compute-optimal run of the next budget, and of one ten times the"
        " largest, will reach, and does it do so better than a pure power law of compute or a straight line?"
    )
    design = (
        "Rolling origin: before a rung is trained, Hoffmann's law is fitted to the rungs below it alone, the best"
        " size at its budget is found, and the mean loss of two seeds of the recipe's nearest shape to it is"
        " predicted with a 90 % interval: the law's uncertainty by joint draws of its parameters, and the noise of"
        " two runs. The prediction goes into the store's ledger, which refuses a target that is trained already and"
        " chains its entries by digest; then rung and target are trained. The last two targets, 2.5 and 10 times the"
        " largest budget, are both predicted from all rungs. A rung that was trained before a forecast stood in the"
        " ledger stays without. The decoder of one depth shares its smaller sizes with the other, so that its rungs"
        " were there before it was thought of: of it only the nearest target is predicted."
    )
    limits = (
        "Targets of one family rest on nested sets of runs, and the last two on the same fit: they are not independent,"
        " and so many inside their intervals is no coverage. How often the intervals cover is measured on simulated"
        " sweeps (`results/benchmarks/coverage.md`).",
        "The loss is flat in N near the optimum: a good prediction of the loss says little of the predicted N*.",
        "Whether law and pure power law part was looked at after the decoder's misses were seen, before the encoder's"
        " forecasts were made.",
        "The error of held-out text is shared by all runs and is in no interval; nor is what a wrong form of the law"
        " does far beyond the budgets that were fitted.",
    )
    last = True

    def missing(self, scope: Scope) -> str:
        """See `Part.missing`."""
        found = [t for arm in ARMS for t in _targets(scope, arm)]
        return "" if any(t.state != "to come" for t in found) else "no forecast is registered yet"

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        lines = {arm.key: _lines(scope, arm) for arm in ARMS}
        text = [s for arm in ARMS for s in _sentences(arm, lines[arm.key])]
        title = (
            f"Each forecast and what came, mean of {len(SEEDS)} seeds (`scaling score store`); errors are predicted"
            " less observed, skill is 1 − |error|/|baseline's error|."
        )
        every = [line for arm in ARMS for line in lines[arm.key]]
        return Finding(
            tables=(Table(title, HEADER, tuple(_row(line) for line in every)),),
            pictures=tuple(p for arm in ARMS for p in _draw(scope, arm, lines[arm.key])),
            says=tuple(text),
            detail={"targets": every},
        )


def complete(finding: dict[str, Any]) -> bool:
    """Whether every budget of fits.json's part is scored, or has no forecast and a reason."""
    lines = finding["detail"].get("targets", [])
    return bool(lines) and all(line["state"] in ("scored", "not predicted") for line in lines)


def _targets(scope: Scope, arm: Arm) -> list[Target]:
    return targets(arm.family(scope), scope.store)


def _lines(scope: Scope, arm: Arm) -> list[Line]:
    found = _targets(scope, arm)
    noise = _noise(scope, arm, found)
    lines = []
    for t in found:
        losses = np.array(t.outcome.observed if t.outcome is not None and t.outcome.score is not None else [])
        mean = float(losses.mean()) if losses.size else math.nan
        lines.append(Line(t, mean, mean * noise.sd / math.sqrt(max(losses.size, 1))))
    return lines


def _noise(scope: Scope, arm: Arm, found: Sequence[Target]) -> Pooled:
    """Between seeds, pooled over every repeated cell of the family, its targets among them."""
    from analysis.replicates import Pooled, pooled, recipes
    from analysis.table import read_table
    from analysis.where import select_rows

    family = arm.family(scope)
    names = [s.name for s in (family.main, *family.repeats)]
    ids = [i for t in found if t.outcome is not None for i in t.outcome.entry.target.run_ids]
    where = " or ".join([*(f"sweep == '{n}'" for n in names), *([f"run_id in {ids}"] if ids else [])])
    if not (select_rows(scope.frame, where) & (scope.frame.status == "finished")).any():
        return Pooled(math.nan, 0)
    runs = read_table(scope.store, where=where)
    return pooled(recipes(runs, COUNT), np.log(runs.loss))


def _row(line: Line) -> tuple[str, ...]:
    t = line.target
    start = (t.family, show(t.flops), show(t.fitted))
    if t.outcome is None:
        return (*start, t.state + (f": {t.reason}" if t.reason else ""), *[""] * (len(HEADER) - 4))
    entry, score = t.outcome.entry, t.outcome.score
    loss = entry.predicted.loss
    lo, hi = ("?" if end is None else f"{end:.4f}" for end in loss.ci)
    predicted = f"{loss.value:.4f} [{lo}, {hi}]"
    guesses = [entry.baselines.get(name) for name in BASELINES]
    if score is None:
        unscored = ["–" if g is None else f"{g:.4f}" for g in guesses]
        return (*start, predicted, "not trained yet", "", "", "", *unscored)
    late = ", began before it was registered" if t.outcome.made_after_training else ""
    return (
        *start,
        predicted,
        f"{line.observed:.4f} ± {show(line.se)}{late}",
        f"{100 * score.error_relative:+.2f} %",
        "yes" if score.inside else "**no**",
        f"{score.interval_score:.4f}",
        *(_baseline(score, name, guess) for name, guess in zip(BASELINES, guesses, strict=True)),
    )


def _baseline(score: Any, name: str, guess: float | None) -> str:
    if guess is None or name not in score.baseline_errors:
        return "–"
    return f"{guess:.4f}, {100 * score.baseline_errors[name] / score.observed:+.2f} %, {score.skill[name]:+.2f}"


def _sentences(arm: Arm, lines: Sequence[Line]) -> list[str]:
    scored = [line for line in lines if line.target.state == "scored"]
    without = [line.target for line in lines if line.target.state == "not predicted"]
    text = []
    if scored:
        inside = sum(line.target.outcome.score.inside for line in scored)  # type: ignore[union-attr]
        text.append(
            f"{arm.label}: {inside} of {len(scored)} observed losses lie inside their 90 % intervals; the targets are"
            " not independent, so this is no coverage."
        )
    for line in scored:
        outcome = line.target.outcome
        if outcome is None or outcome.score is None:
            continue
        score = outcome.score
        if not score.inside:
            side = "below" if score.error_nats > 0 else "above"
            text.append(
                f"{arm.label}: a miss at {show(line.target.flops)} FLOPs: the observed loss lies {side} the interval,"
                f" {abs(100 * score.error_relative):.2f} % off the prediction."
            )
        if outcome.made_after_training:
            text.append(f"{arm.label}: {show(line.target.flops)} FLOPs: {'; '.join(outcome.reasons)}.")
    for line in lines:
        if line.target.outcome is not None and line.target.outcome.fitted_runs:
            text.append(f"{arm.label}: {show(line.target.flops)} FLOPs: {line.target.outcome.fitted_runs}.")
    text += _parted(arm, lines)
    text += [f"{arm.label}: {show(t.flops)} FLOPs is not predicted: {t.reason}." for t in without]
    waiting = [show(line.target.flops) for line in lines if line.target.state in ("registered", "to come")]
    if waiting:
        text.append(f"{arm.label}: not trained yet: {', '.join(waiting)} FLOPs.")
    return text


def _parted(arm: Arm, lines: Sequence[Line]) -> list[str]:
    """Where law and pure power law parted before anything was trained, and how many of those forecasts missed."""
    apart: list[Line] = []
    together: list[Line] = []
    for line in lines:
        if line.target.outcome is None:
            continue
        entry = line.target.outcome.entry
        guess, (lo, hi) = entry.baselines.get("power_law"), entry.predicted.loss.ci
        if guess is not None and lo is not None and hi is not None:
            (together if lo <= guess <= hi else apart).append(line)
    if not apart:
        return []

    def missed(some: Sequence[Line]) -> str:
        scores = [o.score for o in (line.target.outcome for line in some) if o is not None and o.score is not None]
        return f"{sum(not s.inside for s in scores)} of {len(scores)} missed" if scores else "none is trained yet"

    at = ", ".join(show(line.target.flops) for line in apart)
    others = f"; of the others {missed(together)}" if together else ""
    return [
        f"{arm.label}: at {at} FLOPs the pure power law's guess lay outside the law's interval when both were"
        f" registered: there the form of the law decides. Of these forecasts {missed(apart)}{others}."
    ]


def _draw(scope: Scope, arm: Arm, lines: Sequence[Line]) -> list[Picture]:
    """The family's forecasts against what came; none where nothing was predicted."""
    from analysis.figures.material import convention_of
    from analysis.figures.prediction import plot_prediction
    from analysis.table import read_table

    drawn = [_scored(arm, line) for line in lines if line.target.outcome is not None]
    if not drawn:
        return []
    main = arm.family(scope).main.name
    convention = convention_of(read_table(scope.store, where=f"sweep == '{main}'"), COUNT, COST)
    caption = f"Predicted loss and what was observed, law and baselines ({arm.label})."
    name = f"{arm.key}-predictions"
    return [scope.draw(name, caption, lambda: plot_prediction(drawn, convention=convention, title=arm.label))]


def _scored(arm: Arm, line: Line) -> Scored:
    from dataclasses import replace

    assert line.target.outcome is not None
    return replace(line.target.outcome.drawn(), name=arm.label, observed=line.observed, observed_se=line.se)


PART = Predictions()
