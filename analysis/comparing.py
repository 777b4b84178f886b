"""Comparing two sweeps: exponents, tokens per parameter, and the compute that one needs to reach the other's loss.

Differences come from joint draws: runs that both sides hold are drawn once for both (paired), all others for
themselves. The compute multiplier follows Tay et al. 2022 (arXiv 2207.10551) and others in asking at equal loss, not at
equal compute: C_b(L)/C_a(L), the two frontiers' budgets for the same loss, by interpolation of ln C in ln L and never
beyond what either reached. Losses of two objectives, tokenizers or held-out texts are on two axes and have no such
multiplier.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.approaches import get_approach
from analysis.approaches.base import Task
from analysis.approaches.surface import SurfaceApproach, fit_surface
from analysis.axes import below_baseline, rising, scored, two_axes
from analysis.best_loss import Best, along_law, best_losses
from analysis.bootstrap import Resamples, estimate
from analysis.fitting import check_draws
from analysis.frontiers import EQUIVALENCE_MARGIN, draws_of
from analysis.table import Runs, check_name, read_table, split_filter
from analysis.types import Array, Estimate, Frontier, Status, jsonable, text_table
from scaling.accounting import COSTS, COUNTS

if TYPE_CHECKING:
    import pandas as pd

RATIO_MARGIN = 1.25
"""Tokens per parameter, and compute, that differ by less than this factor count as equal."""
BUDGETS = 3
_OTHER_SEED = 1_000_003


@dataclass(frozen=True)
class Difference:
    """A quantity on both sides and what tells them apart.

    `change` is b less a, or b over a where `ratio`; `verdict` says of b: higher, lower, equal (within `margin`) or
    not_resolved.
    """

    a: Estimate
    b: Estimate
    change: Estimate
    verdict: str
    margin: float
    ratio: bool = False

    def to_json(self) -> dict[str, Any]:
        """`{"a", "b", "difference" or "ratio", "verdict", "margin"}`."""
        name = "ratio" if self.ratio else "difference"
        return jsonable({"a": self.a, "b": self.b, name: self.change, "verdict": self.verdict, "margin": self.margin})


@dataclass(frozen=True)
class AtBudget:
    """Optimal tokens per parameter at one budget, counted by tokens seen and by tokens predicted."""

    flops: float
    seen: Difference
    predicted: Difference


@dataclass(frozen=True)
class AtLoss:
    """What both sides spend to reach one loss: FLOPs, and b's over a's.

    `score` is the metric as it was measured: the loss, or where the metric is a share that rises one less the `loss`.
    """

    loss: float
    score: float
    flops_a: float
    flops_b: float
    multiplier: Estimate
    verdict: str


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Two sweeps side by side; every verdict is about b against a."""

    a: str
    b: str
    runs: tuple[int, int]
    approach: str
    count: str
    cost: str
    metric: str
    pairing: str
    frontiers: tuple[Frontier, Frontier]
    exponents: Mapping[str, Difference]
    tokens_per_param: tuple[AtBudget, ...]
    multipliers: tuple[AtLoss, ...]
    status: Status
    reason: str
    multiplier_status: Status
    multiplier_reason: str
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The `compare` object of the command line."""
        budgets = [{"flops": p.flops, "seen": p.seen, "predicted": p.predicted} for p in self.tokens_per_param]
        losses = [{n: getattr(p, n) for n in p.__dataclass_fields__} for p in self.multipliers]
        return jsonable(
            {
                "a": {"source": self.a, "runs": self.runs[0], "status": self.frontiers[0].status},
                "b": {"source": self.b, "runs": self.runs[1], "status": self.frontiers[1].status},
                "approach": self.approach,
                "count": self.count,
                "cost": self.cost,
                "metric": self.metric,
                "pairing": self.pairing,
                "exponents": self.exponents,
                "tokens_per_param": budgets,
                "multiplier": {
                    "status": self.multiplier_status,
                    "reason": self.multiplier_reason,
                    "points": losses,
                },
                "status": self.status,
                "reason": self.reason,
                "warnings": self.warnings,
            }
        )

    def __repr__(self) -> str:
        head = f"a: {self.a} ({self.runs[0]} runs)\nb: {self.b} ({self.runs[1]} runs)\n"
        head += f"{self.approach}, {self.count}, {self.cost}, {self.metric}; {self.pairing}; {self.status}"
        head += f", {self.reason}" if self.reason else ""
        rows = [
            [f"exponent of {k}*", repr(d.a), repr(d.b), repr(d.change), d.verdict] for k, d in self.exponents.items()
        ]
        for p in self.tokens_per_param:
            for name, d in (("seen", p.seen), ("predicted", p.predicted)):
                rows.append([f"tokens {name}/N at {p.flops:.3g}", repr(d.a), repr(d.b), f"×{d.change!r}", d.verdict])
        for m in self.multipliers:
            label = f"compute for {self.metric} {m.score:.4g}"
            rows.append([label, f"{m.flops_a:.3g}", f"{m.flops_b:.3g}", f"×{m.multiplier!r}", m.verdict])
        lines = [head, *text_table(["", "a", "b", "b against a", "b is"], rows)]
        if self.multiplier_status is not Status.CONVERGED:
            lines.append(f"compute multiplier: {self.multiplier_status}, {self.multiplier_reason}")
        return "\n".join([*lines, *(f"! {w}" for w in self.warnings)])


def compare(
    a: str | Path | pd.DataFrame | Runs,
    b: str | Path | pd.DataFrame | Runs,
    *,
    approach: str = "isoflop",
    count: str = "non_embedding",
    cost: str = "exact",
    metric: str = "loss",
    bootstrap: int = 1000,
    level: float = 0.9,
    seed: int = 0,
    where_a: str | None = None,
    where_b: str | None = None,
    columns: Mapping[str, str] | None = None,
    same_axis: bool = False,
    allow_mixed_data: bool = False,
    settings: str = "",
) -> Comparison:
    """Compares two sweeps, or two parts of one store.

    Args:
        a, b: tables, see `read_table`; a path may carry its filter, as in `runs/x::objective == 'causal'`.
        approach: of the frontiers; see `list_approaches()`.
        count, cost: what N counts and C means.
        metric: "loss", or an evaluation of the stores: a positive error that falls as models improve, or a share in
            [0, 1] that rises, of which one less the share is taken.
        bootstrap: number of joint draws.
        level: nominal coverage of the intervals.
        seed: of the draws.
        where_a, where_b: filters, see `read_table`; two on one store compare its parts.
        columns: see `read_table`, for both.
        same_axis: that the losses of two plain tables, which do not say so, are of one objective, tokenizer and text.
        allow_mixed_data: see `read_table`.
        settings: a part of the settings of the evaluation that is meant, where the metric was measured with several.

    Raises:
        InputError: no such approach, count, cost or metric.
        TableError: see `read_table`.
    """
    check_draws(max(bootstrap, 20), level)
    check_name("count", count, COUNTS)
    check_name("cost", cost, COSTS)
    member = get_approach(approach)
    read = [
        read_table(t, where=w, columns=columns, allow_mixed_data=allow_mixed_data)
        for t, w in ((a, where_a), (b, where_b))
    ]
    names = [_named(t, w) for t, w in ((a, where_a), (b, where_b))]
    axis = "" if metric != "loss" else two_axes(read[0], read[1], same_axis)
    rises, weak = False, ""
    if metric != "loss":
        rises = rising(read, metric, settings)
        weak = _weak(read, metric, settings)
        read = [scored(runs, metric, rises, settings) for runs in read]
    resamples, pairing = _draws(read[0], read[1], _one_source(a, b), bootstrap, seed)
    tasks = [Task(runs, count, cost, level, r) for runs, r in zip(read, resamples, strict=True)]
    found = [member.frontier(t) for t in tasks]
    lost = [f"{n}: {f.status}, {f.reason}" for n, f in zip(("a", "b"), found, strict=True) if not f.known]
    status, reason = (Status.CONVERGED, "") if not lost else (Status.NOT_RESOLVED, "; ".join(lost))
    worse = next((f for f in found if f.known and f.status is not Status.CONVERGED), None)
    if not lost and worse is not None:
        status, reason = worse.status, worse.reason
    budgets, apart = _budgets(tasks[0].flops, tasks[1].flops)
    points: tuple[AtLoss, ...] = ()
    multiplier_status, multiplier_reason = Status.NOT_RESOLVED, axis
    if not axis:
        points, multiplier_reason = _multipliers(tasks, member, level, rises)
        multiplier_status = Status.CONVERGED if points else Status.NOT_RESOLVED
    return Comparison(
        names[0],
        names[1],
        (len(read[0]), len(read[1])),
        approach,
        count,
        read[0].cost_name(cost) if read[0].cost_name(cost) == read[1].cost_name(cost) else cost,
        metric,
        pairing,
        (found[0], found[1]),
        _exponents(found, level),
        tuple(_at_budget(c, found, read, level) for c in budgets) if not lost else (),
        points,
        status,
        reason,
        multiplier_status,
        multiplier_reason,
        tuple(w for w in (*_warnings(read, count, cost), apart, weak) if w),
    )


def _named(source: Any, where: str | None) -> str:
    name = source.source if isinstance(source, Runs) else str(source) if isinstance(source, (str, Path)) else "table"
    return name if where is None else f"{name}::{where}"


def _one_source(a: Any, b: Any) -> bool:
    """Whether two tables are parts of one, so that a row's label names it on both sides."""
    if isinstance(a, (str, Path)) and isinstance(b, (str, Path)):
        one, other = (Path(split_filter(str(t))[0]) for t in (a, b))
        return one.resolve() == other.resolve()
    return a is b


def _draws(a: Runs, b: Runs, one_source: bool, bootstrap: int, seed: int) -> tuple[list[Resamples], str]:
    """Draws of both sides; where they share runs, of their union, so that a shared run is drawn once."""
    import pandas as pd

    keys = [[f"{0 if one_source else side}\0{label}" for label in r.labels] for side, r in enumerate((a, b))]
    if all("run_id" in r.frame.columns for r in (a, b)):
        keys = [r.frame["run_id"].astype(str).tolist() for r in (a, b)]
    shared = set(keys[0]) & set(keys[1])
    lineages = [set(r.frame["lineage"].astype(str)) if "lineage" in r.frame.columns else set() for r in (a, b)]
    kin = (lineages[0] & lineages[1]) - {"", "nan", "None"}
    if not shared and not kin:
        found = [draws_of(r, draws=bootstrap, seed=s, scheme="auto") for r, s in ((a, seed), (b, seed + _OTHER_SEED))]
        return found, "independent: the two share no run"
    extra = [i for i, k in enumerate(keys[1]) if k not in shared]
    both = replace(
        a,
        frame=pd.concat([a.frame, b.frame.iloc[extra]], ignore_index=True),
        labels=(*a.labels, *(b.labels[i] for i in extra)),
    )
    drawn = draws_of(both, draws=bootstrap, seed=seed, scheme="auto")
    at = {k: i for i, k in enumerate([*keys[0], *(keys[1][i] for i in extra)])}
    rows = [np.array([at[k] for k in side], dtype=np.intp) for side in keys]
    said = f"{len(shared)} runs" if shared else f"{len(kin)} lineages"
    return [drawn.take(r) for r in rows], f"paired: the two share {said}"


def _exponents(found: list[Frontier], level: float) -> dict[str, Difference]:
    exponents = {}
    for name in ("N", "D"):
        sides = [f.N_exponent if name == "N" else f.D_exponent for f in found]
        if all(s.known for s in sides):
            drawn = found[1].draws[f"{name}_exponent"] - found[0].draws[f"{name}_exponent"]
            change = estimate(sides[1].value - sides[0].value, drawn, level)
        else:
            change = Estimate.missing(level)
        exponents[name] = Difference(
            sides[0], sides[1], change, verdict_of(change, EQUIVALENCE_MARGIN), EQUIVALENCE_MARGIN
        )
    return exponents


def verdict_of(change: Estimate, margin: float, *, ratio: bool = False) -> str:
    """What an interval says of b: `equal` (within ±margin, or a factor), `higher`, `lower`, `not_resolved`."""
    lo, hi = change.ci
    if not (math.isfinite(lo) and math.isfinite(hi)):
        return "not_resolved"
    none, least, most = (1.0, 1 / margin, margin) if ratio else (0.0, -margin, margin)
    if least <= lo and hi <= most:
        return "equal"
    return "higher" if lo > none else "lower" if hi < none else "not_resolved"


def _budgets(a: Array, b: Array) -> tuple[Array, str]:
    """Budgets that both sides cover; none, and a warning, where they have none in common."""
    lo, hi = max(a.min(), b.min()), min(a.max(), b.max())
    if hi < lo * (1 - 1e-9):
        return np.empty(0), f"no common budget: a ends at {a.max():.3g} FLOPs or starts at {a.min():.3g}, b lies apart"
    return np.geomspace(lo, max(lo, hi), BUDGETS) if hi > lo * 1.05 else np.array([math.sqrt(lo * hi)]), ""


def _at_budget(flops: float, found: list[Frontier], read: list[Runs], level: float) -> AtBudget:
    log_c, values, drawn = math.log(flops), [], []
    for f in found:
        values.append(float(np.log(f.tokens(flops)) - np.log(f.params(flops))))
        d = f.draws
        slope = d["D_exponent"] - d["N_exponent"]
        drawn.append(d["log_D_coefficient"] - d["log_N_coefficient"] + slope * log_c)
    shares = [_predicted_share(r) for r in read]

    def difference(weights: list[float]) -> Difference:
        with np.errstate(all="ignore"):
            sides = [
                estimate(w * math.exp(v), w * np.exp(x), level) for w, v, x in zip(weights, values, drawn, strict=True)
            ]
            ratio = weights[1] / weights[0]
            change = estimate(ratio * math.exp(values[1] - values[0]), ratio * np.exp(drawn[1] - drawn[0]), level)
        return Difference(sides[0], sides[1], change, verdict_of(change, RATIO_MARGIN, ratio=True), RATIO_MARGIN, True)

    return AtBudget(float(flops), difference([1.0, 1.0]), difference(shares))


def _predicted_share(runs: Runs) -> float:
    """Loss-bearing tokens over tokens seen; 1 where the table does not say."""
    if "tokens_predicted" not in runs.frame.columns:
        return 1.0
    share = float((runs.frame["tokens_predicted"].to_numpy(dtype=np.float64) / runs.tokens).mean())
    return share if math.isfinite(share) else 1.0


def _reached(task: Task, member: Any) -> Best | None:
    """The best losses along one frontier."""
    if isinstance(member, SurfaceApproach):
        fit, cost = fit_surface(task, member.objective, member.law)
        if not fit.usable:
            return None
        grid = np.geomspace(task.flops.min(), task.flops.max(), 17)
        return along_law(fit.law, fit.values, fit.draws, cost, np.log(grid))
    return best_losses(task)


def _multipliers(tasks: list[Task], member: Any, level: float, rises: bool = False) -> tuple[tuple[AtLoss, ...], str]:
    """b's compute over a's at losses that both frontiers reach; none, and why."""
    sides = [_reached(t, member) for t in tasks]
    if sides[0] is None or sides[1] is None:
        return (), "one of the two has no frontier of losses: two budgets with interior minima are needed"
    (_, la, _), (_, lb, _) = sides[0], sides[1]
    lo, hi = max(la.min(), lb.min()), min(la.max(), lb.max())
    if not lo < hi:
        return (), "no loss that both reach: their ranges of best losses do not overlap"
    found = []
    for target in np.linspace(hi, lo, BUDGETS + 2)[1:-1] if hi - lo > 1e-3 else [(hi + lo) / 2]:
        (va, da), (vb, db) = (_spent(*side, target) for side in (sides[0], sides[1]))
        with np.errstate(all="ignore"):
            multiplier = estimate(math.exp(vb - va), np.exp(db - da), level)
        verdict = verdict_of(multiplier, RATIO_MARGIN, ratio=True)
        loss = math.exp(target)
        score = 1.0 - loss if rises else loss
        found.append(AtLoss(loss, score, math.exp(va), math.exp(vb), multiplier, verdict))
    return tuple(found), ""


def _spent(log_c: Array, log_loss: Array, draws: Array, target: float) -> tuple[float, Array]:
    """ln C at which a frontier reaches a log loss, and its draws (B,), on along its end where it stops short."""

    def inverse(y: Array) -> float:
        y = np.minimum.accumulate(y)  # noise must not make a larger budget worse
        if not np.isfinite(y).all() or y[0] - y[-1] < 1e-9:
            return math.nan
        keep = np.concatenate([[True], np.diff(y) < -1e-12])
        x, y = log_c[keep], y[keep]
        if target > y[0] or target < y[-1]:
            i, j = (0, 1) if target > y[0] else (-2, -1)
            return float(x[j] + (target - y[j]) * (x[j] - x[i]) / (y[j] - y[i]))
        return float(np.interp(-target, -y, x))

    return inverse(log_loss), np.array([inverse(row) for row in draws])


def _weak(read: list[Runs], metric: str, settings: str) -> str:
    """That scores on a task do not count, where they do not beat their baselines."""
    lost = [below_baseline(runs, metric, settings) for runs in read]
    if not any(lost):
        return ""
    counts = " and ".join(f"{n} of {len(r)} runs of {side}" for n, r, side in zip(lost, read, "ab", strict=True))
    return f"below_baseline: {metric} of {counts} does not beat an untrained model and n-grams by three standard errors"


def _warnings(read: list[Runs], count: str, cost: str) -> list[str]:
    found = []
    if read[0].conventions != read[1].conventions:
        found.append(f"one table has its own count of parameters, the other {count}")
    if read[0].cost_name(cost) != read[1].cost_name(cost):
        found.append("one table has no FLOPs of its own: its C is 6ND")
    return found
