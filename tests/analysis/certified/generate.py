"""Makes certified.json: fits of made-up data of graded difficulty whose minima are known to 25 digits.

In the manner of the Statistical Reference Datasets of NIST for nonlinear regression (Rogers et al. 1998), for laws of
scale and two objectives: Σ (ln L̂ − ln L)²/2, and Σ Huber(ln L̂ − ln L) with delta 1e-3. Nothing here uses the solver
that is tested: sympy differentiates each law, scipy searches the minimum from many starts, and Newton's method in 60
digits with exact second derivatives takes the best of them to a gradient below 1e-45 with a positive definite Hessian.
The data are the doubles that the printed decimals read as.

    python -m tests.analysis.certified.generate        (some minutes; no part of the tests)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import sympy
from scipy.optimize import minimize

from tests.analysis.certified.problems import LAWS, SYMBOLS, Row, Values, problems

FILE = Path(__file__).with_name("certified.json")
DIGITS, PRINTED = 60, 25
DELTA = 1e-3
STARTS = 12


class Smooth:
    """ln of a law at the points of a data set, with first and second derivatives, in any precision."""

    def __init__(self, row: Row) -> None:
        names, text = LAWS[row["law"]]
        self.names = names.split()
        symbols = {s: sympy.Symbol(s, positive=True) for s in [*self.names, *SYMBOLS]}
        log_law = sympy.log(sympy.sympify(text, locals=symbols))
        theta = [symbols[n] for n in self.names]
        arguments = [*theta, *(symbols[s] for s, v in SYMBOLS.items() if v in row["columns"])]
        first = [sympy.diff(log_law, t) for t in theta]
        second = [[sympy.diff(g, t) for t in theta] for g in first]
        columns = row["columns"]
        self.points = list(zip(*(columns[v] for v in SYMBOLS.values() if v in columns), strict=True))
        self.exact = sympy.lambdify(arguments, [log_law, first, second], modules="mpmath", cse=True)
        self.fast = sympy.lambdify(arguments, [log_law, first], modules="numpy", cse=True)
        self.columns = [np.array(columns[v]) for v in SYMBOLS.values() if v in columns]
        self.log_loss = np.log(np.array(columns["loss"]))
        self.losses = columns["loss"]


def rho(r: Any, huber: bool) -> tuple[Any, Any, int]:
    """The objective's term of a residual, its slope, and its second derivative."""
    delta = mpmath.mpf(DELTA)
    if not huber or abs(r) <= delta:
        return r * r / 2, r, 1
    return delta * (abs(r) - delta / 2), delta * mpmath.sign(r), 0


def scouted(model: Smooth, truth: Values, huber: bool) -> np.ndarray:
    """The best of many searches in double precision, over the logarithms of the parameters.

    For Huber's objective each search follows the minimum from a large delta down to the one that is wanted.
    """

    def value(u: np.ndarray, delta: float) -> tuple[float, np.ndarray]:
        theta = np.exp(np.clip(u, -60, 60))
        with np.errstate(all="ignore"):
            f, jac = model.fast(*theta, *model.columns)
        r = np.asarray(f) - model.log_loss
        if not np.isfinite(r).all():
            return 1e12, np.zeros_like(u)
        total = np.where(abs(r) <= delta, r * r / 2, delta * (abs(r) - delta / 2)).sum() / delta
        slope = np.clip(r, -delta, delta) / delta
        return float(total), np.array([float((slope * np.broadcast_to(g, r.shape)).sum()) for g in jac]) * theta

    rng = np.random.default_rng(0)
    centre = np.log([truth[n] for n in model.names])
    best, least = centre, np.inf
    for k in range(STARTS):
        u = centre + (0.0 if k == 0 else 1.0) * rng.normal(0, 0.5, centre.size)
        for delta in (1.0, 0.1, 0.01, DELTA) if huber else (1e9,):
            options = {"ftol": 1e-16, "gtol": 1e-14, "maxiter": 2000, "maxcor": 30}
            found = minimize(value, u, args=(delta,), jac=True, method="L-BFGS-B", options=options)
            u = found.x
        if found.fun < least:
            best, least = u, found.fun
    return np.exp(best)


def certified(model: Smooth, start: Sequence[float], huber: bool) -> tuple[list[Any], Any]:
    """Parameters and objective at the minimum next to `start`, by damped Newton steps in 60 digits.

    Raises:
        ArithmeticError: the gradient does not vanish, or the Hessian there is not positive definite.
    """
    logs = [mpmath.log(mpmath.mpf(v)) for v in model.losses]
    points = [[mpmath.mpf(v) for v in p] for p in model.points]
    size = len(model.names)

    def at(theta: Any) -> tuple[Any, Any, Any]:
        total, g, h = mpmath.mpf(0), mpmath.zeros(size, 1), mpmath.zeros(size)
        for x, y in zip(points, logs, strict=True):
            f, first, second = model.exact(*theta, *x)
            term, slope, curve = rho(f - y, huber)
            total += term
            for i in range(size):
                g[i] += slope * first[i]
                for j in range(size):
                    h[i, j] += curve * first[i] * first[j] + slope * second[i][j]
        return total, g, h

    def steepest(g: Any, theta: Any) -> Any:
        return max(abs(g[i]) * abs(theta[i]) for i in range(size))

    theta = mpmath.matrix([mpmath.mpf(float(v)) for v in start])
    value, g, h = at(theta)
    damping = mpmath.mpf(10) ** -6
    for _ in range(600):
        scale = mpmath.diag([max(abs(h[i, i]), mpmath.mpf(10) ** -40) for i in range(size)])
        steep = steepest(g, theta)
        if steep < mpmath.mpf(10) ** -50:
            break
        step = mpmath.lu_solve(h + damping * scale, -g)
        trial = theta + step
        ok = all(t > 0 for t in trial)
        new = at(trial) if ok else (mpmath.inf, None, None)
        # Near the minimum the objective itself no longer changes in 60 digits, but its gradient still does.
        near = ok and steep < mpmath.mpf(10) ** -12 and steepest(new[1], trial) < steep
        if ok and (near or new[0] < value):
            theta, (value, g, h) = trial, new
            damping = damping / 100 if damping > mpmath.mpf(10) ** -40 else mpmath.mpf(0)
        else:
            damping = max(damping * 5, mpmath.mpf(10) ** -12)
    if steep >= mpmath.mpf(10) ** -45:
        raise ArithmeticError(f"gradient {mpmath.nstr(steep, 3)} at {mpmath.nstr(theta.T, 6)}")
    mpmath.cholesky(h)  # raises ValueError where it is not positive definite
    return list(theta), value


def solved(row: Row, report: Callable[[str], None] = print) -> Row:
    """The data set with its certified minima."""
    model = Smooth(row)
    found: dict[str, Any] = {}
    for objective in ("ls_log", "huber_log"):
        huber = objective == "huber_log"
        theta, value = certified(model, scouted(model, row["truth"], huber), huber)
        params = {n: mpmath.nstr(t, PRINTED) for n, t in zip(model.names, theta, strict=True)}
        found[objective] = {"params": params, "objective": mpmath.nstr(value, PRINTED)}
        report(f"{row['name']} {objective}: " + ", ".join(f"{n} {v[:12]}" for n, v in params.items()))
    return {**{k: v for k, v in row.items() if k != "truth"}, "minima": found}


def main() -> None:
    """Solves every problem and writes the file."""
    with mpmath.workdps(DIGITS):
        rows = [solved(row) for row in problems()]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    FILE.write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
