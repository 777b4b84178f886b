"""Response surface of a rung: a quadratic of the log loss in ln rate and ln batch, its optimum, and gaps to it.

Box and Wilson 1951 (J. R. Stat. Soc. B 13:1). A rung is one size at one budget. The surface is ln L = c + g'x + x'Hx/2
with x = (ln lr, ln batch tokens), through the runs near the best only, as far out it is no parabola; terms that the
grid cannot tell (a second power of what has two values) are left out, and then the optimum is that over what was tried.
The joint surface of several rungs shares H and moves the optimum with the scale, ln lr* and ln batch* linear in ln N
and ln D, the form of Li et al. 2025 (Step Law, arXiv 2503.04715); it serves runs that have no grid of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.types import Array, Status

if TYPE_CHECKING:
    from analysis.checks.base import Subject

NEAR = 0.03
"""Runs whose loss is within this share of the rung's best belong to the basin that a quadratic describes."""
_GRID = 41
_COLLINEAR = 0.98
"""Rungs whose ln N and ln D move together more closely than this cannot tell the two apart."""


@dataclass(frozen=True, eq=False)
class Rung:
    """One size at one budget with a grid of rates and batches.

    `rows` index the table; `best` is the row of lowest loss; `near` the rows of the quadratic. `terms` name its
    coefficients among `1 u v uu uv vv`, u and v being ln lr and ln batch less `centre`; `covariance` is without the
    noise's variance. `batches` (V,) are the ln batches tried and `rates` (V, 2) the least and largest ln rate of each.
    """

    name: str
    params: float
    tokens: float
    flops: float
    rows: NDArray[np.intp]
    best: int
    near: NDArray[np.intp]
    terms: tuple[str, ...]
    coefficients: Array
    covariance: Array
    rss: float
    dof: int
    centre: Array
    batches: Array
    rates: Array
    optimum: Array = field(default_factory=lambda: np.full(2, np.nan))
    status: Status = Status.CONVERGED
    reason: str = ""

    def at(self, x: Array, coefficients: Array | None = None) -> Array:
        """Log loss at points (m, 2) of (ln lr, ln batch), for coefficients (…, P): (…, m)."""
        c = self.coefficients if coefficients is None else coefficients
        return np.asarray(c @ design(self.terms, x - self.centre).T)

    def lowest(self, coefficients: Array | None = None) -> Array:
        """The least log loss within what was tried, for coefficients (…, P): (…,)."""
        lo, hi = self.batches[0], self.batches[-1]
        batch = np.linspace(lo, hi, _GRID if hi > lo else 1)
        low, high = self.rate_range(batch)
        rate = low[:, None] + np.linspace(0.0, 1.0, _GRID) * (high - low)[:, None]
        grid = np.stack([rate.ravel(), np.repeat(batch, _GRID)], axis=1)
        return np.asarray(self.at(grid, coefficients).min(axis=-1))

    def rate_range(self, batch: Array) -> tuple[Array, Array]:
        """Least and largest ln rate tried around ln batches (m,), interpolated between the batches tried."""
        low, high = (np.interp(batch, self.batches, self.rates[:, k]) for k in (0, 1))
        return np.asarray(low), np.asarray(high)


def design(terms: tuple[str, ...], x: Array) -> Array:
    """Columns (m, P) of a quadratic at points (m, 2)."""
    u, v = x[:, 0], x[:, 1]
    columns = {"1": np.ones_like(u), "u": u, "v": v, "uu": u * u / 2, "uv": u * v, "vv": v * v / 2}
    return np.stack([columns[t] for t in terms], axis=1)


def settings(subject: Subject) -> Array | None:
    """(n, 2) of ln lr and ln batch tokens (0 where the table has none); None without a learning rate."""
    rate = subject.number("lr", "peak_lr", "learning_rate")
    if rate is None:
        return None
    batch = subject.batch if subject.batch is not None else np.ones(rate.size)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log(np.stack([rate, batch], axis=1))


def _terms(u: Array, v: Array, runs: int) -> tuple[str, ...]:
    """The terms that the values tried can tell apart, fewer where the runs are few."""
    levels_u, levels_v = np.unique(np.round(u, 9)).size, np.unique(np.round(v, 9)).size
    terms = ["1", *(["u"] if levels_u > 1 else []), *(["v"] if levels_v > 1 else [])]
    terms += ["uu"] if levels_u > 2 else []
    terms += ["vv"] if levels_v > 2 else []
    if levels_u > 2 and levels_v > 1 and runs > len(terms) + 1:
        terms.append("uv")
    return tuple(terms)


def _rung(subject: Subject, x: Array, rows: NDArray[np.intp]) -> Rung:
    runs = subject.runs
    log_loss = np.log(runs.loss)
    best = int(rows[np.argmin(log_loss[rows])])
    ordered = rows[np.argsort(log_loss[rows], kind="stable")]
    least = min(ordered.size, 9)
    close = int(np.sum(log_loss[ordered] <= log_loss[best] + NEAR))
    near = _enough(x, ordered, max(least, close))
    u, v = (x[near] - x[best]).T
    terms = _terms(u, v, near.size)
    centre = x[best]
    columns = design(terms, x[near] - centre)
    coefficients, _, rank, _ = np.linalg.lstsq(columns, log_loss[near], rcond=None)
    residual = log_loss[near] - columns @ coefficients
    params, tokens = float(subject.params[best]), float(runs.tokens[best])
    found = Rung(
        f"N = {params:.3g}, C = {subject.flops[best]:.3g}",
        params,
        tokens,
        float(subject.flops[best]),
        rows,
        best,
        near,
        terms,
        np.asarray(coefficients),
        np.asarray(np.linalg.pinv(columns.T @ columns), dtype=np.float64),
        float((residual**2).sum()),
        near.size - int(rank),
        centre,
        *_tried(x[near]),
    )
    return _judged(found)


def _enough(x: Array, ordered: NDArray[np.intp], least: int) -> NDArray[np.intp]:
    """The first rows, `least` or more, until they hold three rates and three batches, or all that were tried."""
    rounded = np.round(x[ordered], 9)
    wanted = [min(np.unique(rounded[:, k]).size, 3) for k in (0, 1)]
    while least < ordered.size and any(np.unique(rounded[:least, k]).size < wanted[k] for k in (0, 1)):
        least += 1
    return ordered[:least]


def _tried(x: Array) -> tuple[Array, Array]:
    """The ln batches (V,) among settings (m, 2), and the least and largest ln rate (V, 2) tried with each."""
    levels, which = np.unique(np.round(x[:, 1], 9), return_inverse=True)
    rates = [[x[which == k, 0].min(), x[which == k, 0].max()] for k in range(levels.size)]
    return levels, np.array(rates)


def _judged(rung: Rung) -> Rung:
    """The rung with its optimum and what that is worth."""
    from dataclasses import replace

    if "uu" not in rung.terms:
        return replace(rung, status=Status.TOO_FEW_POINTS, reason="fewer than three rates near the best")
    values = dict(zip(rung.terms, rung.coefficients, strict=True))
    axes = [0, *([1] if "vv" in rung.terms else [])]
    hessian = np.array([[values["uu"], values.get("uv", 0.0)], [values.get("uv", 0.0), values.get("vv", 0.0)]])
    slope = np.array([values["u"], values.get("v", 0.0)])
    part, bend = np.ix_(axes, axes), np.linalg.eigvalsh(hessian[np.ix_(axes, axes)])
    if bend.min() <= 0:
        return replace(rung, status=Status.NON_INTERIOR, reason="the loss does not bend upwards: no optimum")
    optimum = rung.centre.copy()
    if "vv" not in rung.terms and "v" in rung.terms:
        # Two batches: the better of the two, each at its best rate.
        ends = rung.batches[[0, -1]] - rung.centre[1]
        rates = [-(values["u"] + values.get("uv", 0.0) * v) / values["uu"] for v in ends]
        points = np.array([[u, v] for u, v in zip(rates, ends, strict=True)])
        optimum = rung.centre + points[int(np.argmin(design(rung.terms, points) @ rung.coefficients))]
    else:
        optimum[axes] -= np.linalg.solve(hessian[part], slope[axes])
    (low,), (high,) = rung.rate_range(optimum[1:])
    slack = 1e-9
    outside = {
        "rate": not low - slack <= optimum[0] <= high + slack,
        "batch": not rung.batches[0] - slack <= optimum[1] <= rung.batches[-1] + slack,
    }
    if any(outside.values()):
        which = " and ".join(name for name, out in outside.items() if out)
        return replace(
            rung, optimum=optimum, status=Status.NON_INTERIOR, reason=f"the best {which} lies beyond those tried"
        )
    return replace(rung, optimum=optimum)


def response_surfaces(subject: Subject) -> tuple[Rung, ...]:
    """The rungs of a table that hold a grid: three or more distinct pairs of rate and batch at one size and budget."""
    x = settings(subject)
    if x is None:
        return ()
    sizes = np.unique(np.round(np.log(subject.params), 9), return_inverse=True)[1]
    keys = sizes * (subject.runs.budget.max() + 2) + subject.runs.budget
    found = []
    for key in np.unique(keys):
        rows = np.flatnonzero((keys == key) & np.isfinite(x).all(axis=1))
        if len(np.unique(np.round(x[rows], 9), axis=0)) >= 3:
            found.append(_rung(subject, x, rows))
    return tuple(sorted(found, key=lambda r: (r.flops, r.params)))


@dataclass(frozen=True, eq=False)
class JointSurface:
    """One quadratic over several rungs: H shared, the optimum linear in ln N (and ln D where the rungs tell).

    `axes` are the settings it covers (0 rate, 1 batch), `scales` what moves their optimum (0 ln N, 1 ln D, 2 ln batch
    where the batch is no axis); `theta` (P,) holds H's entries and then, for each axis, the slope's coefficients over 1
    and the scales.
    """

    axes: tuple[int, ...]
    scales: tuple[int, ...]
    theta: Array
    covariance: Array
    centre: Array
    scale_centre: Array
    low: Array
    high: Array
    sigma: float
    dof: int

    def gap(self, x: Array, scale: Array, theta: Array | None = None) -> Array:
        """Excess of log loss at settings (m, 2) and scales (m, 3) over their optimum, for theta (…, P): (…, m)."""
        t = self.theta if theta is None else theta
        k = len(self.axes)
        basis = np.concatenate([np.ones((len(x), 1)), (scale - self.scale_centre)[:, list(self.scales)]], axis=1)
        hessian = np.zeros((*t.shape[:-1], k, k))
        entries = [(i, j) for i in range(k) for j in range(i, k)]
        for e, (i, j) in enumerate(entries):
            hessian[..., i, j] = hessian[..., j, i] = t[..., e]
        width = basis.shape[1]
        slopes = [t[..., len(entries) + a * width : len(entries) + (a + 1) * width] @ basis.T for a in range(k)]
        g = np.stack(slopes, axis=-1)
        bend = np.linalg.eigvalsh(hessian)[..., 0]
        safe = np.where((bend > 0)[..., None, None], hessian, np.eye(k))
        y = (x - self.centre)[:, list(self.axes)]
        away = y + np.linalg.solve(safe[..., None, :, :], g[..., None])[..., 0]
        value = 0.5 * np.einsum("...mi,...ij,...mj->...m", away, safe, away)
        return np.asarray(np.where((bend > 0)[..., None], value, np.nan))


def scales_of(subject: Subject) -> Array:
    """(n, 3) of ln N, ln D and ln batch tokens (0 where the table has none)."""
    batch = subject.batch if subject.batch is not None else np.ones(len(subject.runs))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log(np.stack([subject.params, subject.runs.tokens, batch], axis=1))


def joint_surface(subject: Subject, rungs: tuple[Rung, ...]) -> JointSurface | None:
    """The joint surface of rungs, by least squares with a level of its own for each; None where they cannot tell it."""
    x = settings(subject)
    if x is None or len(rungs) < 3:
        return None
    rows = np.concatenate([r.near for r in rungs])
    which = np.concatenate([np.full(r.near.size, i) for i, r in enumerate(rungs)])
    scale = scales_of(subject)
    centre, scale_centre = x[rows].mean(axis=0), scale[rows].mean(axis=0)
    y, s = x[rows] - centre, scale[rows] - scale_centre
    levels = (which[:, None] == np.arange(len(rungs))).astype(np.float64)
    one = scale[[r.best for r in rungs], :2]
    apart = (
        np.ptp(one, axis=0).min() > 0
        and abs(float(np.asarray(np.corrcoef(one.T))[0, 1])) < _COLLINEAR
        and len(rungs) > 3
    )
    options: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((0, 1), (0,)), ((0,), (0, 2)), ((0,), (0,))]
    if apart:
        options = [((0, 1), (0, 1)), ((0, 1), (0,)), ((0,), (0, 1, 2)), ((0,), (0, 2)), ((0,), (0, 1)), ((0,), (0,))]
    for axes, scales in options:
        columns = [y[:, i] * y[:, j] * (0.5 if i == j else 1.0) for i in axes for j in axes if j >= i]
        basis = [np.ones(rows.size), *(s[:, k] for k in scales)]
        columns += [y[:, i] * b for i in axes for b in basis]
        # With the rate alone, each rung's batches have levels of their own.
        full = np.concatenate([np.stack(columns, axis=1), _levels(levels, y[:, 1], axes)], axis=1)
        dof = rows.size - full.shape[1]
        length = np.sqrt((full**2).sum(axis=0))
        if dof < 2 or (length < 1e-9).any() or np.linalg.cond(full / length) > 1e4:
            continue
        found, *_ = np.linalg.lstsq(full, np.log(subject.runs.loss[rows]), rcond=None)
        k = len(columns)
        sigma = math.sqrt(float(((np.log(subject.runs.loss[rows]) - full @ found) ** 2).sum()) / dof)
        joint = JointSurface(
            axes,
            scales,
            found[:k],
            np.linalg.inv(full.T @ full)[:k, :k],
            centre,
            scale_centre,
            scale[rows].min(axis=0),
            scale[rows].max(axis=0),
            sigma,
            dof,
        )
        if np.isfinite(joint.gap(x[rows[:1]], scale[rows[:1]])).all():
            return joint
    return None


def _levels(levels: Array, v: Array, axes: tuple[int, ...]) -> Array:
    """Indicator columns: one a rung, or where the batch is no axis one for each rung and batch."""
    if 1 in axes:
        return levels
    keys = np.unique(np.stack([levels.argmax(axis=1), np.round(v, 9)], axis=1), axis=0, return_inverse=True)[1].ravel()
    return (keys[:, None] == np.arange(keys.max() + 1)).astype(np.float64)
