"""How often the 90 % intervals of Kaplan's relations hold the truth, on simulated sweeps of the size that a study has.

Each sweep is drawn anew: batches × rates × seeds with a known B_crit(L); sizes × seeds with a known L(N, S_min), hence
known exponents over C_min (Kaplan et al. 2020, eqs. B.7 to B.9); sizes × unique data that follow L(N, D); shapes, and
losses by position. Every run's log loss (for batches: log steps) is shaken as a whole.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from analysis.compute import measure_compute
from analysis.critical_batch import measure_critical_batch
from analysis.learning_curves import fit_learning_curves
from analysis.overfitting import measure_overfitting
from analysis.positions import measure_positions
from analysis.sample_efficiency import measure_sample_efficiency
from analysis.shapes import measure_shapes
from analysis.types import Estimate

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "analysis"))
import simulated_batches
import simulated_grid
from kaplan_results import position_sweep, shape_sweep

SWEEPS = int(os.environ.get("SCALING_COVERAGE_SWEEPS", "200"))
DRAWS = int(os.environ.get("SCALING_COVERAGE_DRAWS", "200"))
FIRST_SEED = 9000
"""The methods were chosen on sweeps of seeds below 1,000."""
TARGETS = (3.0, 2.6, 2.3, 2.0)
LAW = {"B": simulated_grid.B, "alpha_B": simulated_grid.ALPHA_B}
REFERENCE = {"n_layer": 4, "d_model": 64, "d_ff": 256, "n_head": 4}


class Tally:
    """Estimates and their truths by name."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[float, float, float, float]]] = {}

    def add(self, name: str, found: Estimate, truth: float) -> None:
        """Notes one estimate."""
        self.seen.setdefault(name, []).append((found.value, *found.ci, truth))

    def rows(self) -> list[str]:
        """Markdown rows: intervals, coverage with its standard error, bias, spread, mean half width."""
        lines = []
        for name, seen in self.seen.items():
            value, lo, hi, truth = np.array(seen).T
            cover = float(np.mean((lo <= truth) & (truth <= hi)))
            scale = np.full(truth.size, 100.0) if "%" in name else truth
            error, half = (value - truth) / scale, (hi - lo) / (2 * np.abs(scale))
            lines.append(
                f"| {name} | {len(seen)} | {100 * cover:.0f} ± {100 * np.sqrt(cover * (1 - cover) / len(seen)):.0f} |"
                f" {100 * error.mean():+.2f} | {100 * error.std():.2f} | {100 * half.mean():.2f} |"
            )
        return lines


def simulate(seed: int, tally: Tally) -> None:
    """One sweep of each kind."""
    found = measure_critical_batch(*simulated_batches.sweep(rates=(0.5, 1.0, 2.0), seed=seed), TARGETS, bootstrap=DRAWS)
    for t in found.converged:
        tally.add("B_crit at a loss", t.B_crit, float(simulated_batches.critical(t.target)))
        tally.add("S_min at a loss", t.S_min, float(simulated_batches.least_steps(t.target)))
    if found.law is not None:
        tally.add("alpha_B of B_crit(L)", found.law.params["alpha_B"], simulated_batches.ALPHA_B)
        tally.add("B* of B_crit(L)", found.law.params["B"], simulated_batches.B)
    g = simulated_grid
    rows, curves = g.curve_sweep(seed=seed)
    fit = fit_learning_curves(rows, curves, LAW, bootstrap=DRAWS).fit
    for name, truth in (("A", g.A), ("alpha", g.ALPHA), ("B", g.STEPS), ("beta", g.BETA)):
        tally.add(f"{name} of L(N, S_min)", fit.params[name], truth)
    loss = 1 / (1 / g.BETA + 1 / g.ALPHA_B + 1 / g.ALPHA)
    adjusted = measure_compute(rows, curves, LAW, bootstrap=DRAWS).adjusted
    if adjusted is not None and adjusted.law is not None:
        tally.add("exponent of L(C_min)", adjusted.law.params["alpha"], loss)
        exponents = {"N": loss / g.ALPHA, "B": loss / g.ALPHA_B, "S": loss / g.BETA}
        exponents["D"] = exponents["B"] + exponents["S"]
        for name, truth in exponents.items():
            tally.add(f"exponent of {name}(C_min)", adjusted.trends[name].exponent, truth)
    for reach in measure_sample_efficiency(rows, curves, [3.2]).reaches:
        s_min = ((3.2 - g.A * reach.params**-g.ALPHA) / g.STEPS) ** (-1 / g.BETA)
        truth = s_min * (512 + g.B * 3.2 ** (-1 / g.ALPHA_B))
        tally.add("tokens to a loss", reach.tokens, truth)
    joint = measure_overfitting(g.data_sweep(seed=seed), bootstrap=DRAWS).joint
    for name, truth in g.JOINT.items():
        tally.add(f"{name} of L(N, D)", joint.params[name], truth)
    for e in measure_shapes(shape_sweep(seed=seed), slope=0.1, reference=REFERENCE).effects:
        if not e.is_reference:
            worse = e.shape.n_layer == 1 or e.shape.d_ff == e.shape.d_model
            tally.add("effect of shape, %", e.effect_percent, 3.0 if worse else 0.0)
    for c in measure_positions(*position_sweep(late=0.0, seed=seed), bootstrap=0).comparisons:
        tally.add("late gap of equals (95 % each), %", c.late, 0.0)


def table() -> str:
    """Coverage of every interval, as Markdown."""
    tally, start = Tally(), time.perf_counter()
    for seed in range(FIRST_SEED, FIRST_SEED + SWEEPS):
        simulate(seed, tally)
    head = [
        "# Kaplan's relations: do 90 % intervals hold the truth?",
        "",
        f"{SWEEPS} simulated sweeps of each kind, {DRAWS} draws each, {time.perf_counter() - start:.0f} s;"
        " errors and half widths in % of the truth (of the loss for effects and gaps).",
        "",
        "| quantity | intervals | coverage, % | mean error, % | sd of errors, % | mean half width, % |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    return "\n".join([*head, *tally.rows()]) + "\n"
