"""Results on simulated sweeps, as the figures of Kaplan's relations draw them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import simulated_batches
import simulated_grid
from simulated_batches import store_row

from analysis import fit
from analysis.compute import measure_compute
from analysis.critical_batch import measure_critical_batch
from analysis.learning_curves import fit_learning_curves
from analysis.noise_scale import noise_scale
from analysis.overfitting import measure_overfitting
from analysis.positions import measure_positions
from analysis.sample_efficiency import measure_sample_efficiency
from analysis.shapes import measure_shapes

GRID_LAW = {"B": simulated_grid.B, "alpha_B": simulated_grid.ALPHA_B}
BYTES = {"tokenizer": "byte", "objective": "causal"}


def shape_sweep(*, worse=0.03, sigma=0.004, seeds=3, seed=0, slope=0.1) -> pd.DataFrame:
    """Shapes about 4 × 64: 1 layer and d_ff = d_model are worse by `worse` in log loss, all others equal."""
    rng = np.random.default_rng(seed)
    shapes = [(1, 128, 512, 8), (2, 90, 360, 5), (4, 64, 256, 4), (8, 44, 176, 2), (16, 32, 128, 2)]
    shapes += [(4, 90, 90, 5), (4, 50, 400, 5), (4, 64, 256, 1), (4, 64, 256, 16)]
    rows = []
    for layers, d, ff, heads in shapes:
        n = layers * (4 * d * d + 2 * d * ff)
        effect = worse if layers == 1 or ff == d else 0.0
        for rate in (0.5, 1.0, 2.0):
            for s in range(seeds):
                loss = 1.7 * (n / 196_608) ** -slope * np.exp(effect + 0.04 * np.log(rate) ** 2)
                loss *= np.exp(sigma * rng.standard_normal())
                row = store_row(f"{layers}-{d}-{ff}-{heads}-{rate}-{s}", n, 1e6, loss, lr=0.004 * rate, seed=s)
                rows.append(row | BYTES | {"n_layer": layers, "d_model": d, "d_ff": ff, "n_head": heads})
    return pd.DataFrame(rows)


def position_sweep(*, late=0.08, sigma=0.003, seeds=3, seed=0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Decoders 1.2 + 2 T^-0.5, LSTMs alike and higher by a share that grows to `late` at the context's end."""
    rng = np.random.default_rng(seed)
    at = np.arange(1, 513)
    rows, positions = [], []
    for architecture in ("decoder", "lstm"):
        for n in (5e4, 2e5):
            for s in range(seeds):
                run_id = f"{architecture}-{n:.0f}-{s}"
                loss = (1.2 + 2.0 * at**-0.5) * (n / 5e4) ** -0.05 * np.exp(sigma * rng.standard_normal())
                if architecture == "lstm":
                    loss = loss * np.exp(late * np.log(at) / np.log(512) * (at > 30))
                loss = loss * np.exp(0.004 * np.random.default_rng(7).standard_normal(at.size))  # the text's own
                size = n * (1.03 if architecture == "lstm" else 1.0)
                rows.append(
                    store_row(run_id, size, 1e7, float(loss.mean()), seed=s, architecture=architecture, **BYTES)
                )
                positions.append(pd.DataFrame({"run_id": run_id, "x": at.astype(float), "value": loss, "se": 0.02}))
    return pd.DataFrame(rows), pd.concat(positions, ignore_index=True)


def noise_evals(curves: pd.DataFrame) -> pd.DataFrame:
    """|G|² and tr Σ along curves, whose ratio is the simulated critical batch, each with a tenth of noise."""
    rng = np.random.default_rng(3)
    signal = 1e-3 * np.exp(0.1 * rng.standard_normal(len(curves)))
    ratio = simulated_batches.critical(curves["loss"]) * np.exp(0.1 * rng.standard_normal(len(curves)))
    parts = []
    for metric, value in (("gradient_squared", signal), ("gradient_noise", 1e-3 * ratio)):
        part = {"run_id": curves["run_id"], "metric": metric, "x": curves["step"].astype(float), "value": value}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


@cache
def results() -> dict[str, object]:
    """One of each, bytes and causal."""
    rows, curves = simulated_batches.sweep(rates=(0.5, 1.0, 2.0))
    rows = rows.assign(**BYTES)
    grid_rows, grid_curves = simulated_grid.curve_sweep()
    grid_rows = grid_rows.assign(**BYTES)
    few = curves[curves["run_id"].str.contains("-1.0-")]
    return {
        "critical_batch": measure_critical_batch(rows, curves, bootstrap=100),
        "noise_scale": noise_scale(noise_evals(few), few),
        "compute": measure_compute(grid_rows, grid_curves, GRID_LAW, bootstrap=100),
        "learning_curves": fit_learning_curves(grid_rows, grid_curves, GRID_LAW, bootstrap=100),
        "sample_efficiency": measure_sample_efficiency(grid_rows, grid_curves),
        "overfitting": measure_overfitting(simulated_grid.data_sweep().assign(**BYTES), bootstrap=100),
        "shapes": measure_shapes(
            shape_sweep(), slope=0.1, reference={"n_layer": 4, "d_model": 64, "d_ff": 256, "n_head": 4}
        ),
        "positions": measure_positions(*position_sweep(), bootstrap=60),
        "params": tuple(
            fit(grid_rows, law, x="params", count="non_embedding", bootstrap=100) for law in ("power", "power_floor")
        ),
    }
