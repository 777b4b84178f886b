"""Loss on limited unique data: L(D) by size, L(N, D) jointly, and the overfit over N^(alpha_N/alpha_D)/D.

Kaplan et al. 2020 (arXiv 2001.08361) §4: L(N, D) = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D (law `kaplan_joint`), so
that the overfit δL = L(N, D)/L(N, ∞) − 1 = (1 + (N/N_c)^(alpha_N/alpha_D) D_c/D)^alpha_D − 1 depends on
N^(alpha_N/alpha_D)/D alone. D are unique tokens, and losses are those of the run stopped at its lowest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.fitting import check_draws, fit
from analysis.labels import UNLABELLED, Labels
from analysis.laws.kaplan_joint import KaplanJoint
from analysis.laws.power import Power
from analysis.replicates import Pooled, pooled, recipes
from analysis.table import Runs, read_table
from analysis.types import Array, Dropped, Estimate, FitResult, Plain, Status, jsonable

if TYPE_CHECKING:
    import pandas as pd

REPEATED = 1.2
"""Epochs above which a run saw its data again: its loss is no longer that of data without limit."""


@dataclass(frozen=True)
class OverfitPoint(Plain):
    """One size on one amount of unique data: its loss (mean over seeds, nats), and its overfit.

    `overfit` is L(N, D)/L(N, ∞) − 1 with L(N, ∞) the same size's loss on the most data; `x` is N^(alpha_N/alpha_D)/D by
    the joint fit; `predicted` that fit's δL.
    """

    params: float
    unique_tokens: float
    loss: Estimate
    overfit: Estimate
    x: float
    predicted: float
    runs: int


@dataclass(frozen=True)
class SizeLaw(Plain):
    """L(D) of one size: A D^−alpha over its unique tokens."""

    params: float
    fit: FitResult


@dataclass(frozen=True, eq=False)
class Overfitting:
    """L(D) by size, L(N, D) jointly, and the overfit of every size and amount of data."""

    joint: FitResult
    by_size: tuple[SizeLaw, ...]
    points: tuple[OverfitPoint, ...]
    noise: Pooled
    status: Status
    reason: str
    warnings: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    labels: Labels = UNLABELLED

    def delta(self, params: ArrayLike, unique_tokens: ArrayLike) -> Array:
        """δL of the joint fit at sizes and unique tokens, broadcast."""
        return overfit_of(self.joint.values, params, unique_tokens)

    def delta_over(self, x: ArrayLike) -> tuple[Array, Array, Array]:
        """δL of the joint fit over x = N^(alpha_N/alpha_D)/D (n,), and its interval's ends, at the fitted exponent."""
        at = np.asarray(x, dtype=np.float64)
        value = _delta_of_x(self.joint.values, at)
        if not self.joint.draws:
            nan = np.full(at.shape, np.nan)
            return value, nan, nan
        # The curve is asked for at the sizes' centre, so that draws of the exponent move the curve and not the axis.
        size = math.exp(float(np.log(self.joint.data["params"]).mean()))
        tokens = size ** (self.joint.values["alpha"] / self.joint.values["beta"]) / at
        drawn = overfit_of(self.joint.draws, size, tokens[:, None])
        tail = 50.0 * (1.0 - self.joint.level)
        lo, hi = np.nanpercentile(drawn, [tail, 100.0 - tail], axis=-1)
        return value, lo, hi

    def to_json(self) -> dict[str, Any]:
        """All fields; `noise` is the seeds' sd of the log loss."""
        return jsonable({**vars(self), "noise": vars(self.noise)})


def overfit_of(params: Any, size: ArrayLike, unique_tokens: ArrayLike) -> Array:
    """δL = L(N, D)/(A N^−alpha) − 1 of the law `kaplan_joint`; parameter values and arrays broadcast."""
    n, d = np.asarray(size, dtype=np.float64), np.asarray(unique_tokens, dtype=np.float64)
    alone = np.asarray(params["A"]) * n ** -np.asarray(params["alpha"])
    return np.asarray(KaplanJoint().predict(params, params=n, tokens=d) / alone - 1.0)


def _delta_of_x(p: Any, x: Array) -> Array:
    """(1 + B^(1/beta)/A^(1/beta) · x)^beta − 1, with x = N^(alpha/beta)/D."""
    beta = p["beta"]
    return np.asarray(np.expm1(beta * np.log1p(np.exp((math.log(p["B"]) - math.log(p["A"])) / beta) * x)))


def measure_overfitting(
    rows: pd.DataFrame, *, count: str = "non_embedding", level: float = 0.9, bootstrap: int = 400, seed: int = 0
) -> Overfitting:
    """Fits L(D), L(N, D) and the overfit to runs on limited unique data.

    Args:
        rows: a store's rows: sizes × amounts of unique data (`tokens_unique`) × seeds; the loss is `loss_best` where a
            row has one, else `loss`. Of several rates the best at each size and amount of data is taken.
        count: which parameters N counts.
        level: nominal coverage of the intervals.
        bootstrap, seed: draws, and their seed.

    Raises:
        TableError: a column is missing or holds no positive numbers.
    """
    check_draws(bootstrap, level)
    runs = read_table(rows, needs=("params", "unique_tokens", "tokens", "loss"))
    runs = runs.take(_best_recipes(runs, _early_stopped(runs)[0], count))
    loss, late = _early_stopped(runs)
    table = _table(runs, loss, count)
    size, data = table["params"].to_numpy(), table["tokens"].to_numpy()
    noise = pooled(list(zip(size, data, strict=True)), np.log(loss))
    joint = fit(
        table, KaplanJoint(), objective="ls_log", bootstrap=bootstrap, level=level, seed=seed, scheme="wild",
    )  # fmt: skip
    by_size = []
    for n in np.unique(size):
        part = table[size == n].rename(columns={"tokens": "unique_tokens"})
        law = fit(part, Power("unique_tokens"), objective="ls_log", bootstrap=bootstrap, level=level, seed=seed)
        by_size.append(SizeLaw(float(n), law))
    points = _points(table, loss, noise, joint, level)
    notes = [*joint.warnings, *_warnings(runs, table, late, noise)]
    return Overfitting(
        joint,
        tuple(by_size),
        points,
        noise,
        joint.status,
        joint.reason,
        tuple(notes),
        runs.dropped,
        Labels.of(runs, count),
    )


def _early_stopped(runs: Runs) -> tuple[Array, int]:
    """Each row's `loss_best`, its final loss where it has none, and how many have none."""
    if "loss_best" not in runs.frame.columns:
        return runs.loss, len(runs)
    best = runs.frame["loss_best"].to_numpy(dtype=np.float64)
    missing = ~(np.isfinite(best) & (best > 0))
    return np.where(missing, runs.loss, best), int(missing.sum())


def _best_recipes(runs: Runs, loss: Array, count: str) -> NDArray[np.intp]:
    """Rows of the recipe (rate, batch, horizon) with the lowest mean loss at each size and amount of data."""
    size, data = runs.params(count), runs.variable("unique_tokens")
    cells: dict[tuple[float, float], dict[tuple[float | str, ...], list[int]]] = {}
    for i, key in enumerate(recipes(runs, count)):
        cells.setdefault((float(size[i]), float(data[i])), {}).setdefault(key, []).append(i)
    best = [min(cell.values(), key=lambda at: float(loss[at].mean())) for cell in cells.values()]
    return np.array(sorted(i for at in best for i in at), dtype=np.intp)


def _table(runs: Runs, loss: Array, count: str) -> pd.DataFrame:
    """The runs as the law takes them: params, tokens (unique ones), loss, lineage."""
    import pandas as pd

    return pd.DataFrame(
        {
            "params": runs.params(count),
            "tokens": runs.variable("unique_tokens"),
            "loss": loss,
            "lineage": [str(k) for k in runs.lineage],
        }
    )


def _points(
    table: pd.DataFrame, loss: Array, noise: Pooled, joint: FitResult, level: float
) -> tuple[OverfitPoint, ...]:
    """Every size and amount of data, with its overfit against the most data of its size."""
    size, data = table["params"].to_numpy(), table["tokens"].to_numpy()
    log = np.log(loss)
    known = bool(joint.params) and all(e.known for e in joint.params.values())
    found = []
    for n in np.unique(size):
        amounts = np.unique(data[size == n])
        most = (size == n) & (data == amounts[-1])
        for d in amounts:
            here = (size == n) & (data == d)
            mean, k = float(log[here].mean()), int(here.sum())
            half = noise.half_width(1.0 / k, level)
            value = Estimate(math.exp(mean), (math.exp(mean - half), math.exp(mean + half)), level)
            ratio = mean - float(log[most].mean())
            half = noise.half_width(1.0 / k + 1.0 / int(most.sum()), level)
            over = Estimate(math.expm1(ratio), (math.expm1(ratio - half), math.expm1(ratio + half)), level)
            x = float(n ** (joint.values["alpha"] / joint.values["beta"]) / d) if known else math.nan
            predicted = float(overfit_of(joint.values, n, d)) if known else math.nan
            reference = d == amounts[-1]
            found.append(
                OverfitPoint(float(n), float(d), value, Estimate.missing(level) if reference else over, x, predicted, k)
            )
    return tuple(found)


def _warnings(runs: Runs, table: pd.DataFrame, late: int, noise: Pooled) -> list[str]:
    """What the runs cannot tell."""
    notes = []
    if late:
        notes.append(f"{late} of {len(runs)} rows have no loss_best: their loss is that at the end, overfit included")
    if noise.dof == 0:
        notes.append("no size and amount of data was run with several seeds: the points have no intervals")
    if "epochs" in runs.frame.columns:
        size, data = table["params"].to_numpy(), table["tokens"].to_numpy()
        epochs = runs.frame["epochs"].to_numpy(dtype=np.float64)
        again = [n for n in np.unique(size) if epochs[(size == n) & (data == data[size == n].max())].max() > REPEATED]
        if again:
            sizes = ", ".join(f"{n:.3g}" for n in again)
            notes.append(f"N = {sizes}: even the most data is seen again, so that L(N, ∞) is not reached by a run")
    return notes
