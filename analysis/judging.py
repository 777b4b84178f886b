"""What a fit is worth: its status, the reason, and warnings, from bounds, flat profiles, condition and agreement."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.confirm import Confirmation
from analysis.laws.base import FLOOR_AT_ZERO, Array, Bound, Law
from analysis.profiles import Problem, flat_ends
from analysis.types import Status

PROFILE_LEVEL = 0.95
"""A parameter is identified on a side where its profile likelihood leaves this interval."""
_WORST_CONDITION = 1e12


@dataclass
class Verdict:
    """Status, its reason, warnings, and what was looked at."""

    status: Status
    reason: str = ""
    warnings: list[str] = field(default_factory=list)
    diagnostics: dict[str, Any] = field(default_factory=dict)


def too_few(law: Law, x: dict[str, Array]) -> str:
    """Why these points cannot carry the law's parameters at all; "" where they can."""
    needed = len(law.parameters)
    distinct = len(np.unique(np.stack([x[v] for v in law.variables], axis=1), axis=0))
    if distinct <= needed:
        return f"{distinct} distinct points for {needed} parameters; {needed + 1} are the least"
    return ""


def condition(jacobian: Array) -> float:
    """Condition number of the scaled normal equations of a Jacobian (P, n) of the log loss."""
    norm = np.sqrt((jacobian**2).sum(axis=1))
    if not np.isfinite(norm).all() or (norm < 1e-10 * norm.max()).any():
        return math.inf
    scaled = jacobian / norm[:, None]
    values = np.linalg.eigvalsh(scaled @ scaled.T)
    return float(values[-1] / values[0]) if values[0] > 0 else math.inf


def judge(law: Law, problem: Problem, gradient: float, converged: bool, confirmation: Confirmation | None) -> Verdict:
    """The verdict on a law's fit; the floor's profile likelihood stands in its diagnostics."""
    bound, theta = problem.bound, problem.theta
    jac = bound.evaluate(theta[None])[1][0]
    found = Verdict(Status.CONVERGED, diagnostics={"condition": condition(jac)})
    logs: Array = getattr(bound, "x", np.empty((0, 0)))
    flat = [v for v, row in zip(law.variables, logs, strict=False) if np.ptp(row) < 1e-9]
    if flat:
        found.status, found.reason = Status.UNIDENTIFIED, f"all runs have the same {flat[0]}"
        return found
    at_bound = _at_bound(bound, theta)
    floor = bound.names.index(law.floor) if law.floor is not None else None
    upper = math.nan
    if floor is not None:
        upper, from_below = _floor_profile(problem, floor, found.diagnostics)
        if float(np.exp(theta[floor])) < FLOOR_AT_ZERO * float(np.exp(problem.log_loss.min())):
            found.status = Status.BOUND_HIT
            found.reason = f"the best {law.floor} is 0; any up to {upper:.3g} nats fits as well"
            return found
        if not at_bound and not from_below:
            found.status = Status.UNIDENTIFIED
            found.reason = f"{law.floor} is bounded above only: any up to {upper:.3g} nats fits as well"
            return found
    if at_bound:
        found.status, found.reason = Status.BOUND_HIT, f"{', '.join(at_bound)} at the edge of the allowed range"
    elif found.diagnostics["condition"] > _WORST_CONDITION:
        found.status = Status.UNIDENTIFIED
        found.reason = f"parameters trade off freely (condition {found.diagnostics['condition']:.1g})"
    elif not converged:
        found.status, found.reason = Status.NOT_CONVERGED, f"gradient {gradient:.2g} after the last iteration"
    else:
        _flatness(problem, floor, found)
    if found.status is Status.CONVERGED and confirmation is not None:
        _agreement(problem, confirmation, found)
    return found


def _at_bound(bound: Bound, theta: Array) -> list[str]:
    return [
        name
        for name, value, lo, hi in zip(bound.names, theta, bound.lower, bound.upper, strict=True)
        if value <= lo + 1e-9 or value >= hi - 1e-9
    ]


def _flatness(problem: Problem, floor: int | None, found: Verdict) -> None:
    """Unidentified where a parameter's profile is flat out to both of its bounds; a warning where to one of them."""
    flat = flat_ends(problem, PROFILE_LEVEL, () if floor is None else (floor,))
    if not flat:
        return
    found.diagnostics["flat_profiles"] = {
        name: [end for end, is_flat in zip(("lower", "upper"), ends, strict=True) if is_flat]
        for name, ends in flat.items()
    }
    both = [name for name, ends in flat.items() if all(ends)]
    if both:
        found.status = Status.UNIDENTIFIED
        found.reason = f"the profile of {', '.join(both)} is flat: any value allowed fits as well"
        return
    for name, (low, _) in flat.items():
        found.warnings.append(f"{name} is bounded {'above' if low else 'below'} only")


def _agreement(problem: Problem, confirmation: Confirmation, found: Verdict) -> None:
    """Not converged where a second solver ends elsewhere."""
    if not confirmation.agrees:
        found.status = Status.NOT_CONVERGED
        found.reason = (
            f"a second solver ended at {confirmation.objective:.9g} from {confirmation.starts} other starts, this one "
            f"at {problem.best:.9g}: no global optimum is shown"
        )
    elif confirmation.local:
        found.warnings.append("a second solver found the optimum from nearby only: it may not be the lowest")


def _floor_profile(problem: Problem, index: int, diagnostics: dict[str, Any]) -> tuple[float, bool]:
    """Profile likelihood of the floor: its upper end in nats, and whether the data bound it from below."""
    lowest, value = float(np.exp(problem.log_loss.min())), float(np.exp(problem.theta[index]))
    grid = np.concatenate([lowest * np.array([0.001, 0.1]), lowest * np.linspace(0.2, 0.995, 22)])
    grid = np.unique(np.append(grid, np.clip(value * np.array([0.98, 1.0, 1.02]), grid[0], None)))
    rise = problem.lost_with(index, np.log(grid))
    critical = problem.critical(PROFILE_LEVEL)
    at = int(np.argmin(rise))
    upper = _end(grid[at:], rise[at:], critical)
    lower = _end(grid[at::-1], rise[at::-1], critical)
    diagnostics["profile"] = {problem.bound.names[index]: grid.tolist(), "two_delta_log_likelihood": rise.tolist()}
    diagnostics["profile_critical_95"] = critical
    diagnostics["profile_interval_95"] = [lower, upper]
    return upper, bool(rise[0] > critical)


def _end(values: Array, rise: Array, critical: float) -> float:
    """Where a profile, walked outwards from its minimum, first exceeds the threshold; its end where it never does."""
    beyond = np.flatnonzero(rise > critical)
    if beyond.size == 0 or beyond[0] == 0:
        return float(values[-1] if beyond.size == 0 else values[0])
    i = int(beyond[0])
    share = (critical - rise[i - 1]) / (rise[i] - rise[i - 1])
    return float(values[i - 1] + share * (values[i] - values[i - 1]))
