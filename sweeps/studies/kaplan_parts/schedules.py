"""Schedules: the loss at the end under four learning-rate schedules, each at its best rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.replicates import pooled
from analysis.types import Estimate, Status
from sweeps.studies.part import CONVERGED, Finding, Number, Part, Scope, says

if TYPE_CHECKING:
    import pandas as pd

REFERENCE = "cosine"


class Schedules(Part):
    """See the module."""

    name = "schedules"
    title = "Learning-rate schedules"
    question = "Does the loss at the end depend on the schedule, once the rate decays (App. D.6, Fig. 22)?"
    design = "One size and budget; cosine, linear, warmup-stable-decay and constant, each at the best of its rates."
    sweeps = ("schedules",)
    limits = ("One size and one budget; how the schedules differ over longer runs is not asked.",)

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.figures.rates import plot_rates

        rows, where = scope.rows("schedules"), scope.where("schedules")
        effects = effects_of(rows, scope.level)
        numbers = [
            Number(
                f"effect_{e.schedule}", f"{e.schedule}: loss against {REFERENCE}'s, each at its best rate ({e.lr:g})",
                e.percent, str(e.status), where, e.runs, "best rate by mean ln loss; Student's interval, pooled seeds",
                e.reason, "%",
            )
            for e in effects
        ]  # fmt: skip
        done = rows[rows.status == "finished"]
        caption = "Loss at the end by peak rate and schedule; dots are seeds, the large dot a schedule's best rate."
        return Finding(
            numbers=tuple(numbers),
            pictures=(scope.draw("schedules", caption, lambda: plot_rates(done, line="schedule")),),
            says=_sentences(effects),
            detail={"effects": [vars(e) for e in effects]},
        )


@dataclass(frozen=True)
class Effect:
    """A schedule's loss at its best rate against the reference's, in percent; `not_resolved` where 0 is inside."""

    schedule: str
    lr: float
    loss: float
    percent: Estimate
    runs: int
    status: Status
    reason: str = ""


def effects_of(rows: pd.DataFrame, level: float) -> list[Effect]:
    """Each schedule against the reference: means over seeds of ln loss, one noise pooled over all cells."""
    done = rows[rows.status == "finished"]
    logs = np.log(done.loss.to_numpy(dtype=np.float64))
    noise = pooled(list(zip(done.schedule, done.lr, strict=True)), logs)
    means = done.assign(log=logs).groupby(["schedule", "lr"]).log.agg(["mean", "size"])
    best = {s: means.loc[s]["mean"].idxmin() for s in dict.fromkeys(done.schedule)}
    found = []
    for schedule, lr in sorted(best.items(), key=lambda item: (item[0] != REFERENCE, item[0])):
        tried = sorted(set(rows[rows.schedule == schedule].lr))
        mean, n = means.loc[(schedule, lr)]
        base, m = means.loc[(REFERENCE, best[REFERENCE])]
        half = 100.0 * noise.half_width(1.0 / n + 1.0 / m, level)
        effect = 100.0 * float(mean - base)
        half = 0.0 if schedule == REFERENCE else half
        value = Estimate(effect, (effect - half, effect + half), level)
        status, reason = (Status.CONVERGED, "") if schedule == REFERENCE else value.told_from(no_interval="no seeds")
        if lr in (tried[0], tried[-1]):
            end = "lowest" if lr == tried[0] else "highest"
            status, reason = Status.NON_INTERIOR, f"the best rate is the {end} of {len(tried)} tried"
        found.append(Effect(schedule, float(lr), math.exp(mean), value, int(n), status, reason))
    return found


def _sentences(effects: list[Effect]) -> tuple[str, ...]:
    """Whether the decaying schedules differ, and what not to decay costs."""
    text = []
    decaying = [e for e in effects if e.schedule not in (REFERENCE, "constant")]
    clear = [e for e in decaying if str(e.status) == CONVERGED]
    if decaying and not clear:
        text.append(f"No decaying schedule is told from {REFERENCE} at its best rate.")
    text += [f"{e.schedule} differs from {REFERENCE} by {says(e.percent)} %." for e in clear]
    for e in effects:
        if e.schedule == "constant":
            bound = f"; {e.reason}, so that a better one may cost less" if e.status is Status.NON_INTERIOR else ""
            text.append(f"Not to decay at all costs {says(e.percent)} %{bound}.")
    return tuple(text)


PART = Schedules()
