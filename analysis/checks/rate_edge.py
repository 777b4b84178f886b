"""Learning rate at its grid's edge: where the best rate tried is the lowest or highest, the optimum lies beyond."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from analysis.checks.base import Check, Finding, Subject, Verdict
from analysis.checks.response import Rung


def edge_of(rung: Rung, rate: np.ndarray, batch: np.ndarray, loss: np.ndarray, sigma: float) -> tuple[Verdict, str]:
    """Whether the best rate of a rung's best batch is at the edge of the rates tried with that batch."""
    rows = rung.rows
    best = rows[np.argmin(loss[rows])]
    column = rows[np.isclose(batch[rows], batch[best])]
    rates = np.unique(rate[column])
    if rates.size < 3:
        return Verdict.CANNOT_TELL, f"{rates.size} rates"
    means = np.array([np.log(loss[column[rate[column] == r]]).mean() for r in rates])
    at = int(np.argmin(means))
    if 0 < at < rates.size - 1:
        return Verdict.CLEAR, f"best rate {rates[at]:.3g} of {rates[0]:.3g} to {rates[-1]:.3g}"
    word, inner = ("lowest", 1) if at == 0 else ("highest", rates.size - 2)
    if means[inner] - means[at] < sigma:
        return Verdict.CANNOT_TELL, f"the {word} rate {rates[at]:.3g} ties with its neighbour"
    return Verdict.SUSPECTED, f"best at the {word} rate tried, {rates[at]:.3g}"


class RateEdge(Check):
    """The best learning rate of a rung is the lowest or highest that was tried."""

    name: ClassVar[str] = "rate_edge"
    summary: ClassVar[str] = "a rung's best learning rate lies at the edge of the rates tried"
    source: ClassVar[str] = "Porian et al. 2024, arXiv 2406.19146"
    undertuning: ClassVar[bool] = True

    def look(self, subject: Subject) -> Finding:
        """See `Check.look`; needs an `lr` column and rungs with three rates."""
        rate = subject.number("lr", "peak_lr", "learning_rate")
        if rate is None:
            return self.cannot_tell("the table has no lr column")
        if not subject.rungs:
            return self.cannot_tell("no size and budget was trained at several learning rates")
        batch = subject.batch if subject.batch is not None else np.ones(rate.size)
        loss = subject.runs.loss
        sigma = subject.known_sigma() if subject.seeds is not None else 0.0
        found = [(rung, *edge_of(rung, rate, batch, loss, sigma)) for rung in subject.rungs]
        measured = {rung.name: {"verdict": verdict.value, "reason": why} for rung, verdict, why in found}
        edge = [(rung, why) for rung, verdict, why in found if verdict is Verdict.SUSPECTED]
        if edge:
            named = "; ".join(f"{rung.name}: {why}" for rung, why in edge[:3])
            rows = subject.label(np.concatenate([rung.rows for rung, _ in edge]))
            return self.suspected(f"{len(edge)} of {len(found)} rungs: {named}", rows, rungs=measured)
        unsure = [(rung, why) for rung, verdict, why in found if verdict is Verdict.CANNOT_TELL]
        if len(unsure) == len(found):
            return self.cannot_tell(f"{unsure[0][0].name}: {unsure[0][1]}; an optimum needs three", rungs=measured)
        note = f"; {len(unsure)} more cannot be told" if unsure else ""
        return self.clear(f"interior in {len(found) - len(unsure)} rungs{note}", rungs=measured)
