"""Sharing all layers: what it costs at equal shape, at equal parameters, and at equal FLOPs with sizes chosen anew."""

from __future__ import annotations

from typing import Any

from analysis.contrasts import contrast, seed_noise
from analysis.figures.contrasts import Point, plot_contrasts
from analysis.types import Status
from sweeps.studies.objectives_parts.arms import Arm, arms_of, at_budget, document_scores, interior_rates, number, of
from sweeps.studies.objectives_parts.causal_masked import RUNS
from sweeps.studies.part import CONVERGED, COST, COUNT, Finding, Number, Part, Scope, says, unknown

CALL = "analysis.contrasts.contrast([(1, shared), (-1, unshared)], noise, scale=100)"
NEAR = 0.06
"""Parameters that differ by less than this count as equal."""
KINDS = {
    "shape": "equal shape and FLOPs, a third of the parameters",
    "flops": "equal parameters and FLOPs, so fewer tokens",
    "tokens": "equal parameters and tokens, so more FLOPs",
}


class Sharing(Part):
    """See the module."""

    name = "sharing"
    title = "Sharing the parameters of all layers"
    question = (
        "What does ALBERT's sharing of all layers (Lan et al. 2019) cost in masked loss: at equal shape, at equal"
        " parameters, and at equal FLOPs with the best size of each?"
    )
    design = (
        "One objective, so one axis of loss. A shared model of three layers has a third of the parameters of its"
        " unshared twin and the same FLOPs; a wider one has the same parameters, and takes either the same FLOPs (on"
        " fewer tokens) or the same tokens (at more FLOPs). Differences are paired over held-out documents, with three"
        " seeds an arm, two at the narrowest shape. The best losses of two isoFLOP sweeps are compared at equal FLOPs."
    )
    sweeps = ("masked-rates", "shared", "shared-seeds", "shared-rates", "shared-wide", "shared-lower")
    uses = RUNS["masked"]
    limits = (
        "Three layers: what sharing costs in deep models, where it saves most, is not asked.",
        "Rates are tried at two of the sizes of each, and not for the wider models, which take the recipe's.",
        "Memory and communication, which sharing saves, are not FLOPs and are not counted.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        budget = float(scope.rows("masked-seeds").budget.iloc[0])
        unshared = arms_of(at_budget(scope.rows(*RUNS["masked"], "masked-rates"), budget))
        shared = arms_of(at_budget(scope.rows("shared", "shared-seeds", "shared-rates", "shared-lower"), budget))
        wide = arms_of(scope.rows("shared-wide"))
        scores = document_scores(scope, [i for a in (*unshared, *shared, *wide) for i in a.ids])
        noise = seed_noise([of(scores, a.ids) for a in (*unshared, *shared, *wide)])
        numbers: list[Number] = []
        points: dict[str, list[Point]] = {name: [] for name in KINDS.values()}
        detail = []
        for kind, a, b in _pairs(unshared, shared, wide):
            found = contrast([(1.0, of(scores, b.ids)), (-1.0, of(scores, a.ids))], noise, scope.level, scale=100.0)
            label = f"shared against unshared of N = {a.params:,}, {KINDS[kind]} (N = {b.params:,}): loss"
            numbers.append(number(f"{kind}_{a.params}", label, found, [a, b], CALL, unit="%"))
            edge = str(Status.NON_INTERIOR) if a.edge or b.edge else ""
            points[KINDS[kind]].append(Point(a.params, found, edge))
            detail.append({"kind": kind, "unshared": a.params, "shared": b.params, "loss_percent": found})
        for kind, label in KINDS.items():
            pairs = [(a, b) for k, a, b in _pairs(unshared, shared, wide) if k == kind]
            if pairs:
                weight = 1.0 / len(pairs)
                terms = [(w, of(scores, arm.ids)) for a, b in pairs for w, arm in ((weight, b), (-weight, a))]
                found = contrast(terms, noise, scope.level, scale=100.0)
                arms = [arm for pair in pairs for arm in pair]
                numbers.append(
                    number(f"{kind}_mean", f"shared against unshared, {label}: loss, mean of {len(pairs)} sizes", found,
                           arms, CALL, unit="%")
                )  # fmt: skip
        numbers += [
            interior_rates("interior_rates_unshared", unshared, scope.level, "unshared"),
            interior_rates("interior_rates_shared", shared, scope.level, "shared"),
        ]
        compute, text = _compute(scope, budgets=sorted(set(scope.rows("shared").budget)))
        caption = "What sharing all layers costs in masked loss, against the unshared model of the parameters shown."
        picture = scope.draw("sharing", caption, lambda: plot_contrasts({"loss against unshared, %": points}))
        return Finding(
            numbers=(*numbers, *compute),
            pictures=(picture,),
            says=(*_sentences(numbers), *text),
            detail={"contrasts": detail, "seed_noise_percent": 100.0 * noise.sd, "dof": noise.dof},
        )


def _pairs(unshared: list[Arm], shared: list[Arm], wide: list[Arm]) -> list[tuple[str, Arm, Arm]]:
    """Kind, unshared, shared: twins of one shape, then wider ones of as many parameters."""
    found = []
    for a in unshared:
        for b in shared:
            if {k: v for k, v in b.shape.items() if k != "share"} == dict(a.shape):
                found.append(("shape", a, b))
        for b in wide:
            if abs(b.params / a.params - 1.0) < NEAR:
                found.append(("tokens" if b.tokens == a.tokens else "flops", a, b))
    return sorted(found, key=lambda f: (list(KINDS).index(f[0]), f[1].params))


def _compute(scope: Scope, budgets: list[float]) -> tuple[list[Number], list[str]]:
    """FLOPs that the best shared size needs for a loss, over those of the best unshared one."""
    from analysis.comparing import compare

    here = scope.where(*RUNS["masked"], extra=f"budget in {[float(b) for b in budgets]}")
    there = scope.where("shared", "shared-seeds", "shared-lower")
    found = compare(
        str(scope.store), str(scope.store), count=COUNT, cost=COST, bootstrap=scope.bootstrap, level=scope.level,
        seed=scope.seed, where_a=here, where_b=there,
    )  # fmt: skip
    call = f'scaling compare "store::{here}" "store::{there}" --count {COUNT} --cost {COST}'
    label = "FLOPs of the best shared size over those of the best unshared one, at equal loss"
    where, n = f"({here}) or ({there})", sum(found.runs)
    if not found.multipliers:
        reason = found.multiplier_reason or "no loss that both reach"
        missing = Number(
            "multiplier", label, unknown(scope.level), str(found.multiplier_status), where, n, call, reason
        )
        return [missing], [f"How much more compute sharing takes at the best sizes is not known: {reason}."]
    at = found.multipliers[len(found.multipliers) // 2]
    edges = [p.reason or str(p.status) for f in found.frontiers for p in f.points if p.status is not Status.CONVERGED]
    lo, hi = at.multiplier.ci
    status, reason = CONVERGED, ""
    if lo <= 1.0 <= hi or not at.multiplier.known:
        status, reason = str(Status.NOT_RESOLVED), "1 is inside the interval"
    elif edges:
        status, reason = str(Status.NON_INTERIOR), f"a budget's best size is not interior: {edges[0]}"
    text = f"At the best size of each, sharing takes {says(at.multiplier)} times the FLOPs for a loss of {at.loss:.4g}."
    return [Number("multiplier", f"{label}, {at.loss:.4g} nats", at.multiplier, status, where, n, call, reason)], [text]


def _sentences(numbers: list[Number]) -> list[str]:
    """The mean cost of each kind."""
    by_name: dict[str, Any] = {n.name: n for n in numbers}
    text = []
    for kind, label in KINDS.items():
        mean = by_name.get(f"{kind}_mean")
        if mean is not None:
            told = "" if mean.status == CONVERGED else f" ({mean.status}: {mean.reason})"
            text.append(
                f"At {label}, sharing changes the masked loss by {says(mean.value)} % on average over sizes{told}."
            )
    return text


PART = Sharing()
