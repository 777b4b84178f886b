"""What repeated text is worth: fresh tokens of equal loss, excess loss, overfitting; by size, unique text and epochs.

Muennighoff et al. 2023 (arXiv 2305.16264) measure worth through their law alone. Here a run on U unique tokens seen for
e epochs is set beside fresh text at the same size: D_eq, the fresh tokens that give its loss, is read off the fresh
runs without any law. From epoch e1 to e2 a token is worth (D_eq(e2) − D_eq(e1))/((e2 − e1) U) of a fresh one, negative
where more epochs hurt. What a fitted law says of the same quantity is found by the same inversion, so that the excess
parameters that the law discounts when U is small count on both sides; the law's data term alone is
R_D (e^(−(e1 − 1)/R_D) − e^(−(e2 − 1)/R_D))/(e2 − e1).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.fitting import check_draws
from analysis.fresh_curves import LEAST, FreshCurve
from analysis.intervals import estimate
from analysis.labels import UNLABELLED, Labels
from analysis.law_worth import data_term_worth, law_worth, of_draws
from analysis.overfitting import REPEATED
from analysis.replicates import Pooled, pooled, recipes
from analysis.table import Runs, read_table
from analysis.types import Array, Dropped, Estimate, FitResult, Plain, Status, jsonable

if TYPE_CHECKING:
    import pandas as pd

_ONCE = 1.02
"""Epochs up to which a run saw its text once: horizons are whole steps."""


@dataclass(frozen=True)
class Point(Plain):
    """One size on one amount of text for some epochs; losses in nats, mean over `runs` seeds.

    `excess` is L/L_fresh(N, D) − 1 at as many fresh tokens; `equivalent` D_eq; `worth` that of a repeated token on
    average, (D_eq(e) − D_eq(1))/((e − 1) U); `law` the same by the law. Unknown ones have their reason.
    """

    params: float
    unique_tokens: float
    epochs: float
    loss: Estimate
    excess: Estimate
    equivalent: Estimate
    worth: Estimate
    law: Estimate
    runs: int
    status: Status
    reason: str = ""


@dataclass(frozen=True)
class Step(Plain):
    """Worth of a token in the epochs after `first` up to `last`; size and text are NaN where several are averaged.

    `law` is the fitted law's by the same inversion, `data_term` that of its data term alone.
    """

    params: float
    unique_tokens: float
    first: float
    last: float
    worth: Estimate
    law: Estimate
    data_term: Estimate
    cells: int
    status: Status
    reason: str = ""


@dataclass(frozen=True)
class Series(Plain):
    """One size on one amount of text, over its epochs.

    `free_epochs` is the most epochs up to which every excess is within the seeds' noise, `resolved_at` the first that
    is not (NaN: none); `best_epochs` those of the least loss; `last_change` the relative change of the loss from the
    last epochs but one to the last, above 0 where more epochs hurt, with `status` for its sign.
    """

    params: float
    unique_tokens: float
    most_epochs: float
    free_epochs: float
    resolved_at: float
    best_epochs: float
    last_change: Estimate
    status: Status
    reason: str


@dataclass(frozen=True)
class Fresh(Plain):
    """Loss of fresh text at one size and horizon."""

    params: float
    tokens: float
    loss: Estimate
    runs: int


@dataclass(frozen=True, eq=False)
class Repetition:
    """Every point, step and series; steps averaged over sizes and texts, and over the texts of each size."""

    points: tuple[Point, ...]
    steps: tuple[Step, ...]
    by_epoch: tuple[Step, ...]
    by_size: tuple[Step, ...]
    series: tuple[Series, ...]
    fresh: tuple[Fresh, ...]
    noise: Pooled
    law: FitResult | None
    status: Status
    reason: str
    warnings: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    labels: Labels = UNLABELLED

    def to_json(self) -> dict[str, Any]:
        """All fields; `noise` is the seeds' sd of the log loss; the law without its points."""
        return jsonable({**vars(self), "noise": vars(self.noise)})


def measure_repetition(
    rows: pd.DataFrame,
    law: FitResult | None = None,
    *,
    count: str = "non_embedding",
    level: float = 0.9,
    bootstrap: int = 400,
    seed: int = 0,
) -> Repetition:
    """Measures what repeated text is worth against fresh text at the same size.

    Args:
        rows: a store's rows: sizes × limited texts (`tokens_unique`) × epochs, and fresh runs at several horizons of
            every size; each run read at the end of its own schedule. A single pass over a limited text stands for fresh
            text at horizons without a run on all the text.
        law: a fit of size, tokens and unique tokens to set beside.
        count: which parameters N counts.
        level: nominal coverage of the intervals.
        bootstrap, seed: draws of the seeds' noise, and their seed.

    Raises:
        TableError: a column is missing or holds no positive numbers.
        InputError: a level outside (0, 1), or too few draws.
    """
    check_draws(bootstrap, level)
    runs = read_table(rows, needs=("params", "unique_tokens", "tokens", "loss"))
    fresh, limited = _split(runs, count)
    noise = pooled(recipes(runs, count), np.log(runs.loss))
    labels = Labels.of(runs, count)
    draws = _Noise(noise, bootstrap if noise.dof else 0, level, seed)
    shown = tuple(
        Fresh(n, d, draws.mean(losses), len(losses)) for n, at in fresh.items() for d, losses in sorted(at.items())
    )
    curves = {n: draws.curve(n, at) for n, at in fresh.items() if len(at) >= LEAST}
    if not limited or not curves:
        reason = "no run saw its text again" if not limited else f"no size has {LEAST} horizons of fresh text"
        return Repetition((), (), (), (), (), shown, noise, law, Status.TOO_FEW_POINTS, reason, labels=labels)
    points: list[Point] = []
    steps: list[_Drawn] = []
    series: list[Series] = []
    for (n, u), at in sorted(limited.items()):
        found = _measured(n, u, at, curves.get(n), law, draws)
        points += found.points
        steps += found.steps
        series.append(found.series)
    known = [s for s in steps if s.step.worth.known]
    sizes = sorted({n for n, _ in limited})
    by_size = [s for n in sizes for s in _averages([s for s in steps if s.step.params == n], law, level, n)]
    lost = sorted({n for n, _ in limited} - set(curves))
    notes = [f"N = {n:.3g}: fewer than {LEAST} horizons of fresh text" for n in lost]
    if not noise.dof:
        notes.append("no cell was run with several seeds: nothing has an interval")
    status = Status.CONVERGED if known and noise.dof else Status.NOT_RESOLVED
    reason = "" if status is Status.CONVERGED else (notes[-1] if notes else "no worth could be read")
    return Repetition(
        tuple(points),
        tuple(s.step for s in steps),
        tuple(_averages(steps, law, level, math.nan)),
        tuple(by_size),
        tuple(series),
        shown,
        noise,
        law,
        status,
        reason,
        tuple(notes),
        runs.dropped,
        labels,
    )


Losses = dict[float, list[float]]


def _split(runs: Runs, count: str) -> tuple[dict[float, Losses], dict[tuple[float, float], Losses]]:
    """Log losses of fresh runs by size and horizon, and of runs on limited text by size, text and epochs.

    A text is limited where some run saw it again.
    """
    size, tokens, unique = runs.params(count), runs.tokens, runs.variable("unique_tokens")
    epochs, log_loss = tokens / unique, np.log(runs.loss)
    texts = set(unique[epochs > REPEATED].tolist())
    fresh: dict[float, Losses] = {}
    limited: dict[tuple[float, float], Losses] = {}
    for n, d, u, e, y in zip(size.tolist(), tokens.tolist(), unique.tolist(), epochs, log_loss.tolist(), strict=True):
        if u in texts:
            whole = 1.0 if 1 / _ONCE <= e <= _ONCE else float(f"{e:.4g}")
            limited.setdefault((n, u), {}).setdefault(whole, []).append(y)
        elif e <= _ONCE:
            fresh.setdefault(n, {}).setdefault(d, []).append(y)
    own = {n: tuple(at) for n, at in fresh.items()}
    for (n, u), at in limited.items():
        if 1.0 in at and not any(1 / _ONCE <= d / u <= _ONCE for d in own.get(n, ())):
            fresh.setdefault(n, {})[u] = at[1.0]
    return fresh, limited


@dataclass(frozen=True)
class _Noise:
    """Draws of the seeds' noise; every mean that is asked for gets draws of its own."""

    noise: Pooled
    draws: int
    level: float
    seed: int

    def mean(self, log_losses: Sequence[float]) -> Estimate:
        """The geometric mean with its interval."""
        centre = float(np.mean(log_losses))
        half = self.noise.half_width(1.0 / len(log_losses), self.level)
        return Estimate(math.exp(centre), (math.exp(centre - half), math.exp(centre + half)), self.level)

    def drawn(self, log_losses: Sequence[float], key: Iterable[int]) -> Array:
        """Mean log loss (1 + B,): itself, then with noise."""
        centre = float(np.mean(log_losses))
        if not self.draws:
            return np.array([centre])
        # One χ² for all of a draw, as one sd is shared; shocks of each mean by its own key, whatever the order.
        chi = np.random.default_rng([self.seed, 2]).chisquare(self.noise.dof, self.draws) / self.noise.dof
        shocks = np.random.default_rng([self.seed, 5, *key]).standard_normal(self.draws)
        return np.append(centre, centre + self.noise.sd / np.sqrt(chi * len(log_losses)) * shocks)

    def curve(self, params: float, at: Losses) -> FreshCurve:
        """Loss by fresh tokens at one size."""
        tokens = sorted(at)
        rows = [self.drawn(at[d], (1, round(params), round(d))) for d in tokens]
        return FreshCurve(np.log(tokens), np.array(rows).T)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A step with draws of its worth and of the law's, (B,) each."""

    step: Step
    worth: Array
    law: Array


@dataclass(frozen=True, eq=False)
class _Cell:
    points: list[Point]
    steps: list[_Drawn]
    series: Series


def _measured(n: float, u: float, at: Losses, curve: FreshCurve | None, law: FitResult | None, draws: _Noise) -> _Cell:
    """One size on one amount of text."""
    epochs = sorted(at)
    level = draws.level
    drawn = np.array([draws.drawn(at[e], (2, round(n), round(u), round(1000 * e))) for e in epochs]).T
    nothing = np.full(drawn.shape, np.nan)
    excess, fresh, outside = nothing, nothing, np.zeros(len(epochs))
    if curve is not None:
        excess = np.expm1(drawn - curve.loss(np.log(u * np.array(epochs))))
        logs, outside = curve.equivalent(drawn)
        fresh = np.exp(logs)
        fresh[0, outside != 0] = np.nan
    base = fresh[:, 0] if epochs[0] == 1.0 else np.full(len(fresh), u)
    by_law = law_worth(law, n, u, epochs)
    points = []
    for i, e in enumerate(epochs):
        worth = (fresh[:, i] - base) / ((e - 1.0) * u) if e > 1.0 else nothing[:, 0]
        status, reason = Status.CONVERGED, ""
        if curve is None or outside[i]:
            status, reason = Status.NON_INTERIOR, _beyond(curve, int(outside[i]))
        points.append(
            Point(
                n, u, e, draws.mean(at[e]), of_draws(excess[:, i], level), of_draws(fresh[:, i], level),
                of_draws(worth, level), of_draws(by_law.of(1.0, e), level) if e > 1.0 else Estimate.missing(level),
                len(at[e]), status, reason,
            )
        )  # fmt: skip
    steps = []
    for i, (a, b) in enumerate(pairwise(epochs)):
        worth = (fresh[:, i + 1] - fresh[:, i]) / ((b - a) * u)
        status, reason = (
            (Status.CONVERGED, "")
            if math.isfinite(worth[0])
            else (Status.NON_INTERIOR, _beyond(curve, int(outside[i] or outside[i + 1])))
        )
        theirs = by_law.of(a, b)
        step = Step(
            n, u, a, b, of_draws(worth, level), of_draws(theirs, level), by_law.data_term(a, b, level), 1, status,
            reason,
        )  # fmt: skip
        steps.append(_Drawn(step, worth[1:], theirs))
    return _Cell(points, steps, _series(n, u, epochs, drawn, points, level))


def _beyond(curve: FreshCurve | None, side: int) -> str:
    if curve is None:
        return "too few horizons of fresh text at this size"
    end = math.exp(float(curve.log_tokens[0 if side < 0 else -1]))
    return f"{'worse' if side < 0 else 'better'} than the {'shortest' if side < 0 else 'longest'} fresh run ({end:.3g})"


def _series(n: float, u: float, epochs: list[float], drawn: Array, points: list[Point], level: float) -> Series:
    free, resolved = math.nan, math.nan
    for p in points:
        if not np.isfinite(p.excess.ci).all() or p.epochs < 1.0:
            break
        if p.excess.ci[0] > 0:
            resolved = p.epochs
            break
        free = p.epochs
    change, status, reason = Estimate.missing(level), Status.TOO_FEW_POINTS, "one number of epochs"
    if len(epochs) > 1:
        change = of_draws(np.expm1(drawn[:, -1] - drawn[:, -2]), level)
        status, reason = change.told_from(no_interval="no cell was run with several seeds")
    best = epochs[int(np.argmin(drawn[0]))]
    return Series(n, u, epochs[-1], free, resolved, best, change, status, reason)


def _averages(steps: Sequence[_Drawn], law: FitResult | None, level: float, params: float) -> list[Step]:
    """Worth by epochs, its mean over sizes and texts: weights by precision would favour cells of low worth."""
    found = []
    for first, last in sorted({(s.step.first, s.step.last) for s in steps}):
        here = [s for s in steps if (s.step.first, s.step.last) == (first, last)]
        known = [s for s in here if s.step.worth.known]
        out = len(here) - len(known)
        reason = f"{out} of {len(here)} cells lie beyond the fresh runs and are left out" if out else ""
        missing = Estimate.missing(level)
        r_d = (
            np.full(1, np.nan) if law is None else np.append(law.values.get("R_D", math.nan), law.draws.get("R_D", []))
        )
        term = of_draws(data_term_worth(r_d, first, last), level)
        blank = Step(params, math.nan, first, last, missing, missing, term, len(known), Status.NON_INTERIOR, reason)
        if not known:
            found.append(blank)
            continue
        value = float(np.mean([s.step.worth.value for s in known]))
        drawn = np.mean([s.worth for s in known], axis=0)
        theirs = np.mean([s.law for s in known], axis=0)
        worth = estimate(value, drawn, level, interval="percentile")
        if not np.isfinite(worth.ci).all():
            status, reason = Status.NOT_RESOLVED, reason or "no cell was run with several seeds"
        else:
            status = Status.NON_INTERIOR if out else Status.CONVERGED
        found.append(replace(blank, worth=worth, law=of_draws(theirs, level), status=status, reason=reason))
    return found
