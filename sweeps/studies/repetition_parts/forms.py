"""Which form predicts runs that were held out: the data-constrained law, the bounded one, or none for repetition."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from analysis.types import Estimate
from sweeps.studies.part import (
    CONVERGED,
    COST,
    COUNT,
    Finding,
    Number,
    Part,
    Scope,
    of_fit,
    plain,
    says,
    unknown,
)
from sweeps.studies.repetition_parts.law import LAW, SWEEPS, WITHOUT

if TYPE_CHECKING:
    from analysis.choosing import Choice

RIVAL = "bounded"
LAWS = (WITHOUT, LAW, RIVAL)
HOLDOUTS = {
    "epochs": "the runs of most epochs",
    "unique_tokens": "each limited text in turn",
    "size": "each size in turn",
}
WANTED = {
    "E": ("bounded_E", "floor E of the bounded law"),
    "L0": ("bounded_L0", "ceiling L0 of the bounded law"),
    "gamma": ("bounded_gamma", "γ, exponent of size in overfitting"),
    "delta": ("bounded_delta", "δ, exponent of unique text in overfitting"),
}


class Forms(Part):
    """See the module."""

    name = "forms"
    title = "Which law foretells repeated runs"
    question = (
        "Does the bounded law of Bryant and Liu (arXiv 2605.09189), which has overfitting, predict runs that were held"
        " out better than the law of repeated data?"
    )
    design = (
        "Each law is fitted to some runs by Huber's loss and predicts the others: the runs of most epochs, each limited"
        " text, each size. Errors are root mean squares of the log loss; differences are paired, each law refitted in"
        " each draw. Hoffmann's law, which takes a repeated token for a fresh one, stands beside."
    )
    uses = SWEEPS
    limits = (
        "The bounded law has nine parameters, and its ceiling is told only by runs that have hardly learnt.",
        "Held-out runs are few and share the fits' text; a law that wins here has won on this text at these sizes.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.choosing import choose

        where = scope.where(*SWEEPS)
        fit = scope.fit(RIVAL, where)
        numbers, text, choices = of_fit(fit, WANTED, where), [], {}
        for holdout, words in HOLDOUTS.items():
            choice = choose(
                scope.store, LAWS, holdout=holdout, count=COUNT, cost=COST, level=scope.level, seed=scope.seed,
                bootstrap=scope.bootstrap,
                where=where,
            )  # fmt: skip
            choices[holdout] = choice
            command = (
                f"scaling choose store --law {','.join(LAWS)} --holdout {holdout} --count {COUNT} --cost {COST}"
                f' --where "{where}"'
            )
            numbers += _errors(choice, holdout, words, where, command, scope.level)
            text.append(_sentence(choice, words))
        return Finding(numbers=tuple(numbers), says=tuple(text), detail={"bounded": fit, "choices": choices})


def _errors(choice: Choice, holdout: str, words: str, where: str, command: str, level: float) -> list[Number]:
    """Each law's held-out error in percent, and the difference of the two laws of repetition."""
    found = []
    for law in LAWS:
        record = choice[law]
        known = math.isfinite(record.log_rmse)
        value = plain(100.0 * record.log_rmse, level) if known else unknown(level)
        found.append(
            Number(
                f"error_{holdout}_{law}", f"error of {law} on {words}", value, str(record.status), where,
                record.held_out, command, record.reason, "%",
            )
        )  # fmt: skip
    change = difference(choice, level)
    if not change.known:
        status, reason = str(choice.status), choice.reason or "a law could not be fitted"
        status = "not_resolved" if status == CONVERGED else status
    else:
        nearer = f"{choice.best} is nearer than both, and their own difference has no interval"
        told, reason = change.told_from(no_interval=nearer)
        status = str(told)
    label = f"error of {RIVAL} less that of {LAW}, {words}"
    found.append(
        Number(f"difference_{holdout}", label, change, status, where, choice[LAW].held_out, command, reason, "%")
    )
    return found


def difference(choice: Choice, level: float) -> Estimate:
    """Held-out error of the bounded law less the data-constrained one's, percent; an interval where one is the best."""
    ours, theirs = choice[LAW], choice[RIVAL]
    value = 100.0 * (theirs.log_rmse - ours.log_rmse)
    if not math.isfinite(value):
        return unknown(level)
    if choice.best == LAW and theirs.difference is not None:
        lo, hi = theirs.difference.ci
    elif choice.best == RIVAL and ours.difference is not None:
        lo, hi = (-end for end in reversed(ours.difference.ci))
    else:
        lo, hi = math.nan, math.nan
    return Estimate(value, (100.0 * lo, 100.0 * hi), level)


def _sentence(choice: Choice, words: str) -> str:
    if choice.best is None:
        return f"Held out {words}: no law could be tried, {choice.reason}."
    errors = ", ".join(f"{c.law} {100 * c.log_rmse:.2g} %" for c in choice.candidates if math.isfinite(c.log_rmse))
    told = "" if str(choice.status) == CONVERGED else f" ({choice.status}: {choice.reason})"
    change = difference(choice, choice.level)
    beside = f"; {RIVAL} less {LAW}: {says(change)} %" if change.known else ""
    return f"Held out {words}: nearest is {choice.best}{told}; errors {errors}{beside}."


PART = Forms()
