"""Fitting a law over learning-rate schedules to whole training curves, and the loss of a schedule not yet run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from analysis.bootstrap import percentile
from analysis.curve_tables import Curve, Curves, CurveTable, read_curves
from analysis.laws import get_law
from analysis.laws.schedule import BoundCurves, ScheduleLaw
from analysis.schedules import LEAST_RATE, check_rates
from analysis.solve import DRAW_TOLERANCE, OBJECTIVES, Objective, minimise, multistart
from analysis.types import Array, Estimate, FitResult, Status
from scaling.errors import InputError

_SCORED = 1024
"""Points of a run that a score is made of, at most."""
_DRAW_STEPS = 80
"""Iterations of a draw, warm from the optimum; one that creeps along a ridge for longer is in its place well enough."""
_UNIDENTIFIED = 1e12
"""Condition number of the scaled normal equations above which parameters trade off freely."""


@dataclass(frozen=True)
class CurveScore:
    """How far a law is from one run's curve; errors in nats, `relative` and `worst` as shares of the loss.

    `r2` is 1 − Σ(L − L̂)²/Σ(L − mean L)² over the run's own points, `final` the last point's L̂ − L.
    """

    fitted: bool
    n: int
    r2: float
    mae: float
    rmse: float
    relative: float
    worst: float
    final: float

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False, repr=False)
class CurveFit(FitResult):
    """A law over schedules fitted to some runs' curves; `scores` has every run of the table, fitted or held out.

    Intervals come from noise with the residuals' size and memory: they tell how well these curves determine the law.
    How far the law itself is off shows only in the held-out runs' scores. `data` has each fitted point's step, rate,
    area under the rate and loss.
    """

    scores: Mapping[str, CurveScore] = field(default_factory=dict)

    @property
    def held_out(self) -> dict[str, CurveScore]:
        """Scores of the runs that were not fitted."""
        return {run: s for run, s in self.scores.items() if not s.fitted}

    def mean_r2(self, *, fitted: bool = False) -> float:
        """Mean of r2 over the held-out runs, or over the fitted ones; NaN where there are none."""
        found = [s.r2 for s in self.scores.values() if s.fitted == fitted]
        return float(np.mean(found)) if found else math.nan

    def predict(self, **variables: ArrayLike) -> Array:
        """Loss in nats of a schedule `rates` (T,), one rate a step, at `steps`; at its last step where none are given.

        Raises:
            InputError: rates that are no schedule, or a step outside it.
        """
        return super().predict(**_with_steps(variables))

    def predict_interval(self, *, new_run: bool = False, **variables: ArrayLike) -> tuple[Array, Array]:
        """(lo, hi) of `predict` from the joint draws, or of a new run's loss; NaN without draws."""
        asked = _with_steps(variables)
        if not self.draws:
            nan = np.full(np.shape(asked["steps"]), np.nan)
            return nan, nan
        losses = self.model.predict(self.draws, **asked)
        if new_run:
            losses = losses * np.exp(self.sigma * np.random.default_rng(0).standard_normal(losses.shape[-1]))
        tail = 50.0 * (1.0 - self.level)
        lo, hi = np.nanpercentile(losses, [tail, 100.0 - tail], axis=-1)
        return lo, hi

    def final_loss(self, rates: ArrayLike) -> Estimate:
        """Loss at the end of a schedule not yet run, with the interval of its mean."""
        lo, hi = self.predict_interval(rates=rates)
        return Estimate(float(self.predict(rates=rates)), (float(lo), float(hi)), self.level)

    def to_json(self) -> dict[str, Any]:
        """The `fit` object of the command line, with `scores`."""
        return {**super().to_json(), "scores": {run: s.to_json() for run, s in self.scores.items()}}

    def __repr__(self) -> str:
        rows = [
            f"  {'fitted' if s.fitted else 'held out'} {run}: R² {s.r2:.4f}, mean error {s.mae:.4f} nats,"
            f" at the end {s.final:+.4f}"
            for run, s in self.scores.items()
        ]
        return "\n".join([super().__repr__(), *rows])


def _with_steps(variables: Mapping[str, ArrayLike]) -> dict[str, ArrayLike]:
    if set(variables) == {"rates"}:
        return {**variables, "steps": check_rates(variables["rates"]).size - 1}
    return dict(variables)


def fit_curves(
    table: CurveTable,
    law: str | ScheduleLaw = "multi_power",
    *,
    train: Sequence[str] | None = None,
    schedules: Mapping[str, ArrayLike] | None = None,
    warmup_steps: int | None = None,
    column: str | None = None,
    objective: Objective = "huber_log",
    bootstrap: int = 100,
    level: float = 0.9,
    seed: int = 0,
    points: int = 256,
    fixed: Mapping[str, float] | None = None,
) -> CurveFit:
    """Fits a law over schedules to the curves of several runs at once, and scores it on every run of the table.

    Args:
        table, schedules, warmup_steps, column: see `read_curves`.
        law: `multi_power` or `annealing`.
        train: the runs to fit; the others are held out. All by default.
        objective: huber_log (summed, delta 1e-3), ls_log or ls.
        bootstrap: draws of noise with the residuals' size and memory; 0 gives no intervals.
        level: nominal coverage of the intervals.
        seed: of the draws.
        points: of each curve, at most, evenly spread over its steps.
        fixed: parameters held at a value, such as a published `gamma` where one schedule cannot tell it.

    Raises:
        TableError, InputError: see `read_curves`; no such law, run, objective or parameter.
    """
    chosen = get_law(law)
    if not isinstance(chosen, ScheduleLaw):
        raise InputError(f"law {chosen.name} is not over schedules; fit_curves takes annealing or multi_power")
    if objective not in OBJECTIVES:
        raise InputError(f"there is no objective {objective!r}; there are {', '.join(OBJECTIVES)}")
    if not 0.0 < level < 1.0 or bootstrap < 0 or 0 < bootstrap < 20 or points < 8:
        raise InputError("level must lie between 0 and 1, bootstrap be 0 or at least 20, points at least 8")
    curves = read_curves(table, schedules=schedules, warmup_steps=warmup_steps, column=column)
    names = list(curves.runs) if train is None else list(dict.fromkeys(train))
    for name in names:
        if name not in curves.runs:
            why = next((d.reason for d in curves.dropped if d.row == name), "the table has no such run")
            raise InputError(f"train: {name!r}: {why}; there are {', '.join(list(curves.runs)[:12])}")
    if not names:
        raise InputError("train: name at least one run")
    fitted = [curves.runs[name].thinned(points) for name in names]
    held = _held(chosen, fixed or {})
    command = f"fit_curves(table, law={chosen.name!r}, train={names!r}, objective={objective!r}, bootstrap={bootstrap}"
    command += f", level={level}, seed={seed}" + (f", fixed={held!r})" if held else ")")
    return _fit(chosen, curves, fitted, held, objective, bootstrap, level, seed, command)


def _held(law: ScheduleLaw, fixed: Mapping[str, float]) -> dict[str, float]:
    """The parameters to hold, checked; A moves with alpha in the solver and cannot be."""
    for name, value in fixed.items():
        free = [q.name for q in law.parameters if q.name != "A"]
        if name not in free:
            raise InputError(f"fixed: {name!r} cannot be held; {', '.join(free)} can")
        q = law.parameter(name)
        if not q.lower < value < q.upper:
            raise InputError(f"fixed: {name} is {value}, outside {q.lower:g} to {q.upper:g}")
    return {name: float(value) for name, value in fixed.items()}


def _fit(
    law: ScheduleLaw,
    curves: Curves,
    fitted: Sequence[Curve],
    held: Mapping[str, float],
    objective: Objective,
    bootstrap: int,
    level: float,
    seed: int,
    command: str,
) -> CurveFit:
    """The fit to `fitted`, thinned curves, with its intervals and the scores of all."""
    loss = np.concatenate([c.loss for c in fitted])
    common: dict[str, Any] = {
        "law": law.name,
        "objective": objective,
        "n": loss.size,
        "level": level,
        "model": law,
        "dropped": curves.dropped,
        "command": command,
    }
    free = len(law.parameters) - len(held)
    if loss.size <= free:
        missing = {q.name: Estimate.missing(level) for q in law.parameters}
        reason = f"{loss.size} points for {free} parameters"
        return CurveFit(
            params=missing,
            objective_value=math.nan,
            status=Status.TOO_FEW_POINTS,
            reason=reason,
            sigma=math.nan,
            **common,
        )
    bound = law.bind_curves([(c.rates, c.steps) for c in fitted])
    bound.hold(held)
    y, ones = np.log(loss), np.ones(loss.size)
    best, share = multistart(bound, y, ones, objective)
    theta = best.theta[0]
    log_fit, jac = bound.evaluate(theta[None])
    residual = y - log_fit[0]
    sigma = float(np.sqrt(np.sum(residual**2) / (loss.size - free)))
    lengths = [c.loss.size for c in fitted]
    memory = _memory(residual, lengths, free)
    diagnostics = {
        "starts_at_optimum": share,
        "gradient": float(best.gradient[0]),
        "condition": _condition(jac[0][[name not in held for name in bound.names]]),
        "residual_sd_log": sigma,
        "residual_memory": memory,
        "loss_column": curves.column,
        "fitted_runs": [c.run for c in fitted],
        "fixed": dict(held),
    }
    values = {name: float(v[0]) for name, v in bound.named(theta[None]).items()}
    draws: dict[str, Array] = {}
    if bootstrap:
        noisy = log_fit[0] + _noise(residual, lengths, memory, free, bootstrap, seed)
        warm = np.repeat(theta[None], bootstrap, axis=0)
        solved = minimise(bound, noisy, ones, warm, objective, tolerance=DRAW_TOLERANCE, max_iterations=_DRAW_STEPS)
        draws = bound.named(solved.theta)
    status, reason = _judge(bound, theta, fitted, held, diagnostics, bool(best.converged[0]))
    rest = np.array([math.nan])
    return CurveFit(
        params={k: Estimate(v, percentile(draws.get(k, rest), level), level) for k, v in values.items()},
        objective_value=float(best.objective[0]),
        status=status,
        reason=reason,
        sigma=sigma,
        warnings=_warnings(law, fitted),
        diagnostics=diagnostics,
        draws=draws,
        data={
            "steps": np.concatenate([c.steps for c in fitted]).astype(np.float64),
            "rates": np.maximum(bound.sampled.rate, LEAST_RATE * bound.sampled.rate.max()),
            "area": bound.sampled.area,
            "loss": loss,
            "predicted": np.exp(log_fit[0]),
        },
        scores={
            c.run: _score(law, values, c.thinned(_SCORED), any(c.run == f.run for f in fitted))
            for c in curves.runs.values()
        },
        **common,
    )


def _judge(
    bound: BoundCurves,
    theta: Array,
    fitted: Sequence[Curve],
    held: Mapping[str, float],
    diagnostics: Mapping[str, Any],
    converged: bool,
) -> tuple[Status, str]:
    """What the fit is worth, and why."""
    if not any(_falls(c) for c in fitted):
        return Status.UNIDENTIFIED, "no fitted run lowers its rate, so nothing tells what lowering it gains"
    at_bound = [
        name
        for name, value, lo, hi in zip(bound.names, theta, bound.lower, bound.upper, strict=True)
        if name not in held and (value <= lo + 1e-9 or value >= hi - 1e-9)
    ]
    if at_bound:
        return Status.BOUND_HIT, f"{', '.join(at_bound)} at the edge of the allowed range"
    if not diagnostics["condition"] < _UNIDENTIFIED:
        return Status.UNIDENTIFIED, f"parameters trade off freely (condition {diagnostics['condition']:.1g})"
    if not converged:
        return Status.NOT_CONVERGED, f"the solver stopped at a scaled gradient of {diagnostics['gradient']:.1g}"
    return Status.CONVERGED, ""


def _falls(curve: Curve) -> bool:
    """Whether the rate falls by a tenth or more before the last point."""
    seen = curve.rates[: curve.steps[-1] + 1]
    return bool(seen[-1] < 0.9 * seen.max() or (np.maximum.accumulate(seen) * 0.9 > seen).any())


def _warnings(law: ScheduleLaw, fitted: Sequence[Curve]) -> tuple[str, ...]:
    """What makes these curves weak for a law over schedules."""
    found = []
    if len(fitted) == 1:
        found.append("one run only: areas and drop move together along one schedule; two schedules or more are wanted")
    if len({float(c.rates.max()) for c in fitted}) == 1:
        found.append("all fitted runs have one peak rate: the law is not tested for another")
    return tuple(found)


def _condition(jacobian: Array) -> float:
    """Condition number of the scaled normal equations of a Jacobian (P, n)."""
    norm = np.sqrt((jacobian**2).sum(axis=1))
    if not norm.min() > 1e-10 * norm.max():
        return math.inf
    scaled = jacobian / norm[:, None]
    values = np.linalg.eigvalsh(scaled @ scaled.T)
    return float(values[-1] / values[0]) if values[0] > 0 else math.inf


def _memory(residual: Array, lengths: Sequence[int], free: int) -> float:
    """Correlation of neighbouring residuals within curves, less the bias that fitting `free` parameters leaves."""
    parts = np.split(residual, np.cumsum(lengths)[:-1])
    total = sum(float(r @ r) for r in parts)
    raw = sum(float(r[1:] @ r[:-1]) for r in parts) / total if total > 0 else 0.0
    return float(np.clip(raw + (1.0 + 3.0 * raw) * free / residual.size, 0.0, 0.98))


def _noise(residual: Array, lengths: Sequence[int], memory: float, free: int, draws: int, seed: int) -> Array:
    """Noise (draws, n) with the residuals' size and memory: innovations drawn again, run through each curve.

    The sieve bootstrap of order one (Bühlmann 1997, Bernoulli 3:123), scaled for the points that n correlated ones are
    worth.
    """
    rng = np.random.default_rng([seed, 3])
    parts = np.split(residual, np.cumsum(lengths)[:-1])
    innovation = np.concatenate([r[1:] - memory * r[:-1] for r in parts if r.size > 1])
    innovation -= innovation.mean()
    worth = residual.size * (1.0 - memory) / (1.0 + memory)
    innovation *= math.sqrt(residual.size / (residual.size - free) * max(worth / max(worth - free, 1.0), 1.0))
    found = []
    for part in parts:
        shocks = innovation[rng.integers(0, innovation.size, (draws, part.size))]
        path = np.empty((draws, part.size))
        path[:, 0] = shocks[:, 0] / math.sqrt(1.0 - memory**2)
        for t in range(1, part.size):
            path[:, t] = memory * path[:, t - 1] + shocks[:, t]
        found.append(path)
    return np.concatenate(found, axis=1)


def _score(law: ScheduleLaw, values: Mapping[str, float], curve: Curve, fitted: bool) -> CurveScore:
    """The law's errors on a run's points."""
    error = law.predict(values, rates=curve.rates, steps=curve.steps) - curve.loss
    spread = float(((curve.loss - curve.loss.mean()) ** 2).sum())
    size = np.abs(error)
    return CurveScore(
        fitted,
        error.size,
        1.0 - float((error**2).sum()) / spread if spread > 0 else math.nan,
        float(size.mean()),
        float(np.sqrt((error**2).mean())),
        float((size / curve.loss).mean()),
        float((size / curve.loss).max()),
        float(error[-1]),
    )
