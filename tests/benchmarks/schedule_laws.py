"""Laws over schedules on the curves of Luo et al. 2025 (arXiv 2503.12811): held-out fit; time against plain sums."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from tests.analysis.published_schedules import TRAIN, curve_files, published_schedules

DRAWS, TIMED = 100, 20


def table() -> str:
    """The tables, as Markdown."""
    return f"# Laws over learning-rate schedules\n\n{_sums()}\n\n{_published()}\n"


def _sums() -> str:
    """One evaluation of the multi-power law along a cosine of 72,000 steps, condensed and plain."""
    from analysis.laws import get_law

    law, rates = get_law("multi_power"), published_schedules()["cosine_72000"]
    p = law.instances["luo_2025_25m"]
    steps = np.linspace(2176, rates.size - 1, 256).astype(int)
    started = time.perf_counter()
    total, change = np.cumsum(rates), np.diff(rates, prepend=rates[0])
    plain = np.empty(steps.size)
    for i, t in enumerate(steps):
        x = p["C"] * rates[1 : t + 1] ** -p["gamma"] * (total[t] - total[:t])
        plain[i] = np.sum(change[1 : t + 1] * (1 - (1 + x) ** -p["beta"]))
    plain = p["L0"] + p["A"] * total[steps] ** -p["alpha"] + p["B"] * plain
    slow = time.perf_counter() - started
    started = time.perf_counter()
    bound = law.bind_curves([(rates, steps)])
    made = time.perf_counter() - started
    theta = bound.coordinates(p)[None]
    started = time.perf_counter()
    for _ in range(TIMED):
        log_loss = bound.evaluate(theta)[0][0]
    fast = (time.perf_counter() - started) / TIMED
    error = np.abs(np.exp(log_loss) - plain).max()
    return (
        f"Cosine of 72,000 steps at 256 points: plain sums {slow:.2f} s; condensed, with the Jacobian, {fast * 1e3:.1f}"
        f" ms ({slow / fast:.0f} times as fast) after {made * 1e3:.0f} ms once; largest difference {error:.1e} nats."
    )


def _published() -> str:
    """Each law fitted to the authors' three training runs of each size, scored on the other six."""
    from analysis import fit_curves
    from analysis.curve_tables import read_curves
    from analysis.laws import get_law

    folder = os.environ.get("SCALING_TEST_DATA")
    if not folder or not curve_files(Path(folder), "25"):
        return "The published curves are not here: SCALING_TEST_DATA is not set, or lacks them."
    lines = [
        "Fitted: cosine and constant of 24,000 steps and one two-stage run; held out: the six others.",
        "",
        "| size | law | held-out R² (mean of runs) | fitted R² | cosine_72000 | wsd_20000_24000 | objective | fit, s |"
        f" with {DRAWS} draws, s | status |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for size in ("25", "100", "400"):
        files = curve_files(Path(folder), size)
        law = get_law("multi_power")
        p = law.instances[f"luo_2025_{size}m"]
        r2 = {}
        for run, c in read_curves(files, schedules=published_schedules()).runs.items():
            error = law.predict(p, rates=c.rates, steps=c.steps) - c.loss
            r2[run] = 1 - (error**2).sum() / ((c.loss - c.loss.mean()) ** 2).sum()
        held, fitted = (np.mean([v for k, v in r2.items() if (k in TRAIN) == here]) for here in (False, True))
        lines.append(
            f"| {size}M | multi_power, published constants | {held:.5f} | {fitted:.5f} | {r2['cosine_72000']:.4f} |"
            f" {r2['wsd_20000_24000']:.4f} | | | | |"
        )
        for name in ("multi_power", "annealing"):
            seconds = []
            for draws in (0, DRAWS):
                started = time.perf_counter()
                found = fit_curves(files, name, train=TRAIN, schedules=published_schedules(), bootstrap=draws)
                seconds.append(time.perf_counter() - started)
            s = found.scores
            lines.append(
                f"| {size}M | {name} | {found.mean_r2():.5f} | {found.mean_r2(fitted=True):.5f} |"
                f" {s['cosine_72000'].r2:.4f} | {s['wsd_20000_24000'].r2:.4f} | {found.objective_value:.3e} |"
                f" {seconds[0]:.1f} | {seconds[1]:.1f} | {found.status} |"
            )
    return "\n".join(lines)
