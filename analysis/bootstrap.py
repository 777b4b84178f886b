"""Resampling: which runs, or which noise, each draw sees.

- `case`: runs drawn with replacement, rows of one lineage together (Davison and Hinkley 1997 §3.8); within isoFLOP
  groups one run fewer is drawn than the group holds and counted up (Rao and Wu 1988, JASA 83:231), or small groups
  would make draws too narrow. Assumes nothing of the noise, and needs many runs.
- `noise`: the design kept, normal noise added to the fitted log losses (ibid. §6.2), of the residual variance s² on
  the fit's own ν degrees of freedom, divided by a fresh χ²(ν)/ν in each draw, which for a quantity linear in the
  losses gives Student's interval; shared within a lineage to the degree that its residuals agree. A sweep with one
  seed in each of some five cells of a budget loses its bracket in most case draws, so there the design must stay.
- `residual`: as `noise`, with the fit's own residuals over √(1 − leverage), drawn with replacement.
- `wild`: each row keeps its own residual, over 1 − leverage (HC3), with a random sign (Rademacher; or Mammen 1993,
  Ann. Stat. 21:255); a lineage shares its sign. For noise that differs between rows in unknown ways.
- `seeds`: as `noise`, with σ(N, D) modelled from cells that were run with several seeds, and nothing for what the
  law itself misses.

Residuals and s are those of a least-squares fit, whatever the objective: a fit by Huber's loss with a small delta
passes through as many runs as it has parameters, so that its own residuals are too small where they are zero. Every
approach sees the same draws of a table, so differences between approaches are paired. Measured coverage of all schemes:
results/benchmarks/coverage.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from analysis.intervals import MIN_DRAWS as MIN_DRAWS
from analysis.intervals import bca as bca
from analysis.intervals import estimate as estimate
from analysis.intervals import percentile as percentile
from analysis.noise import SeedNoise
from analysis.types import Array
from scaling.errors import InputError

Scheme = Literal["case", "noise", "residual", "wild", "seeds"]
Choice = Literal["auto", "case", "noise", "residual", "wild", "seeds"]
Multiplier = Literal["rademacher", "mammen"]
SCHEMES: tuple[Choice, ...] = get_args(Choice)
MULTIPLIERS: tuple[Multiplier, ...] = get_args(Multiplier)

MIN_CLUSTERS_PER_BUDGET = 20
"""Fewer runs than this in a budget, and case draws of its parabola are too wide: 90 % intervals covered 94 % at 13."""
MIN_CLUSTERS = 60
"""Fewer runs than this without budgets, and case draws of a five-parameter law degenerate."""
_MOST_LEVERAGE = 0.95
_GOLDEN = (1.0 + math.sqrt(5.0)) / 2.0


@dataclass(frozen=True, eq=False)
class Resamples:
    """B draws of a table of n rows: `weights` (B, n) counts (case), or `shocks` (B, n) of unit variance for its noise.

    `picks` (B, n) are the rows whose residual each row takes (residual); `sigma` (n,) on `dof` is the seeds' own noise.
    """

    scheme: Scheme
    seed: int
    draws: int
    weights: Array | None = None
    shocks: Array | None = None
    picks: NDArray[np.intp] | None = None
    sigma: Array | None = None
    dof: int = 0

    def noise(self, sigma: float, dof: int, residual: Array | None = None, leverage: Array | None = None) -> Array:
        """Noise of the log loss (B, n) to be added to a fit.

        Args:
            sigma: s, its standard deviation; `seeds` takes its own where the caller has modelled one.
            dof: degrees of freedom s was estimated on; 0 takes it as known.
            residual: (n,) observed minus fitted log losses of a least-squares fit; needed by `residual` and `wild`,
                which fall back on `noise` without them.
            leverage: (n,) of that fit, 0 where not given.
        """
        assert self.shocks is not None
        if self.sigma is not None:
            return np.asarray(self.sigma * self._mixing(self.dof) * self.shocks)
        if residual is None or self.scheme == "noise" or not np.isfinite(residual).all():
            return np.asarray(sigma * self._mixing(dof) * self.shocks)
        left = 1.0 - np.minimum(np.zeros(residual.size) if leverage is None else leverage, _MOST_LEVERAGE)
        if self.picks is None:
            return np.asarray(self.shocks * (residual / left))
        spread = residual / np.sqrt(left)
        return np.asarray(self._mixing(dof) * (spread - spread.mean())[self.picks])

    def _mixing(self, dof: int) -> Array:
        """(B, 1): √(ν/χ²_ν), the uncertainty of an estimated standard deviation."""
        if dof <= 0:
            return np.ones((self.draws, 1))
        chi2 = np.random.default_rng([self.seed, 2]).chisquare(dof, self.draws)
        return np.asarray(np.sqrt(dof / np.maximum(chi2, 1e-12))[:, None])

    def new_run(self, sigma: float, dof: int) -> Array:
        """Noise (B,) of the log loss of a run that is not in the table."""
        rng = np.random.default_rng([self.seed, 3])
        scale = np.sqrt(dof / np.maximum(rng.chisquare(dof, self.draws), 1e-12)) if dof > 0 else 1.0
        return np.asarray(sigma * scale * rng.standard_normal(self.draws))

    def take(self, rows: NDArray[np.intp]) -> Resamples:
        """The same draws of some of the rows; residuals are then taken from among these rows."""
        return Resamples(
            self.scheme,
            self.seed,
            self.draws,
            None if self.weights is None else self.weights[:, rows],
            None if self.shocks is None else self.shocks[:, rows],
            None if self.picks is None else np.mod(self.picks[:, rows], rows.size),
            None if self.sigma is None else self.sigma[rows],
            self.dof,
        )


def choose_scheme(clusters: NDArray[np.intp], strata: NDArray[np.intp] | None, choice: Choice) -> Scheme:
    """`case` where every stratum (or the whole table) holds runs enough, else `noise`.

    Raises:
        InputError: no such scheme.
    """
    if choice not in SCHEMES:
        raise InputError(f"there is no bootstrap scheme {choice!r}; there are {', '.join(SCHEMES)}")
    if choice != "auto":
        return choice
    if strata is None:
        return "case" if np.unique(clusters).size >= MIN_CLUSTERS else "noise"
    fewest = min(np.unique(clusters[strata == s]).size for s in np.unique(strata))
    return "case" if fewest >= MIN_CLUSTERS_PER_BUDGET else "noise"


def resample(
    clusters: NDArray[np.intp],
    *,
    draws: int,
    seed: int,
    scheme: Scheme,
    strata: NDArray[np.intp] | None = None,
    shared: float = 0.0,
    multiplier: Multiplier = "rademacher",
    seeds: SeedNoise | None = None,
) -> Resamples:
    """Draws of a table whose rows belong to `clusters` (n,) and perhaps to `strata` (n,).

    Args:
        clusters: lineage of each row; rows of one lineage are drawn, or shaken, together.
        draws: how many.
        seed: of the draws; the same seed gives the same draws.
        scheme: see the module; not `auto`.
        strata: groups that keep their number of clusters in every draw (case); a lineage in several groups makes one
            stratum of its own kind with every lineage that lies in the same groups.
        shared: share of the noise's variance that a lineage's rows have in common (noise, seeds).
        multiplier: of the wild bootstrap.
        seeds: the rows' noise by their seeds, which the scheme of that name needs.

    Raises:
        InputError: the scheme `seeds` without any.
    """
    ids, cluster = np.unique(clusters, return_inverse=True)
    rng = np.random.default_rng([seed, 1])
    if scheme == "case":
        return Resamples("case", seed, draws, weights=_counts(cluster, ids.size, draws, strata, rng)[:, cluster])
    if scheme == "wild":
        return Resamples("wild", seed, draws, shocks=_signs(multiplier, ids.size, draws, rng)[:, cluster])
    shocks = rng.standard_normal((draws, cluster.size))
    if shared > 0 and ids.size < cluster.size:
        common = rng.standard_normal((draws, ids.size))[:, cluster]
        shocks = math.sqrt(shared) * common + math.sqrt(1 - shared) * shocks
    if scheme == "noise":
        return Resamples("noise", seed, draws, shocks=shocks)
    if scheme == "residual":
        return Resamples("residual", seed, draws, shocks=shocks, picks=_picks(cluster, ids.size, draws, rng))
    if seeds is None:
        raise InputError(
            "scheme seeds needs some cells, equal in everything but the seed, that were run more than once"
        )
    return Resamples("seeds", seed, draws, shocks=shocks, sigma=seeds.sigma, dof=seeds.dof)


def _signs(multiplier: Multiplier, size: int, draws: int, rng: np.random.Generator) -> Array:
    """Multipliers (B, clusters) of mean 0 and variance 1; Mammen's have third moment 1 as well."""
    if multiplier == "rademacher":
        return np.where(rng.random((draws, size)) < 0.5, -1.0, 1.0)
    if multiplier != "mammen":
        raise InputError(f"there is no multiplier {multiplier!r}; there are {', '.join(MULTIPLIERS)}")
    low = rng.random((draws, size)) < _GOLDEN / math.sqrt(5.0)
    return np.where(low, 1.0 - _GOLDEN, _GOLDEN)


def _counts(
    cluster: NDArray[np.intp], size: int, draws: int, strata: NDArray[np.intp] | None, rng: np.random.Generator
) -> Array:
    """How often each cluster is drawn, (B, clusters)."""
    kinds = np.zeros(size, int)
    if strata is not None:
        membership = [tuple(np.unique(strata[cluster == k])) for k in range(size)]
        kinds = np.array([sorted(set(membership)).index(m) for m in membership])
    several = np.unique(kinds).size > 1
    counts = np.ones((draws, size))
    for kind in np.unique(kinds):
        at = np.flatnonzero(kinds == kind)
        take = at.size - 1 if several and at.size > 1 else at.size
        counts[:, at] = rng.multinomial(take, np.full(at.size, 1.0 / at.size), size=draws) * (at.size / take)
    return counts


def _picks(cluster: NDArray[np.intp], size: int, draws: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """The row whose residual each row takes, (B, n): a lineage takes those of one other lineage, in their order."""
    n = cluster.size
    if size == n:
        return rng.integers(0, n, (draws, n))
    rows = [np.flatnonzero(cluster == k) for k in range(size)]
    place = np.array([int(np.searchsorted(rows[cluster[i]], i)) for i in range(n)])
    lengths = np.array([r.size for r in rows])
    table = np.full((size, lengths.max()), -1)
    for k, r in enumerate(rows):
        table[k, : r.size] = r
    given = rng.integers(0, size, (draws, size))[:, cluster]
    return np.asarray(table[given, np.mod(place[None], lengths[given])])


def shared_noise(residual: Array, clusters: NDArray[np.intp]) -> float:
    """Share of the residual variance common to the rows of a cluster, by products of pairs, in [0, 1]."""
    ids, cluster, size = np.unique(clusters, return_inverse=True, return_counts=True)
    pairs = float((size * (size - 1)).sum())
    if pairs == 0:
        return 0.0
    sums = np.bincount(cluster, residual, ids.size)
    squares = np.bincount(cluster, residual**2, ids.size)
    variance = float(np.mean(residual**2))
    return float(np.clip((sums**2 - squares).sum() / pairs / variance, 0.0, 1.0)) if variance > 0 else 0.0
