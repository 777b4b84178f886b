"""Causal against masked: exponents of the frontier, and the best tokens per parameter, at equal exact FLOPs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.approaches.isoflop import WIDE_GRID
from analysis.contrasts import Contrast, contrast, seed_noise
from analysis.types import Estimate, Status
from sweeps.studies.objectives_parts.arms import (
    ENOUGH_RATES,
    Arm,
    arms_of,
    document_scores,
    ids_where,
    interior_rates,
    number,
    of,
)
from sweeps.studies.part import CONVERGED, COST, COUNT, Finding, Number, Part, Picture, Scope, says, show

if TYPE_CHECKING:
    from analysis.comparing import Comparison, Difference
    from analysis.types import Frontier

SIDES = ("causal", "masked")
RUNS = {
    "causal": ("causal", "causal-again", "causal-seeds"),
    "masked": ("masked", "masked-again", "masked-seeds", "masked-lower"),
}
"""The isoFLOP runs of each."""
APPROACHES = ("isoflop", "vpnls")
PUBLISHED = {"causal": {"N": 0.578, "D": 0.422}, "masked": {"N": 0.776, "D": 0.230}}
"""Cheng et al. 2024 (arXiv 2411.02142), protein sequences."""


class CausalMasked(Part):
    """See the module."""

    name = "causal_masked"
    title = "Causal and masked language models at equal compute"
    question = (
        "Does a masked language model want more tokens or more parameters than a causal one at equal compute? Published"
        " evidence points both ways: on proteins N* ∝ C^0.578 causal and C^0.776 masked (Cheng et al. 2024), so ever"
        " more parameters for the masked one; for encoders of English, 10 to 100 times the tokens per parameter of"
        " causal models (OptiBERT, EMNLP 2025)."
    )
    design = (
        "The same isoFLOP design for both: budgets of exact FLOPs, sizes a factor 2 apart, one depth, one text, a rule"
        " of batch and rate for each objective. Every run is made with two seeds or more; at the lowest budget masked"
        " models have one size more, half the smallest of the others, since their best lay near that, and for the"
        " parabola one size less at the other end, since a grid wider than the others shifts its vertex. Rates and"
        " batches about the rule's at two sizes of the lowest budget say what the rule loses, and how far that moves"
        " the optimum. The two losses are on two axes and are never compared; exponents and tokens per parameter are."
    )
    sweeps = (
        "causal", "masked", "causal-again", "masked-again", "causal-tuning", "masked-tuning", "causal-seeds",
        "masked-seeds", "masked-lower",
    )  # fmt: skip
    limits = (
        "Three budgets within a factor of four: an exponent's interval is wide, and says nothing of larger budgets.",
        "Rates and batches are tuned at two sizes of the lowest budget only; elsewhere the rule is trusted.",
        "Bytes, not subwords: a token is about a quarter of one, so ratios carry over between the objectives, not their"
        " values to other vocabularies.",
        "The smallest models of the largest budget read some of the text twice, which a masked model, whose masks are"
        " new each time, may bear better.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.figures.comparison import plot_comparison

        found = {approach: _compared(scope, approach) for approach in APPROACHES}
        numbers: list[Number] = []
        for approach in APPROACHES:
            numbers += _exponents(scope, found[approach])
        numbers += _ratios(scope, found["isoflop"])
        tuning, text, gains = _tuning(scope, found["isoflop"])
        numbers += tuning
        pictures = [
            scope.draw(
                "causal-masked", "Causal (a) and masked (b): frontiers, tokens per parameter, exponents.",
                lambda: plot_comparison(replace(found["isoflop"], a=SIDES[0], b=SIDES[1])),
            ),
            *(_profile(scope, side, f) for side, f in zip(SIDES, found["isoflop"].frontiers, strict=True)),
        ]  # fmt: skip
        return Finding(
            numbers=tuple(numbers),
            pictures=tuple(pictures),
            says=(*_sentences(found["isoflop"]), *text, *_cautions(found)),
            detail={"comparisons": found, "tuning": gains},
        )


def _cautions(found: Mapping[str, Comparison]) -> list[str]:
    """What was left out of a frontier, and what it warns of."""
    text = []
    for approach, compared in found.items():
        for side, f in zip(SIDES, compared.frontiers, strict=True):
            text += [f"{side.capitalize()}, {approach}: {d.row} left out, {d.reason}." for d in f.dropped]
            text += [f"{side.capitalize()}, {approach}: {w}." for w in f.warnings]
    return text


def _compared(scope: Scope, approach: str) -> Comparison:
    """Masked (b) against causal (a), every seed of the isoFLOP runs, at the rule's settings."""
    from analysis.comparing import compare

    return compare(
        str(scope.store), str(scope.store), approach=approach, count=COUNT, cost=COST, bootstrap=scope.bootstrap,
        level=scope.level, seed=scope.seed, where_a=_where(scope, approach, "causal"),
        where_b=_where(scope, approach, "masked"),
    )  # fmt: skip


def _where(scope: Scope, approach: str, *sides: str) -> str:
    """The runs of one side or both.

    A parabola is only near the minimum the surface: with the size below, a budget's grid would be wider than the others
    and its vertex drawn to one side. For it the largest sizes of that budget, beyond `WIDE_GRID` times the least, are
    left out.
    """
    found = {side: scope.where(*RUNS[side]) for side in sides}
    if approach == "isoflop" and "masked" in found:
        lower = scope.rows("masked-lower")
        most = round(WIDE_GRID * lower.params_non_embedding.min())
        wide = f"budget in {sorted({float(b) for b in lower.budget})} and params_non_embedding > {most}"
        found["masked"] = f"({found['masked']}) and not ({wide})"
    return " or ".join(f"({w})" for w in found.values()) if len(found) > 1 else found[sides[0]]


def _call(scope: Scope, approach: str) -> str:
    a, b = (f'"store::{_where(scope, approach, side)}"' for side in SIDES)
    return f"scaling compare {a} {b} --approach {approach} --count {COUNT} --cost {COST}"


def _told(found: Difference) -> tuple[str, str]:
    if found.verdict != "not_resolved":
        return CONVERGED, ""
    status, reason = found.change.told_from(1 if found.ratio else 0, "no frontier")
    return str(status), reason


def _exponents(scope: Scope, found: Comparison) -> list[Number]:
    """Of N* and D* on both sides, and the differences."""
    numbers = []
    where = _where(scope, found.approach, *SIDES)
    for which in ("N", "D"):
        d = found.exponents[which]
        for side, value, frontier in zip(SIDES, (d.a, d.b), found.frontiers, strict=True):
            numbers.append(
                Number(
                    f"{which}_{side}_{found.approach}",
                    f"exponent of {which}* ∝ C^a, {side}, {found.approach}",
                    value, str(frontier.status), _where(scope, found.approach, side),
                    found.runs[SIDES.index(side)], _call(scope, found.approach), frontier.reason, "",
                    PUBLISHED[side][which],
                )
            )  # fmt: skip
        status, reason = _told(d)
        worse = next((f for f in found.frontiers if f.status is not Status.CONVERGED), None)
        if worse is not None and status == CONVERGED:
            status, reason = str(worse.status), worse.reason
        published = PUBLISHED["masked"][which] - PUBLISHED["causal"][which]
        numbers.append(
            Number(
                f"{which}_difference_{found.approach}",
                f"exponent of {which}*, masked less causal, {found.approach}",
                d.change, status, where, sum(found.runs), _call(scope, found.approach), reason, "", published,
            )
        )  # fmt: skip
    return numbers


def _ratios(scope: Scope, found: Comparison) -> list[Number]:
    """Tokens per parameter at the optimum of the middle budget, seen and predicted."""
    if not found.tokens_per_param:
        missing = Estimate.missing(scope.level)
        return [
            Number("ratio_seen", "best tokens per parameter, masked over causal", missing, str(Status.NOT_RESOLVED),
                   _where(scope, found.approach, *SIDES), sum(found.runs), _call(scope, found.approach),
                   found.reason or "no frontier")
        ]  # fmt: skip
    at = found.tokens_per_param[len(found.tokens_per_param) // 2]
    numbers = []
    for name, d in (("seen", at.seen), ("predicted", at.predicted)):
        for side, value, frontier in zip(SIDES, (d.a, d.b), found.frontiers, strict=True):
            numbers.append(
                Number(
                    f"ratio_{name}_{side}", f"best tokens {name} per parameter at {at.flops:.3g} FLOPs, {side}",
                    value, str(frontier.status), _where(scope, found.approach, side),
                    found.runs[SIDES.index(side)], _call(scope, found.approach), frontier.reason, "",
                )
            )  # fmt: skip
        status, reason = _told(d)
        numbers.append(
            Number(
                f"ratio_{name}", f"best tokens {name} per parameter at {at.flops:.3g} FLOPs, masked over causal",
                d.change, status, _where(scope, found.approach, *SIDES), sum(found.runs),
                _call(scope, found.approach), reason, "",
            )
        )  # fmt: skip
    return numbers


def _tuning(scope: Scope, found: Comparison) -> tuple[list[Number], list[str], dict[str, Any]]:
    """What the rule's setting loses against the best of those tried, by objective and size."""
    numbers, text, detail = [], [], {}
    for k, side in enumerate(SIDES):
        main, seeds = scope.rows(side), scope.rows(f"{side}-again", f"{side}-seeds")
        tuned = scope.rows(side, f"{side}-tuning", f"{side}-again", f"{side}-seeds")
        sizes = set(scope.rows(f"{side}-tuning").params_non_embedding)
        lowest = main.budget.min()
        chosen = tuned[tuned.params_non_embedding.isin(sizes) & np.isclose(tuned.budget, lowest)]
        arms = arms_of(chosen, lowest=True)
        numbers.append(interior_rates(f"interior_rates_{side}", arms, scope.level, side))
        scores = document_scores(scope, list({*chosen.run_id, *seeds.run_id, *main.run_id}))
        noise = seed_noise([of(scores, a.ids) for a in arms_of(scope.rows(side, f"{side}-again", f"{side}-seeds"))])
        lost: list[tuple[Arm, Contrast]] = []
        for arm in arms:
            own = arm.all_rows[arm.all_rows.run_id.isin([*main.run_id, *seeds.run_id])]
            terms = [(1.0, of(scores, own.run_id)), (-1.0, of(scores, arm.ids))]
            change = contrast(terms, noise, scope.level, scale=100.0)
            if set(own.run_id) == set(arm.ids):
                zero, enough = Estimate(0.0, (0.0, 0.0), scope.level), len(arm.rates) >= ENOUGH_RATES
                few = "" if enough else f"{len(arm.rates)} rates were tried at its batch"
                status = Status.CONVERGED if enough else Status.NOT_RESOLVED
                change = Contrast(zero, 0.0, 0.0, len(own), status, few)
            lost.append((arm, change))
            setting = f"rate {arm.lr:g}, batch {arm.batch}"
            label = f"{side}, N = {arm.params:,}: loss at the rule's setting against the best tried ({setting})"
            numbers.append(
                number(f"lost_{side}_{arm.params}", label, change, [arm],
                       "analysis.contrasts.contrast([(1, rule), (-1, best)], noise, scale=100)", unit="%")
            )  # fmt: skip
        shift, why = _tilt(lost, found.frontiers[k], scope.level)
        numbers.append(
            Number(
                f"tilt_{side}", f"factor on the best tokens per parameter, {side}, were every size at its best setting",
                shift, CONVERGED if not why else str(Status.NOT_RESOLVED), ids_where(i for a, _ in lost for i in a.ids),
                len(lost), "exp(-s/c₂), s the slope over ln N of what the rule loses, c₂ the curvature of ln L", why,
            )
        )  # fmt: skip
        edges = [a.edge for a in arms if a.edge]
        if edges:
            text.append(f"The {side} rates are not shown to be the best: {'; '.join(edges)}.")
        detail[side] = [{"params": a.params, "lr": a.lr, "batch": a.batch, "lost_percent": c} for a, c in lost]
    return numbers, text, detail


def _tilt(lost: list[tuple[Arm, Contrast]], frontier: Frontier, level: float) -> tuple[Estimate, str]:
    """What the rule's losing more at one size than another does to D*/N*.

    With ln L = c + c₂ u², u = ln(N/N*), and s the slope over ln N of the log loss that the best setting would save, the
    minimum moves by Δu = s/(2 c₂), and D*/N* by exp(−2 Δu).
    """
    missing = Estimate.missing(level)
    curves = [p for p in frontier.parabolas if p.status is Status.CONVERGED and p.coefficients[2] > 0]
    if len(lost) < 2 or not curves:
        return missing, "needs two tuned sizes and a budget with an interior minimum"
    curvature = float(np.mean([p.coefficients[2] / p.loss.min() for p in curves]))
    (small, a), (large, b) = lost[0], lost[-1]
    if not (a.value.known and b.value.known):
        return missing, "what the rule loses is not known"
    span = math.log(large.params / small.params)
    slope = 0.01 * (b.value.value - a.value.value) / span
    half = 0.01 * math.hypot(*(c.value.ci[1] - c.value.value for c in (a, b))) / span
    value, low, high = (math.exp(-x / curvature) for x in (slope, slope + half, slope - half))
    if not math.isfinite(half):
        return Estimate(value, missing.ci, level), "nothing tells the noise"
    inside = low <= 1.0 <= high
    return Estimate(value, (low, high), level), "1 is inside the interval" if inside else ""


def _profile(scope: Scope, side: str, frontier: Frontier) -> Picture:
    from analysis.figures.isoflop import plot_isoflop

    caption = f"IsoFLOP profiles, {side}, at the rule's settings."
    return scope.draw(f"isoflop-{side}", caption, lambda: plot_isoflop(frontier))


def _sentences(found: Comparison) -> list[str]:
    """What the comparison comes to, in words."""
    d = found.exponents["N"]
    verdict = {
        "higher": "the masked model's best size grows faster with compute",
        "lower": "the masked model's best size grows more slowly with compute",
        "equal": f"the two exponents are equal within {d.margin:g}",
        "not_resolved": "which of the two grows faster is not resolved",
    }[d.verdict]
    text = [f"Exponent of N*, masked less causal: {says(d.change)}; {verdict}."]
    if found.tokens_per_param:
        at = found.tokens_per_param[len(found.tokens_per_param) // 2]
        words = {"higher": "more", "lower": "fewer", "equal": "as many"}
        for name, r in (("seen", at.seen), ("predicted", at.predicted)):
            what = words.get(r.verdict)
            end = f"it wants {what} of them" if what else "which wants more is not resolved"
            text.append(
                f"By tokens {name}, the masked model's best ratio of tokens to parameters is {says(r.change)} times the"
                f" causal one's at {show(at.flops)} FLOPs: {end}."
            )
    return text


PART = CausalMasked()
