"""Fit speed: Hoffmann's law to 240 rows against scipy's BFGS from Hoffmann's 4,500 starts, and against public packages.

The rows are those of Besiroglu et al. 2024 where SCALING_TEST_DATA has them, else synthetic. Long baselines run from
some of their starts, drawn at random, and are extrapolated; their objective is then the best of those starts. The
package `chinchilla` runs by its own interface with the grid of its README where it can be imported (its dependencies
attrdictx, ordinal and seaborn with it, from a folder on PYTHONPATH).
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from analysis.laws.base import Array

NOISE, STARTS, DRAWS, ROUNDS, PROCESSES = 0.01, 12, 4000, 3, 5
DELTA = 1e-3
GRID = list(
    itertools.product((0, 5, 10, 15, 20, 25), (0, 5, 10, 15, 20, 25), (-1, -0.5, 0, 0.5, 1), *[(0, 0.5, 1, 1.5, 2)] * 2)
)
"""Hoffmann's starts: ln A, ln B, ln E, alpha, beta."""
PACKAGE_GRID = {
    "E": np.linspace(1, 2, 5),
    "a": np.linspace(1, 10, 5),
    "b": np.linspace(1, 10, 5),
    "alpha": np.linspace(0.1, 0.7, 5),
    "beta": np.linspace(0.1, 0.7, 5),
}


def sample() -> tuple[pd.DataFrame, str]:
    """The rows, and where they are from."""
    folder = Path(os.environ.get("SCALING_TEST_DATA", "")) / "tables" / "epoch_chinchilla" / "svg_extracted_data.csv"
    if folder.is_file():
        raw = pd.read_csv(folder).sort_values("loss", kind="stable").iloc[:-5]
        params, flops = raw["Model Size"].to_numpy(float), raw["Training FLOP"].to_numpy(float)
        frame = pd.DataFrame({"params": params, "tokens": flops / 6 / params, "loss": raw["loss"].to_numpy(float)})
        return frame, "the 240 rows of Besiroglu et al. 2024"
    rng = np.random.default_rng(0)
    params = np.exp(rng.uniform(np.log(5e7), np.log(1.5e10), 240))
    tokens = np.exp(rng.uniform(np.log(1e9), np.log(5e11), 240))
    loss = (1.69 + 406.4 / params**0.34 + 410.7 / tokens**0.28) * np.exp(NOISE * rng.standard_normal(240))
    return pd.DataFrame({"params": params, "tokens": tokens, "loss": loss}), "240 synthetic rows"


def objective(theta: Array, log_n: Array, log_d: Array, y: Array, *, slope: bool) -> Any:
    """Hoffmann's D.2: sum of Huber on log loss; theta = (ln A, ln B, ln E, alpha, beta); with its gradient if asked."""
    a, b, e, alpha, beta = theta
    terms = np.stack([a - alpha * log_n, b - beta * log_d, np.full(y.size, e)])
    top = terms.max(axis=0)
    parts = np.exp(terms - top)
    total = parts.sum(axis=0)
    r = top + np.log(total) - y
    size = np.abs(r)
    value = float(np.where(size <= DELTA, 0.5 * r * r, DELTA * (size - 0.5 * DELTA)).sum())
    if not slope:
        return value
    score = np.clip(r, -DELTA, DELTA) * parts / total
    return value, np.array([score[0].sum(), score[1].sum(), score[2].sum(), -score[0] @ log_n, -score[1] @ log_d])


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def bfgs(frame: pd.DataFrame, starts: list[Any], *, slope: bool) -> tuple[float, float]:
    """Seconds that all of Hoffmann's starts would take, and the lowest objective of those that were run."""
    args = tuple(np.log(frame[c].to_numpy()) for c in ("params", "tokens", "loss"))

    def run() -> float:
        found = [
            minimize(lambda t: objective(t, *args, slope=slope), np.array(s, float), jac=slope or None, method="BFGS")
            for s in starts
        ]
        return float(min(f.fun for f in found))

    with np.errstate(all="ignore"):
        seconds, best = timed(run)
    return seconds / len(starts) * len(GRID), best


def package(frame: pd.DataFrame) -> tuple[float, float] | None:
    """Seconds that the package `chinchilla` would take for its README's grid, and the objective at what it found."""
    if any(importlib.util.find_spec(m) is None for m in ("chinchilla", "attrdictx", "ordinal", "seaborn")):
        return None
    from chinchilla import Chinchilla  # type: ignore[import-not-found]
    from chinchilla._metrics import log_huber  # type: ignore[import-not-found]

    few = {k: v[[1, 3]] for k, v in PACKAGE_GRID.items()}
    with tempfile.TemporaryDirectory() as folder:
        found = Chinchilla(folder, param_grid=few, loss_fn=lambda y, p: log_huber(y, p, delta=DELTA), log_level=50)
        found.database.df = pd.DataFrame({"N": frame["params"], "D": frame["tokens"], "loss": frame["loss"]})
        found.database.df.insert(0, "C", 6 * found.database.df["N"] * found.database.df["D"])
        seconds, _ = timed(lambda: found.fit(parallel=False))
        values = [float(getattr(found, k)) for k in ("A", "B", "E", "alpha", "beta")]
    theta = np.array([*np.log(values[:3]), *values[3:]])
    log = [np.log(frame[c].to_numpy()) for c in ("params", "tokens", "loss")]
    starts = {k: v.size for k, v in PACKAGE_GRID.items()}
    return seconds * float(np.prod(list(starts.values()))) / 2**5, float(objective(theta, *log, slope=False))


def processes(frame: pd.DataFrame) -> dict[str, float]:
    """Seconds of whole processes, warm: the median of some runs after one that is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        frame.to_csv(path, index=False)
        script = str(Path(sys.executable).with_name("scaling"))
        commands = {"scaling fit --help": [script, "fit", "--help"], "scaling fit TABLE": [script, "fit", str(path)]}
        found = {}
        for name, command in commands.items():
            runs = [
                timed(lambda c=command: subprocess.run(c, check=True, capture_output=True))[0]  # type: ignore[misc]
                for _ in range(PROCESSES + 1)
            ]
            found[name] = statistics.median(runs[1:])
    return found


def table() -> str:
    """The table, as Markdown."""
    from analysis import fit

    frame, origin = sample()
    rng = np.random.default_rng(1)
    kinds = {"fit": {"bootstrap": 0, "verify": False}, "verified": {"bootstrap": 0}, "draws": {"bootstrap": DRAWS}}
    seconds: dict[str, list[float]] = {k: [] for k in (*kinds, "numeric", "analytic")}
    best = {"numeric": np.inf, "analytic": np.inf}
    fit(frame, bootstrap=20)  # imports are counted with the processes
    for _ in range(ROUNDS):
        for name, given in kinds.items():
            spent, result = timed(lambda g=given: fit(frame, scheme="case", **g))  # type: ignore[misc]
            seconds[name].append(spent)
        starts = [GRID[i] for i in rng.choice(len(GRID), STARTS, replace=False)]
        for name in best:
            spent, value = bfgs(frame, starts, slope=name == "analytic")
            seconds[name].append(spent)
            best[name] = min(best[name], value)
    ratios = {
        n: statistics.median(b / a for a, b in zip(seconds["fit"], seconds[n], strict=True))
        for n in ("numeric", "analytic")
    }
    middle = {k: statistics.median(v) for k, v in seconds.items()}
    ours = result.objective_value
    lines = [
        f"| ours, to the global optimum | {middle['fit']:.3f} | {ours:.12f} | |",
        f"| ours, shown by a second solver | {middle['verified']:.3f} | {ours:.12f} | |",
        f"| ours, with {DRAWS:,} case draws refitted | {middle['draws']:.2f} | | |",
    ]
    for name, what in (("numeric", "numeric gradient"), ("analytic", "analytic gradient")):
        note = f"{best[name]:.12f} (best of {STARTS * ROUNDS})"
        lines.append(
            f"| scipy BFGS, {what}, {len(GRID):,} starts | {middle[name]:.0f} | {note} | {ratios[name]:,.0f} |"
        )
    other = package(frame)
    if other is None:
        lines.append("| package `chinchilla` | not installed | | |")
    else:
        spent, value = other
        times = spent / middle["fit"]
        lines.append(f"| package `chinchilla`, 3,125 starts | {spent:.0f} | {value:.12f} | {times:,.0f} |")
    if importlib.util.find_spec("vpnls") is None:
        lines.append("| package `vpnls` | not installed | | |")
    lines += [f"| `{name}`, a whole process | {spent:.2f} | | |" for name, spent in processes(frame).items()]
    return "\n".join(
        [
            "# Fitting Hoffmann's law to 240 rows",
            "",
            f"Rows: {origin}. Huber's loss of delta 1e-3 on the log loss, summed. Median of {ROUNDS} rounds, one",
            f"process; scipy from {STARTS} random starts a round and the package from 32, extrapolated to all.",
            "Command: `make benchmarks`.",
            "",
            "| what | seconds | objective | times ours |",
            "|---|---|---|---|",
            *lines,
            "",
        ]
    )
