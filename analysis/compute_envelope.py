"""The lower envelope of learning curves over C, or over C_min by a critical batch, and its draws.

Curves are averaged over seeds. At every budget the best N is the vertex of the parabola over ln N through the best size
and its two neighbours, which takes out most of the rounding to the sizes trained. A draw shakes each curve as a whole
with the seeds' noise and takes its own B_crit(L); C_min = C/(1 + B/B_crit(L)), Kaplan et al. 2020 eq. 5.5.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.critical_batch import CriticalBatch, law_values
from analysis.laws.critical_batch import CriticalBatch as CriticalBatchLaw
from analysis.replicates import Pooled, pooled, recipes
from analysis.table import Runs
from analysis.trajectories import Trajectory
from analysis.types import Array, FitResult


@dataclass(frozen=True, eq=False)
class Recipe:
    """One size at one rate and batch: its curve, mean over seeds, on its own points (m,); `lr` is NaN if unknown."""

    key: str
    params: float
    batch: float
    lr: float
    runs: int
    log_c: Array
    log_loss: Array
    log_tokens: Array


def recipes_of(runs: Runs, paths: dict[str, Trajectory], count: str, cost: str) -> tuple[list[Recipe], Pooled]:
    """Curves averaged over seeds (in log loss), by size, batch and rate; and the seeds' noise of the log loss."""
    size, batch, flops, tokens = runs.params(count), runs.variable("batch_tokens"), runs.flops(cost, count), runs.tokens
    lr = runs.variable("lr") if runs.has("lr") else np.full(len(runs), np.nan)
    ids = [str(r) for r in runs.frame["run_id"]]
    groups: dict[tuple[float | str, ...], list[int]] = {}
    for i, key in enumerate(recipes(runs, count)):
        if ids[i] in paths:
            groups.setdefault(key, []).append(i)
    found, labels, logs = [], [], []
    for key, at in groups.items():
        mine = [paths[ids[i]] for i in at]
        last, first = min(t.tokens[-1] for t in mine), max(t.tokens[0] for t in mine)
        log_d = np.log(mine[0].tokens[(mine[0].tokens >= first) & (mine[0].tokens <= last)])
        if log_d.size < 2:
            continue
        each = np.stack([np.interp(log_d, np.log(t.tokens), np.log(t.loss)) for t in mine])
        per_token = math.log(flops[at[0]] / tokens[at[0]])
        n, b, rate = (float(v[at[0]]) for v in (size, batch, lr))
        found.append(Recipe(str(key), n, b, rate, len(mine), log_d + per_token, each.mean(axis=0), log_d))
        labels += [key] * len(mine)
        logs += each[:, -1].tolist()
    return found, pooled(labels, np.array(logs))


@dataclass(frozen=True, eq=False)
class Shaking:
    """What the draws of one call share: how many, their seed, the noise of one run's log loss, its uncertainty (B,)."""

    size: int
    seed: int
    sd: float
    mixing: Array

    @classmethod
    def of(cls, size: int, seed: int, noise: Pooled) -> Shaking:
        """So many draws of the seeds' noise; an unknown noise has none."""
        if noise.dof == 0:
            return cls(0, seed, 0.0, np.empty(0))
        chi2 = np.random.default_rng([seed, 11]).chisquare(noise.dof, size)
        return cls(size, seed, noise.sd, np.sqrt(noise.dof / chi2))

    def shocks(self, recipe: Recipe) -> Array:
        """Noise (B,) of a recipe's curve: the same in every frontier it is part of."""
        rng = np.random.default_rng([self.seed, 12, zlib.crc32(recipe.key.encode())])
        return np.asarray(self.sd / math.sqrt(recipe.runs) * self.mixing * rng.standard_normal(self.size))


@dataclass(frozen=True, eq=False)
class BatchLaw:
    """B_crit(L): its constants, and their draws (B,) each, repeated where there are fewer."""

    values: dict[str, float]
    draws: dict[str, Array]

    @classmethod
    def of(cls, law: CriticalBatch | FitResult | dict[str, float], size: int) -> BatchLaw:
        """Of a measurement, its law, or given constants, which have no draws of their own."""
        values = law_values(law)
        fitted = law.law if isinstance(law, CriticalBatch) else law
        known = fitted.draws if isinstance(fitted, FitResult) else {}
        draws = {k: np.resize(known[k], size) if k in known else np.full(size, v) for k, v in values.items()}
        return cls(values, {k: np.where(np.isfinite(v), v, values[k]) for k, v in draws.items()})

    def ln_b_crit(self, log_loss: Array, draw: int | None = None) -> Array:
        """ln B_crit at log losses, by the law or by one of its draws."""
        p = self.values if draw is None else {k: v[draw] for k, v in self.draws.items()}
        return np.log(CriticalBatchLaw().predict(p, loss=np.exp(log_loss)))


def overhead(recipe: Recipe, law: BatchLaw | None, log_loss: Array, draw: int | None) -> Array:
    """ln of C/C_min = 1 + B/B_crit along a recipe's curve; 0 on the naive frontier."""
    if law is None:
        return np.zeros(log_loss.size)
    return np.logaddexp(0.0, math.log(recipe.batch) - law.ln_b_crit(log_loss, draw))


@dataclass(frozen=True, eq=False)
class Best:
    """The frontier on a grid (G,): ln of loss, N, B, S and D, NaN where no run is alive, and whether N is interior.

    `size` and `batch` are those of the best run; N is a vertex beside it.
    """

    log_loss: Array
    logs: dict[str, Array]
    size: Array
    batch: Array
    interior: NDArray[np.bool_]


def best_sizes(curves: list[Recipe], law: BatchLaw | None, grid: Array, shocks: Array, draw: int | None = None) -> Best:
    """The best size at every ln C (or ln C_min) of the grid.

    It is the vertex of the parabola over ln N through the best size and its two neighbours, all of which must reach
    that C; where one does not, the best size as it stands, not interior.
    """
    params = np.array([r.params for r in curves])
    losses, tokens = np.full((len(curves), grid.size), np.inf), np.full((len(curves), grid.size), np.nan)
    for r, recipe in enumerate(curves):
        log_loss = recipe.log_loss + shocks[r]
        less = overhead(recipe, law, log_loss, draw)
        log_c = np.maximum.accumulate(recipe.log_c - less)
        losses[r] = np.interp(grid, log_c, log_loss, left=np.inf, right=np.inf)
        tokens[r] = np.interp(grid, log_c, recipe.log_tokens - less)
    at, best = np.arange(grid.size), losses.argmin(axis=0)
    sizes = np.unique(params)
    by_size = np.stack([losses[params == n].min(axis=0) for n in sizes])
    z = np.searchsorted(sizes, params[best])
    inside = (z > 0) & (z < sizes.size - 1)
    below, above = by_size[np.maximum(z - 1, 0), at], by_size[np.minimum(z + 1, sizes.size - 1), at]
    some = np.isfinite(losses[best, at])
    inside &= some & np.isfinite(below) & np.isfinite(above)
    step_below = np.log(params[best] / sizes[np.maximum(z - 1, 0)])
    step_above = np.log(sizes[np.minimum(z + 1, sizes.size - 1)] / params[best])
    log_loss = np.where(some, losses[best, at], np.nan)
    move, gain = np.zeros(grid.size), np.zeros(grid.size)
    move[inside], gain[inside] = _vertex(
        step_below[inside], step_above[inside], (below - log_loss)[inside], (above - log_loss)[inside]
    )
    log_loss = log_loss - gain
    batch = np.array([r.batch for r in curves])[best]
    log_e = tokens[best, at] - move  # at one C a larger N has seen fewer tokens
    log_b = np.log(batch) if law is None else law.ln_b_crit(log_loss, draw)
    # At B_crit a run takes twice S_min steps and twice E_min tokens; S is S_min, as Kaplan et al. give it.
    logs = {
        "N": np.log(params[best]) + move,
        "B": log_b,
        "S": log_e - log_b,
        "D": log_e + (0.0 if law is None else math.log(2.0)),
    }
    return Best(log_loss, {k: np.where(some, v, np.nan) for k, v in logs.items()}, params[best], batch, inside)


def _vertex(below: Array, above: Array, rise_below: Array, rise_above: Array) -> tuple[Array, Array]:
    """Where the parabola through (−below, rise_below), (0, 0), (above, rise_above) is least, and how far below 0."""
    curvature = (rise_below / below + rise_above / above) / (below + above)
    slope = rise_above / above - curvature * above
    safe = np.maximum(curvature, 1e-300)
    with np.errstate(over="ignore"):
        return -slope / (2 * safe), slope**2 / (4 * safe)
