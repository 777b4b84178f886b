"""Undertuning as an error bar: each run's gap to the best its rung could have had, and what that does to N*(C).

The gap is the response surface at the settings that were used less its minimum, in units of log loss, so it is never
negative. Its draws come from the surface's coefficients, with Student's t on the surfaces' pooled degrees of freedom.
Corrected losses are L exp(-gap); the frontier through each draw of them gives the shift of N* and of its exponent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.bootstrap import estimate
from analysis.checks.base import Row, Subject
from analysis.checks.refits import moved_frontier, moved_values, spread
from analysis.checks.response import JointSurface, Rung, joint_surface, scales_of, settings
from analysis.table import Runs
from analysis.types import Array, Estimate, Status, jsonable
from analysis.where import select_rows

if TYPE_CHECKING:
    from analysis.types import Frontier

DRAWS = 400


@dataclass(frozen=True, eq=False, repr=False)
class TuningGaps:
    """Gaps (m,) of the runs that a frontier uses, in log loss, with their `sd` (m,) and joint `draws` (B, m).

    `rows` index the table; `origin` says of each gap whether it is from the rung's own surface, from the joint surface
    of all rungs, or not measured (0, with NaN as its sd).
    """

    rows: NDArray[np.intp]
    labels: tuple[Row, ...]
    gap: Array
    sd: Array
    draws: Array
    origin: tuple[str, ...]
    status: Status
    reason: str = ""
    rungs: tuple[Rung, ...] = ()
    sigma: float = float("nan")
    dof: int = 0

    @property
    def measured(self) -> Any:
        """Which gaps were measured (m,)."""
        return np.isfinite(self.sd)

    def to_json(self) -> dict[str, Any]:
        """`{"status", "reason", "sigma", "rungs": […], "gaps": [{"row", "gap", "sd", "origin"}]}`; gaps in log loss."""
        rows = zip(self.labels, self.gap, self.sd, self.origin, strict=True)
        rungs = [
            {
                "rung": r.name,
                "runs": r.rows.size,
                "lr": np.exp(r.optimum[0]),
                "batch_tokens": np.exp(r.optimum[1]),
                "status": r.status.value,
                "reason": r.reason,
            }
            for r in self.rungs
        ]
        return jsonable(
            {
                "status": self.status.value,
                "reason": self.reason,
                "sigma": self.sigma,
                "rungs": rungs,
                "gaps": [{"row": w, "gap": g, "sd": s, "origin": o} for w, g, s, o in rows],
            }
        )

    def __repr__(self) -> str:
        head = f"tuning gaps: {self.status}" + (f", {self.reason}" if self.reason else "")
        if not self.measured.any():
            return head
        worst = int(np.nanargmax(np.where(self.measured, self.gap, np.nan)))
        return f"{head}; largest {self.gap[worst]:.2%} ± {self.sd[worst]:.2%} ({self.labels[worst]})"


def tuning_gaps(
    subject: Subject, *, used: str | None = None, grids: Subject | None = None, draws: int = DRAWS
) -> TuningGaps:
    """Gaps of the runs that are used to the optimum of their rung.

    Args:
        subject: the table whose frontier is wanted.
        used: a filter (as `where`) over its rows that says which run of a rung is used; default the best of each rung,
            and every run that stands alone.
        grids: another table that holds the grids of rates and batches; default the table itself.
        draws: of the gaps.
    """
    rungs = (grids or subject).rungs
    rows = _used_rows(subject, used)
    nothing = np.zeros(rows.size)
    labels = subject.label(rows)
    blank = TuningGaps(
        rows, labels, nothing, nothing + np.nan, np.zeros((draws, rows.size)), ("not measured",) * rows.size,
        Status.TOO_FEW_POINTS, rungs=rungs,
    )  # fmt: skip
    x = settings(subject)
    if x is None or not rungs:
        why = (
            "the table has no lr column" if x is None else "no size and budget was trained with three settings or more"
        )
        return replace(blank, reason=why)
    sigma, dof = _pooled(grids or subject, rungs)
    if not np.isfinite(sigma):
        return replace(
            blank, reason="the surfaces leave no degree of freedom and no cell is repeated: no error to give"
        )
    joint = joint_surface(grids or subject, rungs)
    own = {int(r): rung for rung in rungs for r in rung.rows} if grids is None else {}
    gap, sd, drawn, origin = nothing.copy(), nothing + np.nan, np.zeros((draws, rows.size)), []
    rng = np.random.default_rng([subject.seed, 12])
    noise = {r.name: _coefficients(r, sigma, dof, draws, rng) for r in rungs}
    scale = scales_of(subject)
    theta = None if joint is None else _draws(joint.theta, joint.covariance, joint.sigma, joint.dof, draws, rng)
    for i, row in enumerate(rows):
        rung = own.get(int(row))
        if rung is not None and rung.status in (Status.CONVERGED, Status.NON_INTERIOR) and "uu" in rung.terms:
            at, c = x[row : row + 1], noise[rung.name]
            gap[i] = float(rung.at(at)[0] - rung.lowest())
            drawn[:, i] = np.maximum(rung.at(at, c)[:, 0] - rung.lowest(c), 0.0)
            origin.append("own surface" if rung.status is Status.CONVERGED else "own surface, a lower bound")
        elif joint is not None and theta is not None and _inside(joint, scale[row]):
            at = x[row : row + 1]
            gap[i] = float(joint.gap(at, scale[row : row + 1])[0])
            values = joint.gap(at, scale[row : row + 1], theta)[:, 0]
            drawn[:, i] = np.where(np.isfinite(values), values, gap[i])
            origin.append("joint surface" if 1 in joint.axes else "joint surface, of the rate alone")
        else:
            origin.append("not measured")
            continue
        sd[i] = float(np.sqrt(np.mean((drawn[:, i] - drawn[:, i].mean()) ** 2)))
    return TuningGaps(rows, labels, np.maximum(gap, 0.0), sd, drawn, tuple(origin), *_worth(origin), rungs, sigma, dof)


def _used_rows(subject: Subject, used: str | None) -> NDArray[np.intp]:
    if used is not None:
        return np.flatnonzero(select_rows(subject.runs.frame, used))
    left_out = {int(r) for rung in subject.rungs for r in rung.rows if r != rung.best}
    return np.array([i for i in range(len(subject.runs)) if i not in left_out], dtype=np.intp)


def _worth(origin: list[str]) -> tuple[Status, str]:
    missing, bounds = origin.count("not measured"), origin.count("own surface, a lower bound")
    if missing == len(origin):
        return Status.TOO_FEW_POINTS, "no run that is used lies on a measured surface"
    if bounds:
        return Status.NON_INTERIOR, f"{bounds} of {len(origin)} rungs have their optimum beyond what was tried"
    if missing:
        return Status.NOT_RESOLVED, f"{missing} of {len(origin)} runs have no measured gap and are left as they are"
    return Status.CONVERGED, ""


def _pooled(subject: Subject, rungs: tuple[Rung, ...]) -> tuple[float, int]:
    """Noise of the log loss about the surfaces, and its degrees of freedom; of repeated cells where they have none."""
    dof = sum(r.dof for r in rungs)
    if dof > 0:
        return float(np.sqrt(sum(r.rss for r in rungs) / dof)), dof
    return (subject.seed_sigma, subject.seeds.dof) if subject.seeds is not None else (float("nan"), 0)


def _inside(joint: JointSurface, scale: Array) -> bool:
    """Whether a scale is within the rungs' range: half a decade at most beyond it, a factor of two in the batch."""
    slack = np.log([np.sqrt(10.0), np.sqrt(10.0), 2.0])
    return bool(((scale >= joint.low - slack) & (scale <= joint.high + slack)).all())


def _draws(mean: Array, covariance: Array, sigma: float, dof: int, draws: int, rng: np.random.Generator) -> Array:
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    spread = sigma * np.sqrt(max(dof, 1) / np.maximum(rng.chisquare(max(dof, 1), draws), 1e-3))
    return np.asarray(mean + spread[:, None] * (rng.standard_normal((draws, mean.size)) @ root.T))


def _coefficients(rung: Rung, sigma: float, dof: int, draws: int, rng: np.random.Generator) -> Array:
    return _draws(rung.coefficients, rung.covariance, sigma, dof, draws, rng)


@dataclass(frozen=True, eq=False)
class Corrected:
    """The runs that are used, with L exp(-gap) as their loss; `error` (m,) is the sd of its log from the gap alone."""

    runs: Runs
    error: Array


def corrected(subject: Subject, gaps: TuningGaps, *, gap: Array | None = None) -> Corrected:
    """Corrected losses of the runs that are used; `gap` (m,) takes the place of the gaps' own values."""
    runs = subject.runs.take(gaps.rows)
    amount = gaps.gap if gap is None else gap
    return Corrected(replace(runs, frame=runs.frame.assign(loss=runs.loss * np.exp(-amount))), gaps.sd)


@dataclass(frozen=True, eq=False, repr=False)
class Shift:
    """The frontier before and after the correction, and what the correction moves, with intervals from the gaps.

    `exponent` is the change of the exponent of N*, `log_params` that of ln N* at `flops`; `sd` has both spreads.
    """

    before: Frontier
    after: Frontier
    flops: float
    exponent: Estimate
    log_params: Estimate
    sd: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Both frontiers and the change."""
        return jsonable({name: getattr(self, name) for name in self.__dataclass_fields__})

    def __repr__(self) -> str:
        return f"tuning moves the exponent of N* by {self.exponent!r}, ln N* at {self.flops:.3g} by {self.log_params!r}"


def shifted_frontier(subject: Subject, gaps: TuningGaps, approach: str = "isoflop", *, bootstrap: int = 200) -> Shift:
    """The frontier of the runs that are used, through their losses and through the corrected ones.

    Args:
        subject: the table.
        gaps: of `tuning_gaps`.
        approach: of `frontier`.
        bootstrap: draws of the intervals of the two frontiers themselves.
    """
    from analysis.frontiers import frontier

    def through(runs: Runs) -> Frontier:
        found = frontier(
            runs,
            approach,
            counts=subject.count,
            costs=subject.cost,
            level=subject.level,
            bootstrap=bootstrap,
            seed=subject.seed,
        )
        return next(iter(found))

    before, better = through(subject.runs.take(gaps.rows)), corrected(subject, gaps).runs
    after = through(better)
    flops = float(subject.flops[gaps.rows].max())
    nothing = Estimate.missing(subject.level)
    if not (before.known and after.known):
        return Shift(before, after, flops, nothing, nothing)
    drawn = moved_frontier(subject, better, approach, gaps.gap - gaps.draws)
    values = moved_values(drawn, flops) if drawn.known else np.full((1, 2), np.nan)
    was = np.array([before.N_exponent.value, float(np.log(before.params(flops)))])
    now = np.array([after.N_exponent.value, float(np.log(after.params(flops)))])
    change, sd = values - was, spread(values)
    return Shift(
        before,
        after,
        flops,
        estimate(float(now[0] - was[0]), change[:, 0], subject.level),
        estimate(float(now[1] - was[1]), change[:, 1], subject.level),
        {"exponent": float(sd[0]), "log_params": float(sd[1])},
    )
