"""Power laws through a corpus's entropies and correlations over every window: y = A x^-exponent, E + A x^-exponent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from analysis.corpus_statistics import Points, Protocol
from analysis.types import Array, jsonable

_GAMMAS = np.geomspace(0.02, 8.0, 241)


@dataclass(frozen=True, eq=False)
class Window:
    """One line: `quantity` entropy or correlation from `first` to `last`, its exponent, and that of each draw (R,).

    `floor` is zero or free for entropies, else ""; `reason` says why the exponent is none, where it is not finite.
    """

    quantity: str
    floor: str
    first: int
    last: int
    points: int
    exponent: float
    draws: Array
    amplitude: float
    offset: float
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """All but the draws."""
        return jsonable({k: v for k, v in vars(self).items() if k != "draws"})


def entropy_windows(points: Points, floor: str, protocol: Protocol) -> list[Window]:
    """Lines through H_n over every admissible window of contexts, under one treatment of H_inf."""
    fewest = 3 if floor == "zero" else 4
    return [
        w
        for first, last in product(protocol.first_contexts, protocol.last_contexts)
        if (w := _line("entropy", floor, points, first, last, fewest, protocol)) is not None
    ]


def correlation_windows(points: Points, protocol: Protocol) -> list[Window]:
    """Lines through ||C(lag)|| over every admissible window of lags."""
    return [
        w
        for first, last in product(protocol.first_lags, protocol.last_lags)
        if last / first >= protocol.span
        and (w := _line("correlation", "", points, first, last, 4, protocol)) is not None
    ]


def _line(
    quantity: str, floor: str, points: Points, first: int, last: int, fewest: int, protocol: Protocol
) -> Window | None:
    """The window from first to last, both of which must be admissible; None where it is not."""
    if first not in points.x or last not in points.x:
        return None
    inside = (points.x >= first) & (points.x <= last)
    x, y = points.x[inside], points.value[inside]
    if len(x) < fewest:
        return None
    weight = 1 / (points.relative_se[inside] ** 2 + protocol.scatter**2)
    stacked = np.vstack([y, points.draws[:, inside]])
    solve = fit_floor if floor == "free" else fit_line
    exponent, amplitude, offset = solve(x, stacked, weight)
    reason = ""
    if not exponent[0] > 0:
        reason = "it does not decay"
    elif floor == "free" and exponent[0] >= _GAMMAS[-2]:
        reason = "it decays faster than any power"
    elif floor == "free" and exponent[0] <= _GAMMAS[1]:
        reason = "it decays slower than any power"
    value = math.nan if reason else float(exponent[0])
    return Window(
        quantity, floor, first, last, len(x), value, exponent[1:], float(amplitude[0]), float(offset[0]), reason
    )


def fit_line(x: ArrayLike, y: Array, weight: Array) -> tuple[Array, Array, Array]:
    """y = A x^-exponent by weighted least squares of ln y; y (R, n). Returns exponent, A, a floor of 0, (R,) each."""
    u, v = np.log(np.asarray(x, dtype=np.float64)), np.log(np.maximum(y, 1e-300))
    w = weight / weight.sum()
    u0 = float(w @ u)
    v0 = v @ w
    slope = (v - v0[:, None]) @ (w * (u - u0)) / float(w @ (u - u0) ** 2)
    return -slope, np.exp(v0 - slope * u0), np.zeros(len(y))


def fit_floor(x: ArrayLike, y: Array, weight: Array) -> tuple[Array, Array, Array]:
    """y = E + A x^-exponent, E >= 0, by least squares of relative errors; y (R, n). Returns exponent, A, E, (R,) each.

    E and A are linear and solved for exactly at each exponent of a grid from 0.02 to 8; the best is refined by a
    parabola through its neighbours. Where the best floor is zero this is `fit_line`.
    """
    t = np.asarray(x, dtype=np.float64) ** -_GAMMAS[:, None]
    w = weight / y**2
    s_w, s_y, s_yy = w.sum(1), (w * y).sum(1), (w * y * y).sum(1)
    s_t, s_tt, s_ty = w @ t.T, w @ (t * t).T, (w * y) @ t.T
    bottom = s_w[:, None] * s_tt - s_t**2
    a = (s_w[:, None] * s_ty - s_t * s_y[:, None]) / bottom
    e = (s_y[:, None] - a * s_t) / s_w[:, None]
    low = e < 0
    a, e = np.where(low, s_ty / s_tt, a), np.where(low, 0.0, e)
    cost = s_yy[:, None] - 2 * a * s_ty - 2 * e * s_y[:, None] + a * a * s_tt + 2 * a * e * s_t + e * e * s_w[:, None]
    best = cost.argmin(axis=1)
    inner = np.clip(best, 1, len(_GAMMAS) - 2)
    rows = np.arange(len(y))
    left, mid, right = cost[rows, inner - 1], cost[rows, inner], cost[rows, inner + 1]
    curve = left - 2 * mid + right
    step = np.where((best == inner) & (curve > 0), 0.5 * (left - right) / np.where(curve > 0, curve, 1.0), 0.0)
    log_step = math.log(_GAMMAS[1] / _GAMMAS[0])
    exponent, amplitude, offset = _GAMMAS[best] * np.exp(np.clip(step, -1, 1) * log_step), a[rows, best], e[rows, best]
    line = fit_line(x, y, weight)  # the cost has a kink where the floor reaches zero, which no parabola fits
    misfit = (w * (y - line[1][:, None] * np.asarray(x, dtype=np.float64) ** -line[0][:, None]) ** 2).sum(axis=1)
    straight = (offset == 0) | (misfit <= mid)
    return (
        np.where(straight, line[0], exponent),
        np.where(straight, line[1], amplitude),
        np.where(straight, 0.0, offset),
    )
