"""The exponent of N* ∝ C^a under several protocols, and what each step from one to the next changes.

Kaplan et al. 2020 (arXiv 2001.08361) and Hoffmann et al. 2022 (arXiv 2203.15556) disagree about a because they trained
and counted differently; Porian et al. 2024 (arXiv 2406.19146) turned one protocol into the other one factor at a time.
An arm is one such protocol: runs, read at their ends or midway along their curves, under a count and a cost.

Differences between arms are paired. The noise of a log loss is measured once, on the residuals of all arms; each run
has one draw of it wherever it is read and in whatever arm it stands, with a part of its own at every budget (the share
in common is measured on the residuals as well). So a step that only counts anew holds no noise of its own runs.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.approaches import get_approach
from analysis.approaches.base import Task
from analysis.approaches.cells import measured_noise
from analysis.approaches.porian import NOISE_DEGREE
from analysis.bootstrap import Resamples, shared_noise
from analysis.fitting import check_draws
from analysis.intervals import estimate
from analysis.table import Runs, check_name, read_table
from analysis.trajectories import trajectories
from analysis.types import Array, Dropped, Estimate, Frontier, Plain, Status, jsonable
from scaling.accounting import COSTS, COUNTS
from scaling.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "RefinedWeb": {"kaplan": 0.835, "flops": 0.706, "warmup": 0.602, "decay": 0.571, "tuned": 0.497},
    "OpenWebText2": {"kaplan": 0.86351, "flops": 0.69850, "warmup": 0.60320, "decay": 0.57430, "tuned": 0.51845},
}
"""Exponents of Porian et al. 2024 by text and arm (Fig. 1; stored results). Their `flops` counts the head in N and C;
their `tuned` has batch, rate and β2 tuned under a constant rate."""
APPROACHES = ("porian", "isoflop")
NEAR = 0.2
"""Reads whose loss lies further above the least of their budget are left out, but for those beside the best size: runs
that have hardly begun say nothing of where the minimum is, and no smooth curve passes through them."""
_EXACT = "exact"


@dataclass(frozen=True, eq=False)
class Arm:
    """A protocol: a store's rows, how N and C are counted, and the curves where runs are read midway.

    Without curves the rows' ends are read, at the nominal budgets in exact FLOPs that they were trained for.
    """

    name: str
    label: str
    rows: pd.DataFrame
    count: str = "non_embedding_head"
    cost: str = _EXACT
    curves: pd.DataFrame | None = None
    cost_count: str = ""
    """The parameters in C = 6ND, where they are others than N's."""


@dataclass(frozen=True, eq=False)
class Measured:
    """An arm's frontiers by approach; `reads` (one row a run and budget) are what they were fitted to."""

    name: str
    label: str
    count: str
    cost: str
    midway: bool
    runs: int
    reads: pd.DataFrame
    frontiers: Mapping[str, Frontier]
    dropped: tuple[Dropped, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All fields but the reads."""
        return jsonable({k: v for k, v in vars(self).items() if k != "reads"})


@dataclass(frozen=True)
class Change(Plain):
    """A combination of exponents of several arms by one approach; `not_resolved` where 0 is inside the interval."""

    terms: tuple[tuple[float, str], ...]
    approach: str
    value: Estimate
    status: Status
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Protocols(Plain):
    """The arms in the order given, and the noise of a log loss that their draws share."""

    arms: Mapping[str, Measured]
    noise: float
    noise_dof: int
    noise_shared: float
    level: float
    warnings: tuple[str, ...] = ()
    approaches: tuple[str, ...] = field(default=APPROACHES)

    def change(self, before: str, after: str, approach: str = "porian") -> Change:
        """The exponent of arm `after` less that of `before`, paired."""
        return self.contrast(((1.0, after), (-1.0, before)), approach)

    def contrast(self, terms: Sequence[tuple[float, str]], approach: str = "porian") -> Change:
        """Σ weight · exponent over arms, paired.

        Raises:
            InputError: no such arm or approach.
        """
        check_name("approach", approach, self.approaches)
        for _, name in terms:
            check_name("arm", name, tuple(self.arms))
        found = [(w, self.arms[name].frontiers[approach]) for w, name in terms]
        kept = tuple((float(w), name) for w, name in terms)
        lacking = [(name, f) for (_, name), (_, f) in zip(terms, found, strict=True) if not f.known]
        if lacking:
            name, bad = lacking[0]
            status = bad.status if bad.status is not Status.CONVERGED else Status.NOT_RESOLVED
            return Change(kept, approach, Estimate.missing(self.level), status, f"{name}: {bad.reason}")
        value = sum(w * f.N_exponent.value for w, f in found)
        draws = sum(w * f.draws["N_exponent"] for w, f in found)
        change = _interval(float(value), np.asarray(draws), self.level)
        lo, hi = change.ci
        if not (math.isfinite(lo) and math.isfinite(hi)):
            reason = next((f.reason for _, f in found if f.reason), "too few draws have all of these exponents")
            return Change(kept, approach, change, Status.NOT_RESOLVED, reason)
        return Change(kept, approach, change, *change.told_from())


def _interval(value: float, draws: Array, level: float) -> Estimate:
    """An estimate of draws that may all be equal, as those of an arm less itself are."""
    known = draws[np.isfinite(draws)]
    if known.size == draws.size and draws.size and float(np.ptp(known)) < 1e-12:
        return Estimate(value, (value, value), level)
    return estimate(value, draws, level)


def measure_protocols(
    arms: Sequence[Arm],
    *,
    approaches: Sequence[str] = APPROACHES,
    level: float = 0.9,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Protocols:
    """Every arm's N* ∝ C^a, by every approach, from joint draws.

    Arms of exact cost are read at the nominal budgets of the arms read at their ends. One of another cost is read at
    the costs that the best runs of these budgets have under it, so that the same part of the plane is asked about; the
    best runs are those of the arm of exact cost that has the same runs, where there is one.

    Args:
        arms: names all different; at least one read at the ends of its runs, which has budgets.
        approaches: names of `list_approaches()` that work on losses at equal cost.
        level: nominal coverage of the intervals.
        bootstrap, seed: draws, and their seed.

    Raises:
        InputError: two arms of one name, no budgets, or an arm read at ends under another cost than exact.
        TableError: rows that cannot be read.
    """
    check_draws(bootstrap, level)
    _check(arms)
    runs = {a.name: read_table(a.rows) for a in arms}
    budgets = _budgets(arms, runs)
    first = [a for a in arms if a.cost == _EXACT]
    read = {a.name: _reads(a, runs[a.name], budgets) for a in first}
    noise, dof, shared = _noise(first, {name: table for name, (table, _) in read.items()})
    draw = _Draw(bootstrap, seed, level, noise, dof, shared)
    found = {a.name: _measure(a, *read[a.name], approaches, draw) for a in first}
    for a in arms:
        if a.cost != _EXACT:
            twin = next((found[b.name] for b in first if _same_runs(a, b)), None)
            found[a.name] = _measure(a, *_reads(a, runs[a.name], _recounted(a, runs, budgets, twin)), approaches, draw)
    notes = () if dof else ("nothing tells the noise of a loss: no intervals but by the stored standard errors",)
    return Protocols({a.name: found[a.name] for a in arms}, noise, dof, shared, level, notes, tuple(approaches))


def _check(arms: Sequence[Arm]) -> None:
    names = [a.name for a in arms]
    if len(set(names)) < len(names):
        raise InputError(f"two arms have one name: {', '.join(names)}")
    for a in arms:
        check_name("count", a.count, COUNTS)
        check_name("cost", a.cost, COSTS)
        check_name("count", a.cost_count or a.count, COUNTS)
        if a.curves is None and a.cost != _EXACT:
            raise InputError(f"arm {a.name}: runs read at their ends have budgets in exact FLOPs; take cost exact")


def _same_runs(a: Arm, b: Arm) -> bool:
    return set(a.rows["run_id"]) == set(b.rows["run_id"])


def _budgets(arms: Sequence[Arm], runs: Mapping[str, Runs]) -> Array:
    """The nominal budgets of the arms read at their ends."""
    found: set[float] = set()
    for a in arms:
        if a.curves is None:
            nominal = runs[a.name].frame.get("budget")
            if nominal is None or nominal.isna().any():
                raise InputError(f"arm {a.name}: rows without a budget; a design of budgets (flops) gives them one")
            found |= {float(b) for b in nominal}
    if not found:
        raise InputError("every arm is read midway: one read at the ends of its runs is needed for the budgets")
    return np.array(sorted(found))


def _per_token(runs: Runs, arm: Arm) -> Array:
    return np.asarray(_flops(runs, arm) / runs.tokens)


def _flops(runs: Runs, arm: Arm) -> Array:
    return runs.flops(arm.cost, arm.cost_count or arm.count)


def _recounted(arm: Arm, runs: Mapping[str, Runs], budgets: Array, twin: Measured | None) -> Array:
    """Costs under the arm's convention of the best runs at exact budgets, in the same order."""
    own = runs[arm.name]
    ratio = np.log(_flops(own, arm) / own.flops(_EXACT))
    if twin is None:
        return np.asarray(budgets * math.exp(float(ratio.mean())))
    log_n = np.log(own.params(twin.count))
    order = np.argsort(log_n)
    best = {p.flops: p.params for f in twin.frontiers.values() for p in f.points if p.status is Status.CONVERGED}
    found = []
    for c in budgets:
        near = [n for flops, n in best.items() if abs(math.log(flops / c)) < 0.01]
        read = twin.reads.loc[np.isclose(twin.reads["budget"], c), "params"]
        centre = math.log(near[0]) if near else float(np.log(read).mean()) if len(read) else float(log_n.mean())
        found.append(c * math.exp(float(np.interp(centre, log_n[order], ratio[order]))))
    return np.array(found)


def _reads(arm: Arm, runs: Runs, budgets: Array) -> tuple[pd.DataFrame, tuple[Dropped, ...]]:
    """A plain table: params, tokens, flops, loss, loss_se, budget, run_id, slot (number of the budget)."""
    import pandas as pd

    params, per_token = runs.params(arm.count), _per_token(runs, arm)
    ids, dropped = [str(r) for r in runs.frame["run_id"]], list(runs.dropped)
    if arm.curves is None:
        nominal = runs.frame["budget"].to_numpy(dtype=np.float64)
        slot = np.searchsorted(budgets, nominal)
        columns: dict[str, Any] = {
            "params": params, "tokens": runs.tokens, "flops": _flops(runs, arm), "loss": runs.loss,
            "loss_se": runs.loss_se, "budget": nominal, "run_id": ids, "slot": slot,
        }  # fmt: skip
        return _near(pd.DataFrame(columns), dropped)
    paths, lost = trajectories(arm.curves, ids)
    dropped += lost
    rows = []
    for i, run in enumerate(ids):
        if run not in paths:
            continue
        path = paths[run]
        for k, c in enumerate(budgets):
            tokens = c / per_token[i]
            if path.tokens[0] <= tokens <= path.tokens[-1] * (1 + 1e-9):
                log_loss = np.interp(math.log(tokens), np.log(path.tokens), np.log(path.loss))
                rows.append((params[i], tokens, c, math.exp(log_loss), float(runs.loss_se[i]), c, run, k))
    names = ["params", "tokens", "flops", "loss", "loss_se", "budget", "run_id", "slot"]
    return _near(pd.DataFrame(rows, columns=names), dropped)


def _near(reads: pd.DataFrame, dropped: list[Dropped]) -> tuple[pd.DataFrame, tuple[Dropped, ...]]:
    """The reads near the least loss of their budget, and the rest with the reason."""
    keep = np.ones(len(reads), dtype=bool)
    for c, group in reads.groupby("budget"):
        least = group["loss"].min()
        sizes = np.sort(group["params"].unique())
        best = int(np.searchsorted(sizes, group["params"].to_numpy()[int(group["loss"].to_numpy().argmin())]))
        beside = sizes[max(best - 1, 0) : best + 2]
        far = (group["loss"] > (1 + NEAR) * least) & ~group["params"].isin(beside)
        keep[reads.index.get_indexer(group.index[far])] = False
        why = f"at {c:.4g} FLOPs its loss is over {NEAR:.0%} above the least"
        dropped += [Dropped(str(r), why) for r in group.loc[far, "run_id"]]
    return reads[keep].reset_index(drop=True), tuple(dropped)


@dataclass(frozen=True)
class _Draw:
    """What the draws of all arms share."""

    size: int
    seed: int
    level: float
    noise: float
    dof: int
    shared: float

    def resamples(self, reads: pd.DataFrame) -> Resamples:
        """Draws of the reads' noise: one part by run, one by run and budget."""
        common = {r: self._normal(str(r)) for r in set(reads["run_id"])}
        near, far = math.sqrt(self.shared), math.sqrt(1.0 - self.shared)
        shocks = [
            near * common[r] + far * self._normal(f"{r}/{k}")
            for r, k in zip(reads["run_id"], reads["slot"], strict=True)
        ]
        sigma = np.full(len(reads), self.noise) if self.dof else None
        return Resamples("noise", self.seed, self.size, shocks=np.stack(shocks, axis=1), sigma=sigma, dof=self.dof)

    def _normal(self, key: str) -> Array:
        rng = np.random.default_rng([self.seed, 21, zlib.crc32(key.encode())])
        return np.asarray(rng.standard_normal(self.size))


def _noise(arms: Sequence[Arm], reads: Mapping[str, pd.DataFrame]) -> tuple[float, int, float]:
    """Noise of a log loss pooled over arms, its degrees of freedom, and the share that a run's reads have in common."""
    squares, dof, seen = 0.0, 0, set()
    residuals, clusters = [], []
    for a in arms:
        ids = frozenset(a.rows["run_id"])
        if ids in seen or len(reads[a.name]) == 0:
            continue
        seen.add(ids)
        table = read_table(reads[a.name])
        found = measured_noise(Task(table, "total", _EXACT, 0.9, Resamples("noise", 0, 1)), NOISE_DEGREE)
        if found.dof:
            squares, dof = squares + found.sigma**2 * found.dof, dof + found.dof
            if a.curves is not None:
                known = np.isfinite(found.residual)
                residuals += found.residual[known].tolist()
                clusters += [f"{a.name} {r}" for r, k in zip(table.frame["run_id"], known, strict=True) if k]
    share = shared_noise(np.array(residuals), np.unique(clusters, return_inverse=True)[1]) if residuals else 0.0
    return (math.sqrt(squares / dof), dof, share) if dof else (math.nan, 0, share)


def _measure(
    arm: Arm, reads: pd.DataFrame, dropped: tuple[Dropped, ...], approaches: Sequence[str], draw: _Draw
) -> Measured:
    members = [get_approach(name) for name in approaches]
    if len(reads) == 0:
        missing = Estimate.missing(draw.level)
        why = "no run reaches any of the budgets after its warmup"
        none = Frontier("", arm.count, arm.cost, missing, missing, missing, missing, Status.TOO_FEW_POINTS, reason=why)
        found = dict.fromkeys(approaches, none)
    else:
        task = Task(read_table(reads), "total", _EXACT, draw.level, draw.resamples(reads))
        found = {m.label: replace(m.frontier(task), count=arm.count, cost=arm.cost) for m in members}
    return Measured(
        arm.name, arm.label, arm.count, arm.cost, arm.curves is not None, int(arm.rows["run_id"].nunique()), reads,
        found, dropped,
    )  # fmt: skip
