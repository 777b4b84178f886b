"""What a repeated token is worth against a fresh one, measured without a law; free epochs, and epochs that hurt."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from analysis.law_worth import data_term_worth
from analysis.types import Estimate
from sweeps.studies.part import (
    CONVERGED,
    Finding,
    Number,
    Part,
    Scope,
    plain,
    says,
    show,
    unknown,
)
from sweeps.studies.repetition_parts.law import PUBLISHED, SWEEPS

if TYPE_CHECKING:
    from analysis.repetition import Point, Repetition, Series, Step

CALL = "analysis.repetition.measure_repetition(rows, law)"
EARLY = 4.0
"""Epochs that the paper calls nearly free."""


class Worth(Part):
    """See the module."""

    name = "worth"
    title = "The worth of a repeated token"
    question = (
        "How many fresh tokens would have given the loss of a run on repeated text, and so what is a token worth the"
        " second, fourth or sixteenth time (Figs. 3 and 5)? Up to how many epochs is the loss that of fresh text? When"
        " do more epochs hurt?"
    )
    design = (
        "Sizes × limited texts × epochs, beside fresh runs of each size at the same tokens; all with dropout 0.1, a"
        " cosine decay that ends with the run, and batch and rate by the tokens seen. The fresh tokens of equal loss"
        " are read off each size's fresh runs by a monotone cubic in ln L over ln D, without a law. Noise is that"
        " between seeds, one for all runs; intervals are from draws of it through the whole reading, Student's."
        " The law's worth is found by the same inversion; its data term alone is the paper's e^(−R/R_D*)."
    )
    uses = SWEEPS
    limits = (
        "Intervals hold the noise of seeds, pooled over all runs from a few cells; not that of the choice of text, of"
        " which there is one a size of text, nor of rates and batches, which follow a recipe.",
        "A mean over cells is over sizes and texts unlike each other, fewer at more epochs; the law's beside it is over"
        " the same cells.",
        "'Within the noise' is no proof of equality: the excess with its interval says what could hide there. Of many"
        " cells some exclude 0 by chance.",
        "Bytes: a token is a byte, and four epochs of 2^18 to 2^22 bytes are little text.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.figures.repetition import plot_repetition_loss, plot_repetition_worth
        from analysis.repetition import measure_repetition

        rows, where = scope.rows(*SWEEPS), scope.where(*SWEEPS)
        found = measure_repetition(
            rows, scope.handed_on["law"], level=scope.level, bootstrap=scope.bootstrap, seed=scope.seed
        )
        numbers = [n for s in found.by_epoch for n in _step(s, where)]
        numbers += [_by_size(s, where) for s in found.by_size]
        numbers += [n for p in found.points if p.epochs == EARLY for n in [_excess(p, where)]]
        numbers += [n for s in found.series for n in _series(s, where)]
        loss = "Loss by tokens seen for each amount of unique text, beside fresh text, with the fitted law."
        worth = "Worth of a token by epoch, measured and by the law, and the loss above fresh text's."
        return Finding(
            numbers=tuple(numbers),
            pictures=(
                scope.draw("repetition-worth", worth, lambda: plot_repetition_worth(found)),
                scope.draw("repetition-loss", loss, lambda: plot_repetition_loss(found)),
            ),
            says=(*_sentences(found), *found.warnings),
            detail={"repetition": found},
        )


def _span(step: Step) -> str:
    """Such as `epoch 2` or `epochs 3 to 4`."""
    first = step.first + 1
    return f"epoch {step.last:g}" if first >= step.last else f"epochs {first:g} to {step.last:g}"


def _step(step: Step, where: str) -> list[Number]:
    """The measured mean of a step, the law's, and its data term's."""
    name, over = f"{step.last:g}", f"mean over {step.cells} cells"
    theirs = float(data_term_worth(PUBLISHED["R_D"], step.first, step.last))
    status, reason = str(step.status), step.reason
    lawless = "the law has no values"
    known = step.law.known
    return [
        Number(
            f"worth_{name}", f"worth of a token in {_span(step)}, {over}", step.worth, status, where, step.cells, CALL,
            reason, "", theirs,
        ),
        Number(
            f"law_worth_{name}", f"the same by the law, {_span(step)}", step.law,
            CONVERGED if known else "not_resolved", where, step.cells, CALL, "" if known else lawless,
        ),
        Number(
            f"data_term_{name}", f"by the law's data term alone, {_span(step)}", step.data_term,
            CONVERGED if step.data_term.known else "not_resolved", where, step.cells, CALL,
            "" if step.data_term.known else lawless, "", theirs,
        ),
    ]  # fmt: skip


def _by_size(step: Step, where: str) -> Number:
    return Number(
        f"worth_{step.last:g}_{step.params:.0f}", f"worth of a token in {_span(step)} at N = {show(step.params)}",
        step.worth, str(step.status), where, step.cells, CALL, step.reason,
    )  # fmt: skip


def _cell(params: float, unique: float) -> tuple[str, str]:
    return f"{params:.0f}_{unique:.0f}", f"N = {show(params)}, U = {show(unique)}"


def _percent(e: Estimate) -> Estimate:
    return Estimate(100.0 * e.value, (100.0 * e.ci[0], 100.0 * e.ci[1]), e.level)


def _told(e: Estimate) -> tuple[str, str]:
    """Status and reason of an estimate that is asked whether it is 0."""
    status, reason = e.told_from(no_interval="no interval" if e.known else "no fresh run of as many tokens")
    return str(status), reason


def _excess(point: Point, where: str) -> Number:
    name, cell = _cell(point.params, point.unique_tokens)
    status, reason = _told(point.excess)
    label = f"loss above fresh text's after {point.epochs:g} epochs, {cell}"
    value = _percent(point.excess)
    return Number(f"excess_{point.epochs:g}_{name}", label, value, status, where, point.runs, CALL, reason, "%")


def _series(series: Series, where: str) -> list[Number]:
    """Free epochs, and what the last increase of epochs did."""
    name, cell = _cell(series.params, series.unique_tokens)
    level, most = series.last_change.level, series.most_epochs
    if math.isfinite(series.free_epochs):
        resolved = math.isfinite(series.resolved_at)
        worth = (CONVERGED, "") if resolved else ("not_resolved", f"so is every number tried, up to {most:g}")
        free = plain(series.free_epochs, level)
    else:
        reason = "one pass over it already differs" if series.resolved_at == 1.0 else "no fresh run, or no noise"
        worth, free = ("non_interior" if series.resolved_at == 1.0 else "not_resolved", reason), unknown(level)
    count = 0 if not math.isfinite(most) else 1
    return [
        Number(
            f"free_{name}", f"epochs up to which the loss is within the noise of fresh text's, {cell}", free, worth[0],
            where, count, CALL, worth[1],
        ),
        Number(
            f"last_change_{name}", f"change of the loss by the last increase of epochs, to {most:g}, {cell}",
            _percent(series.last_change), str(series.status), where, count, CALL, series.reason, "%",
        ),
    ]  # fmt: skip


def _sentences(found: Repetition) -> tuple[str, ...]:
    """What one pass over a limited text says of it, what the worth is beside the law's, and who overfits."""
    if not found.points:
        return (f"Nothing could be measured: {found.reason}.",)
    text = []
    if found.noise.dof:
        text.append(
            f"Seeds differ by {100 * found.noise.sd:.2g} % (sd of the log loss, {found.noise.dof} degrees of freedom)."
        )
    once = [p for p in found.points if p.epochs == 1.0 and p.excess.known]
    apart = [p for p in once if p.excess.excludes()]
    if once:
        far = max(once, key=lambda p: abs(p.excess.value))
        text.append(
            f"Seen once, {len(apart)} of {len(once)} limited texts differ from as many tokens of the whole text by more"
            f" than the noise; the largest difference is {says(_percent(far.excess))} %, at N = {show(far.params)} and"
            f" U = {show(far.unique_tokens)}."
        )
    for step in found.by_epoch:
        if step.worth.known and step.law.known:
            text.append(
                f"In {_span(step)} a token is worth {says(step.worth)} of a fresh one; the law says {says(step.law)},"
                f" its data term alone {says(step.data_term)}."
            )
    for n in sorted({s.params for s in found.series}):
        mine = [s for s in found.series if s.params == n]
        hurt = [s for s in mine if str(s.status) == CONVERGED and s.last_change.value > 0]
        helped = [s for s in mine if str(s.status) == CONVERGED and s.last_change.value < 0]
        vague = len(mine) - len(hurt) - len(helped)
        text.append(
            f"N = {show(n)}: the last increase of epochs hurt on {len(hurt)}, helped on {len(helped)} and is not"
            f" resolved on {vague} of {len(mine)} texts."
        )
    return tuple(text)


PART = Worth()
