"""The data of the certified fits: laws written as formulas, and made-up runs of graded difficulty, easy to hard."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy

SYMBOLS = {"N": "params", "D": "tokens", "C": "flops"}
LAWS: dict[str, tuple[str, str]] = {
    # Name of the law to fit: its parameters, and the law over N, D, C.
    "power": ("A alpha", "A*N**-alpha"),
    "power_floor": ("E A alpha", "E + A*N**-alpha"),
    "tied": ("E A B alpha", "E + A*N**-alpha + B*D**-alpha"),
    "kaplan_joint": ("A alpha B beta", "((A*N**-alpha)**(1/beta) + (B*D**-beta)**(1/beta))**beta"),
    "broken_power": ("E A c0 c1 d1 f1", "E + A*N**-c0*(1 + (N/d1)**(1/f1))**(-c1*f1)"),
    "chinchilla": ("E A alpha B beta", "E + A*N**-alpha + B*D**-beta"),
}

Row = dict[str, Any]
Values = dict[str, float]


def spread(low: float, high: float, n: int) -> np.ndarray:
    """`n` values from low to high, equally far apart in their logarithm."""
    return np.geomspace(low, high, n)


def grid(sizes: np.ndarray, data: np.ndarray) -> dict[str, np.ndarray]:
    """Every size with every amount of data."""
    n, d = np.meshgrid(sizes, data, indexing="ij")
    return {"params": n.ravel(), "tokens": d.ravel()}


def isoflop(budgets: np.ndarray, sizes: int, ratio: float) -> dict[str, np.ndarray]:
    """`sizes` sizes `ratio` apart about sqrt(C/120) at each budget, D = C/(6N)."""
    c = np.repeat(budgets, sizes)
    n = np.sqrt(c / 120.0) * np.tile(ratio ** (np.arange(sizes) - (sizes - 1) / 2), budgets.size)
    return {"params": n, "tokens": c / (6.0 * n)}


def along_a_line(low: float, high: float, n: int, scatter: float, seed: int) -> dict[str, np.ndarray]:
    """Sizes with about 20 tokens a parameter, so that N and D hardly move apart."""
    size = spread(low, high, n)
    return {"params": size, "tokens": 20.0 * size * np.exp(scatter * np.random.default_rng(seed).standard_normal(n))}


def problem(
    name: str, law: str, difficulty: str, why: str, x: dict[str, np.ndarray], truth: Values, noise: float,
    seed: int, outliers: int = 0,
) -> Row:  # fmt: skip
    """A data set of `law` at points `x`: relative noise, and `outliers` losses a quarter to a half too high."""
    rng = np.random.default_rng(seed)
    columns = {k: _rounded(v, 6) for k, v in x.items()}
    points = range(len(columns["params"]))
    losses = np.array([_law(law, truth, {k: v[i] for k, v in columns.items()}) for i in points])
    losses = losses * np.exp(noise * rng.standard_normal(losses.size))
    if outliers:
        losses[rng.choice(losses.size, outliers, replace=False)] *= rng.uniform(1.25, 1.5, outliers)
    columns["loss"] = _rounded(losses, 7)
    return {"name": name, "law": law, "difficulty": difficulty, "why": why, "truth": truth, "columns": columns}


def _rounded(values: np.ndarray, digits: int) -> list[float]:
    return [float(f"{v:.{digits - 1}e}") for v in values]


def _law(law: str, params: Values, x: Values) -> float:
    """The law's loss at one point."""
    symbols = {**params, **{s: x[v] for s, v in SYMBOLS.items() if v in x}}
    return float(sympy.sympify(LAWS[law][1], locals={k: sympy.Float(v, 30) for k, v in symbols.items()}))


def problems() -> list[Row]:
    """Every data set, easy to hard within a law."""
    floor, hoffmann = (
        {"E": 1.8, "A": 120.0, "alpha": 0.33},
        {"E": 1.7, "A": 400.0, "alpha": 0.34, "B": 800.0, "beta": 0.3},
    )
    tied, joint = (
        {"E": 1.6, "A": 250.0, "B": 900.0, "alpha": 0.31},
        {"A": 11.0, "alpha": 0.076, "B": 21.0, "beta": 0.103},
    )
    broken = {"E": 0.6, "A": 30.0, "c0": 0.16, "c1": 0.14, "d1": 1e7, "f1": 0.4}
    return [
        problem("power-easy", "power", "easy", "four decades", {"params": spread(1e6, 1e10, 24)},
                {"A": 20.0, "alpha": 0.08}, 0.004, 1),
        problem("power-average", "power", "average", "one decade, 2 % noise", {"params": spread(3e7, 3e8, 12)},
                {"A": 9.0, "alpha": 0.076}, 0.02, 2),
        problem("power-narrow", "power", "hard", "sizes within a factor of 1.2", {"params": spread(1e9, 1.2e9, 8)},
                {"A": 30.0, "alpha": 0.1}, 0.002, 3),
        problem("power-outliers", "power", "hard", "6 of 24 losses are outliers", {"params": spread(1e6, 1e10, 24)},
                {"A": 20.0, "alpha": 0.08}, 0.004, 4, outliers=6),
        problem("floor-easy", "power_floor", "easy", "five decades", {"params": spread(1e5, 1e10, 30)},
                floor, 0.003, 5),
        problem("floor-average", "power_floor", "average", "two decades, 1 % noise", {"params": spread(1e6, 1e8, 20)},
                floor, 0.01, 6),
        problem("floor-near-zero", "power_floor", "hard", "a floor of 1 % of the lowest loss",
                {"params": spread(1e5, 1e10, 30)}, {"E": 0.02, "A": 30.0, "alpha": 0.12}, 0.001, 7),
        problem("floor-narrow", "power_floor", "hard", "sizes within a factor of 4",
                {"params": spread(1e8, 4e8, 14)}, floor, 0.001, 8),
        problem("floor-outliers", "power_floor", "hard", "5 of 30 losses are outliers",
                {"params": spread(1e5, 1e10, 30)},
                floor, 0.003, 9, outliers=5),
        problem("chinchilla-easy", "chinchilla", "easy", "three decades of each, a full grid",
                grid(spread(1e6, 1e9, 7), spread(1e8, 1e11, 7)), hoffmann, 0.003, 10),
        problem("chinchilla-average", "chinchilla", "average", "five budgets of seven sizes",
                isoflop(spread(1e18, 1e21, 5), 7, 2.0), hoffmann, 0.005, 11),
        problem("chinchilla-narrow", "chinchilla", "hard", "a factor of 8 of each",
                grid(spread(1e8, 8e8, 5), spread(2e9, 1.6e10, 5)),
                hoffmann, 0.0015, 12),
        problem("chinchilla-near-zero", "chinchilla", "hard", "a floor of 3 % of the lowest loss",
                grid(spread(1e6, 1e10, 7), spread(1e8, 1e12, 7)),
                {"E": 0.03, "A": 40.0, "alpha": 0.18, "B": 90.0, "beta": 0.2}, 0.001, 13),
        problem("chinchilla-collinear", "chinchilla", "hard", "about 20 tokens a parameter throughout (r = .99)",
                along_a_line(1e6, 1e10, 40, 0.4, 14), {**hoffmann, "beta": 0.42, "B": 6000.0}, 0.0015, 14),
        problem("chinchilla-outliers", "chinchilla", "hard", "8 of 49 losses are outliers",
                grid(spread(1e6, 1e9, 7), spread(1e8, 1e11, 7)), hoffmann, 0.003, 15, outliers=8),
        problem("tied-easy", "tied", "easy", "three decades of each, a full grid",
                grid(spread(1e6, 1e9, 7), spread(1e8, 1e11, 7)), tied, 0.003, 16),
        problem("tied-narrow", "tied", "hard", "a factor of 6 of each",
                grid(spread(1e8, 6e8, 5), spread(2e9, 1.2e10, 5)),
                tied, 0.001, 17),
        problem("kaplan-joint-easy", "kaplan_joint", "easy", "three decades of each, a full grid",
                grid(spread(1e6, 1e9, 7), spread(3e7, 3e10, 7)), joint, 0.003, 18),
        problem("kaplan-joint-outliers", "kaplan_joint", "hard", "6 of 42 losses are outliers",
                grid(spread(1e6, 1e9, 6), spread(3e7, 3e10, 7)), joint, 0.004, 19, outliers=6),
        problem("broken-average", "broken_power", "average", "one break amid eight decades",
                {"params": spread(1e3, 1e11, 48)},
                broken, 0.002, 20),
        problem("broken-late", "broken_power", "hard", "a gentle break in the last of six decades",
                {"params": spread(1e4, 1e10, 60)}, {**broken, "d1": 5e8, "f1": 0.6, "c1": 0.1}, 0.001, 21),
    ]  # fmt: skip
