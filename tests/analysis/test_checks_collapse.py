"""Collapse of curves that are one curve by construction, and the rung that leaves them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sweeps_by_law import SURFACES, isoflop

from analysis import fit, read_table
from analysis.checks import Subject, get_check
from analysis.curves import FIRST, LAST, collapse, curve_of, optimal_rows

BUDGETS = np.geomspace(1e17, 1e19, 5)
SURFACE = SURFACES["symmetric"]
FLOOR = SURFACE["E"]


def shape(x, power=0.3):
    """Normalised curve: a power of the share done, with the dip of a decay at its end; 1 at x = 1."""
    return x**-power * (1 + 0.2 * np.sqrt(1 - x))


def sweep(bent=(), power=0.45, noise=0.0, sigma=0.0, column="loss", points=100, seed=0):
    """An isoFLOP sweep with curves of one shape; the runs at the budgets in `bent` have another."""
    rng = np.random.default_rng(seed)
    table = isoflop(SURFACE, BUDGETS, sizes=5, sigma=sigma, seed=seed)
    table["run_id"] = [f"run{i}" for i in range(len(table))]
    x = np.arange(1, points + 1) / points
    parts = []
    for row in table.itertuples():
        own = shape(x, power if np.any(np.isclose(row.flops, [BUDGETS[b] for b in bent])) else 0.3)
        losses = FLOOR + (row.loss - FLOOR) * own + noise * rng.standard_normal(points)
        parts.append(pd.DataFrame({"run_id": row.run_id, "tokens": x * row.tokens, column: losses}))
    return table, pd.concat(parts, ignore_index=True)


def read(*args, **kwargs):
    table, curves = sweep(*args, **kwargs)
    return read_table(table, curves=curves)


def collapsed(runs, floor=FLOOR, sigma=0.003):
    rows = optimal_rows(runs, runs.params(), runs.flops())
    return collapse(runs, rows, runs.flops(), floor=floor, sigma=sigma)


def test_curves_of_one_shape_fall_onto_it():
    found = collapsed(read())
    assert found.status == "converged"
    assert found.rows.tolist() == [2, 7, 12, 17, 22]  # the middle size of every budget
    assert (found.x[0], found.x[-1]) == (FIRST, LAST)
    np.testing.assert_allclose(found.curves, np.broadcast_to(shape(found.x), found.curves.shape), rtol=2e-3)
    assert found.spread.max() < 1e-6
    np.testing.assert_allclose(found.departure, 0, atol=1e-9)


def test_a_bent_curve_departs_by_its_mean_log_ratio():
    found = collapsed(read(bent=(4,)))
    ratio = np.log(shape(found.x, 0.45) / shape(found.x, 0.3)).mean()
    np.testing.assert_allclose(found.departure, [0, 0, 0, 0, ratio], atol=2e-3)


def test_a_wrong_floor_spoils_the_collapse():
    right, wrong = collapsed(read()), collapsed(read(), floor=FLOOR + 0.5)
    assert wrong.spread.max() > 100 * right.spread.max()
    assert collapsed(read(), floor=np.nan).status == "unidentified"
    assert "above the end" in collapsed(read(), floor=20.0).reason


def test_training_losses_are_smoothed_and_too_short_or_missing_curves_say_so():
    noisy = read(noise=0.05, column="train_loss", points=400)
    assert np.abs(collapsed(noisy).curves / shape(collapsed(noisy).x) - 1).max() < 0.1
    x, y = curve_of(noisy.curves, "run0")
    assert x[-1] == 1.0
    assert y.size == 400
    assert curve_of(noisy.curves, "run0", held_out=True) is None
    assert collapsed(read(points=5)).status == "needs_curves"
    table, _ = sweep()
    assert collapsed(read_table(table)).status == "needs_curves"
    few = table[table["flops"] < 4e17]
    assert "three are needed" in collapsed(read_table(few, curves=sweep()[1])).reason


@pytest.mark.parametrize(("bent", "verdict"), [((), "clear"), ((4,), "suspected"), ((2,), "suspected")])
def test_the_detector_flags_the_rung_that_leaves(bent, verdict):
    runs = read(bent=bent, sigma=0.002)
    found = get_check("curve_collapse").look(Subject(runs, fit=fit(runs, objective="ls_log", bootstrap=100)))
    assert found.verdict == verdict
    if bent:
        assert [int(str(r)[3:]) // 5 for r in found.rows] == list(bent)


def test_false_alarms_over_noise_of_end_losses():
    """The whole detector, over sweeps whose curves differ by the noise of their end losses alone."""
    check, alarms = get_check("curve_collapse"), 0
    for seed in range(15):
        runs = read(sigma=0.004, noise=0.01, column="train_loss", seed=seed)
        subject = Subject(runs, fit=fit(runs, objective="ls_log", bootstrap=20))
        alarms += check.look(subject).verdict == "suspected"
    assert alarms <= 1
