"""One family's frontier from its isoFLOP runs: every approach and convention, differences, noise, tuning, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.accounting import COSTS, COUNTS
from sweeps.studies.frontier_parts.rolling import Family
from sweeps.studies.part import (
    CONVERGED,
    COST,
    COUNT,
    Finding,
    Number,
    Picture,
    Scope,
    Table,
    of_fit,
    says,
    show,
)

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.best_loss import Pace
    from analysis.table import Runs
    from analysis.types import FitResult, Frontier, FrontierSet

FIGURES = {
    "isoflop": "Loss by size at each budget, the parabolas of approach 2 and their minima",
    "frontier": "Best size and tokens by budget, by every approach, with bands",
    "envelope": "Training curves and their envelope, approach 1",
    "contours": "Contours of the fitted law over budget and size, its frontier, and the runs",
    "predicted": "Observed against predicted loss, and what is left, by size and tokens",
    "profile": "What the runs say of the law's floor and exponents: profiles of the fit",
}
SMOKE_FIGURES = ("isoflop", "frontier")
"""Drawn at smoke scale, where every other would only take time."""
WIDTH_MM = 170.0
HOFFMANN = {
    "a_envelope": 0.50, "b_envelope": 0.50, "a_isoflop": 0.49, "b_isoflop": 0.51, "a_parametric": 0.46,
    "b_parametric": 0.54, "law_E": 1.69, "law_A": 406.4, "law_B": 410.7, "law_alpha": 0.34, "law_beta": 0.28,
}  # fmt: skip
"""Hoffmann et al. 2022, Table 2 and eq. 10; theirs are of another text and vocabulary."""


@dataclass(frozen=True)
class Arm:
    """An isoFLOP sweep with those that repeat some of its runs: `key` in names of numbers, `label` in words."""

    key: str
    label: str
    main: str
    repeats: tuple[str, ...] = ()
    published: Mapping[str, float] = field(default_factory=dict)
    """Values to stand beside its numbers, by their names without the key."""
    grids: tuple[str, ...] = ()
    """Sweeps of rate and batch about its recipe."""
    rungs: bool = True
    """Whether its rungs are predicted before they are trained, or only the nearest target beyond them."""

    @property
    def sweeps(self) -> tuple[str, ...]:
        """All of its sweeps."""
        return (self.main, *self.repeats)

    def family(self, scope: Scope) -> Family:
        """Its rungs, as the study's folder defines them."""
        return self.family_in(scope.folder, scope.scale)

    def family_in(self, folder: Path, scale: str) -> Family:
        """As `family`, of a folder and scale."""
        return Family.of(folder, self.main, self.repeats, scale, rungs=self.rungs)


def measure(scope: Scope, arm: Arm, *, target: float | None = None) -> Finding:
    """Numbers, figures and sentences of one arm.

    Args:
        scope: of the study.
        arm: whose runs.
        target: FLOPs that figures extrapolate to.
    """
    from analysis.frontiers import frontier

    where, runs = scope.where(*arm.sweeps), scope.runs(*arm.sweeps)
    costs = COSTS if scope.scale != "smoke" else (COST,)
    found = frontier(runs, counts=COUNTS, costs=costs, level=scope.level, bootstrap=scope.bootstrap, seed=scope.seed)
    law = scope.fit("chinchilla", where, verify=scope.scale != "smoke")
    scope.handed_on[arm.key] = (found, law)
    chosen = found.find(count=COUNT, cost=COST)
    numbers = [
        *_exponents(arm, chosen, where, len(runs)),
        *_optima(arm, chosen, where, len(runs), float(max(runs.frame["budget"]))),
        *_law(arm, law, where),
        *_differences(arm, found, where, len(runs)),
        *_noise(scope, arm, runs, where),
    ]
    paced = _pace(scope, runs, chosen)
    if paced is not None:
        numbers += _bend(arm, paced, where, len(runs))
    detail: dict[str, Any] = {"frontier": found, "law": law}
    grids = [name for name in arm.grids if name in scope.sweeps]
    if grids:
        shifted, detail["tuning"] = _tuning(scope, arm, runs, where, grids)
        numbers += shifted
    return Finding(
        numbers=tuple(numbers),
        pictures=tuple(_draw(scope, arm, runs, found, law, target)),
        tables=(_conventions(arm, found),),
        says=(*_sentences(arm, chosen, found, bool(grids)), *_paced(arm, paced)),
        detail={arm.key: detail},
    )


def command(where: str, approach: str, count: str = COUNT, cost: str = COST) -> str:
    """The command line that makes a frontier again."""
    return f'scaling frontier store --where "{where}" --approach {approach} --count {count} --cost {cost}'


def _exponents(arm: Arm, frontiers: Sequence[Frontier], where: str, n: int) -> list[Number]:
    numbers = []
    for f in frontiers:
        for letter, symbol, value in (("a", "N", f.N_exponent), ("b", "D", f.D_exponent)):
            numbers.append(
                Number(
                    f"{arm.key}_{letter}_{f.approach}",
                    f"{arm.label}: {letter} in {symbol}* ∝ C^{letter}, {f.approach}",
                    value, str(f.status), where, n, command(where, f.approach), f.reason, "",
                    arm.published.get(f"{letter}_{f.approach}"),
                )
            )  # fmt: skip
    return numbers


def _optima(arm: Arm, frontiers: Sequence[Frontier], where: str, n: int, flops: float) -> list[Number]:
    """Best size and tokens a parameter at the largest budget, by each line."""
    from analysis.bootstrap import estimate

    numbers = []
    for f in frontiers:
        if not f.known or not f.draws:
            continue
        log_c = np.log(flops)
        size, data = (f.draws[f"log_{k}_coefficient"] + f.draws[f"{k}_exponent"] * log_c for k in ("N", "D"))
        level = f.N_exponent.level
        best, ratio = float(f.params(flops)), float(f.tokens(flops) / f.params(flops))
        with np.errstate(over="ignore"):  # a draw without a bound is one: the interval's end is then unknown
            drawn_best, drawn_ratio = np.exp(size), np.exp(data - size)
        for name, label, value, drawn in (("N", "N*", best, drawn_best), ("ratio", "D*/N*", ratio, drawn_ratio)):
            numbers.append(
                Number(
                    f"{arm.key}_{name}_{f.approach}", f"{arm.label}: {label} at {show(flops)} FLOPs, {f.approach}",
                    estimate(value, drawn, level), str(f.status), where, n, command(where, f.approach), f.reason,
                    "" if name == "N" else "tokens",
                )
            )  # fmt: skip
    return numbers


def _law(arm: Arm, law: FitResult, where: str) -> list[Number]:
    wanted = {p: (f"{arm.key}_law_{p}", f"{arm.label}: {p} of L = E + A/N^alpha + B/D^beta") for p in law.params}
    published = {p: arm.published[f"law_{p}"] for p in law.params if f"law_{p}" in arm.published}
    return of_fit(law, wanted, where, published=published)


def _differences(arm: Arm, found: FrontierSet, where: str, n: int) -> list[Number]:
    """Paired differences of a between approaches, with their verdict."""
    margin = found.agreement["margin"]
    reasons = {
        "agree": (CONVERGED, f"they agree within ±{margin:g}"),
        "differ": (CONVERGED, "they differ"),
        "not_resolved": ("not_resolved", f"neither within ±{margin:g} nor away from 0"),
    }
    numbers = []
    for pair in _pairs(found):
        status, reason = reasons[pair["verdict"]]
        numbers.append(
            Number(
                f"{arm.key}_{pair['a']}_less_{pair['b']}", f"{arm.label}: a by {pair['a']} less a by {pair['b']}",
                pair["difference"], status, where, n, command(where, f"{pair['a']},{pair['b']}"), reason,
            )
        )  # fmt: skip
    return numbers


def _pairs(found: FrontierSet) -> list[dict[str, Any]]:
    return [p for p in found.agreement["pairs"] if (p["count"], p["cost"]) == (COUNT, COST)]


def _noise(scope: Scope, arm: Arm, runs: Runs, where: str) -> list[Number]:
    """Standard deviation of the log loss between seeds, pooled over the cells of each budget."""
    from analysis.replicates import pooled, recipes

    cells, log_loss = recipes(runs, COUNT), np.log(runs.loss)
    budgets = runs.frame["budget"].to_numpy(dtype=np.float64)
    numbers = []
    for budget in np.unique(budgets[np.isfinite(budgets)]):
        rows = np.flatnonzero(budgets == budget)
        noise = pooled([cells[i] for i in rows], 100.0 * log_loss[rows])
        if noise.dof:
            numbers.append(
                Number(
                    f"{arm.key}_noise_{budget:g}", f"{arm.label}: sd between seeds at {show(float(budget))} FLOPs",
                    noise.estimate(scope.level), CONVERGED, f"({where}) and budget == {budget:g}", rows.size,
                    f"analysis.replicates.pooled(cells, 100 ln loss), {noise.dof} degrees of freedom", "", "%",
                )
            )  # fmt: skip
    return numbers


def _pace(scope: Scope, runs: Runs, chosen: Sequence[Frontier]) -> Pace | None:
    """How the best loss falls, beside Hoffmann's law fitted to the same runs and draws."""
    from analysis.approaches.base import Task
    from analysis.best_loss import along_law, best_losses, pace
    from analysis.costs import fit_cost
    from analysis.frontiers import draws_of

    draws = draws_of(runs, draws=scope.bootstrap, seed=scope.seed, scheme="auto")
    task = Task(runs, COUNT, COST, scope.level, draws)
    best = best_losses(task)
    if best is None:
        return None
    (law,) = [f.surface for f in chosen if f.approach == "parametric"]
    if law is None:
        return pace(best, scope.level)
    cost = fit_cost(task.params, runs.tokens, task.flops)
    return pace(best, scope.level, along_law(law.model, law.values, law.draws, cost, best.log_flops))


def _bend(arm: Arm, paced: Pace, where: str, n: int) -> list[Number]:
    label = f"{arm.label}: change in a decade of C of the exponent by which the best loss falls"
    call = "analysis.best_loss.pace(best_losses(task), level, along_law(law, …))"
    numbers = []
    for name, text, value in (("rise", label, paced.rise), ("excess", f"{label}, less the law's", paced.excess)):
        status, reason = value.told_from()
        numbers.append(Number(f"{arm.key}_{name}", text, value, str(status), where, n, call, reason))
    return numbers


def _paced(arm: Arm, paced: Pace | None) -> list[str]:
    if paced is None:
        return []
    fall = ", ".join(show(float(e)) for e in paced.exponents)
    text = f"{arm.label}: from budget to budget the best loss falls by C^−{{{fall}}}"
    if paced.rise.excludes():
        text += ", ever faster" if paced.rise.value > 0 else ", ever slower"
    if not paced.excess.known:
        return [f"{text}."]
    if not paced.excess.excludes():
        return [f"{text}; that it bends otherwise than the law's is not told."]
    if paced.excess.value > 0:
        return [
            f"{text}, and slows down less than along the law: beyond, reckon with lower losses than the law foretells."
        ]
    return [f"{text}, and slows down more than along the law."]


def _tuning(
    scope: Scope, arm: Arm, runs: Runs, where: str, sweeps: Sequence[str]
) -> tuple[list[Number], dict[str, Any]]:
    """How far the rungs lie above the best rate and batch, and what that does to the exponent."""
    from analysis.bootstrap import estimate
    from analysis.checks import Subject
    from analysis.checks.tuning import shifted_frontier, tuning_gaps

    subject = Subject(runs, COUNT, COST, scope.level, scope.seed)
    grids = Subject(scope.runs(*sweeps), COUNT, COST, scope.level, scope.seed)
    gaps = tuning_gaps(subject, grids=grids)
    call = "analysis.checks.tuning.tuning_gaps(Subject(rows), grids=Subject(rates))"
    numbers = []
    if gaps.measured.any():
        worst = int(np.nanargmax(np.where(gaps.measured, gaps.gap, np.nan)))
        numbers.append(
            Number(
                f"{arm.key}_gap", f"{arm.label}: largest gap of a run to the best rate and batch of its rung",
                estimate(100 * float(gaps.gap[worst]), 100 * gaps.draws[:, worst], scope.level), str(gaps.status),
                where, int(gaps.measured.sum()), call, gaps.reason, "%",
            )
        )  # fmt: skip
    shift = shifted_frontier(subject, gaps, bootstrap=min(200, scope.bootstrap)) if gaps.measured.any() else None
    if shift is not None:
        numbers.append(
            Number(
                f"{arm.key}_shift", f"{arm.label}: change of a, isoflop, when every loss is corrected by its gap",
                shift.exponent, str(gaps.status) if shift.exponent.known else "non_interior", where,
                int(gaps.measured.sum()), "analysis.checks.tuning.shifted_frontier(Subject(rows), gaps)",
                gaps.reason if shift.exponent.known else "no frontier through the corrected losses",
            )
        )  # fmt: skip
    return numbers, {"gaps": gaps, "shift": shift}


def _conventions(arm: Arm, found: FrontierSet) -> Table:
    """a under every count and both costs."""
    names = list(dict.fromkeys((f.count, f.cost) for f in found))
    rows = []
    for approach in dict.fromkeys(f.approach for f in found):
        cells = []
        for count, cost in names:
            (f,) = found.find(approach, count=count, cost=cost)
            parts = ([says(f.N_exponent)] if f.N_exponent.known else []) + [str(f.status)]
            cells.append(", ".join(p for p in parts if p != CONVERGED))
        rows.append((approach, *cells))
    header = [
        f"{count.replace('non_', 'non-').replace('_', ' ')}, C {'6ND' if cost == '6nd' else cost}"
        for count, cost in names
    ]
    return Table(f"{arm.label}: a in N* ∝ C^a by what N and C count.", ("approach", *header), tuple(rows))


def _sentences(arm: Arm, chosen: Sequence[Frontier], found: FrontierSet, tuned: bool) -> list[str]:
    verdicts = [p["verdict"] for p in _pairs(found)]
    counts = ", ".join(
        f"{verdicts.count(v)} {words}"
        for v, words in (("agree", "agree"), ("differ", "differ"), ("not_resolved", "are not resolved"))
    )
    text = [
        f"{arm.label}: of {len(verdicts)} pairs of approaches {counts}, by the interval of each paired difference"
        f" against ±{found.agreement['margin']:g}."
    ]
    for f in chosen:
        refused = [f"{show(p.flops)} ({p.status}: {p.reason})" for p in f.points if str(p.status) != CONVERGED]
        if refused and f.approach in ("isoflop", "porian"):
            text.append(f"{arm.label}: {f.approach} has no interior optimum at {'; '.join(refused)}.")
        text += [f"{arm.label}, {f.approach}: {w}." for w in f.warnings]
    if not tuned:
        text.append(f"{arm.label}: whether rungs are undertuned is not checked: no grid of rates is measured yet.")
    return text


def _draw(
    scope: Scope, arm: Arm, runs: Runs, found: FrontierSet, law: FitResult, target: float | None
) -> list[Picture]:
    from analysis.figures import Material, get_figure

    material = Material(
        runs, "all", COUNT, COST, target, level=scope.level, bootstrap=scope.bootstrap, seed=scope.seed,
        title=arm.label, given=found, given_fit=law,
    )  # fmt: skip
    names = [n for n in FIGURES if scope.scale != "smoke" or n in SMOKE_FIGURES]
    return [
        scope.draw(f"{arm.key}-{n}", f"{FIGURES[n]} ({arm.label}).", partial(get_figure(n).draw, material, WIDTH_MM))
        for n in names
    ]
