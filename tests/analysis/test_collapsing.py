"""Collapse against the noise of seeds: curves of one shape, a mistuned budget, and what cannot be told."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sweeps_by_law import LAW, SURFACES

from analysis import read_table
from analysis.collapsing import measure_collapse, nearest_rows
from analysis.figures.collapse import plot_collapse
from analysis.types import Status

SURFACE = SURFACES["symmetric"]
FLOOR = SURFACE["E"]
BUDGETS = np.geomspace(1e17, 1e19, 5)
SEED_SD = 0.02
"""Of ln(L − E), one factor for a whole curve: dividing by the end takes it out."""


def runs(bent=(), seeds=3, wobble=0.001):
    """The optimum of each budget and sizes about it; the two lowest budgets' optima with several seeds."""
    rng = np.random.default_rng(4)
    x = np.arange(1, 121) / 120
    rows, curves = [], []
    for k, budget in enumerate(BUDGETS):
        best = float(LAW.frontier(SURFACE, budget).params)
        for ratio in (0.25, 1.0, 4.0):
            for _ in range(seeds if k < 2 else 1):
                n, power = best * ratio, 0.45 if k in bent else 0.3
                d = budget / 6 / n
                end = (float(LAW.predict(SURFACE, params=n, tokens=d)) - FLOOR) * np.exp(SEED_SD * rng.normal())
                shape = x**-power * (1 + 0.2 * np.sqrt(1 - x)) * np.exp(wobble * rng.normal(size=x.size))
                name = f"run{len(rows)}"
                rows.append({"run_id": name, "params": n, "tokens": d, "flops": budget, "budget": budget})
                rows[-1]["loss"] = FLOOR + end
                curves.append(pd.DataFrame({"run_id": name, "tokens": x * d, "loss": FLOOR + end * shape / shape[-1]}))
    return read_table(pd.DataFrame(rows), curves=pd.concat(curves, ignore_index=True))


def measured(table, floor=FLOOR):
    best = {b: 1.2 * float(LAW.frontier(SURFACE, b).params) for b in BUDGETS}
    rows = nearest_rows(table, table.params(), best)
    return measure_collapse(table, rows, floor=floor, count="total", cost="exact")


def test_curves_of_one_law_collapse_below_the_noise_of_seeds():
    table = runs()
    found = measured(table)
    np.testing.assert_allclose(found.params, [float(LAW.frontier(SURFACE, b).params) for b in BUDGETS])
    assert (found.status, found.verdict) == (Status.CONVERGED, "supercollapse")
    assert found.seed_dof == 12
    assert found.seeds.ci[0] < SEED_SD < found.seeds.ci[1]
    assert found.ratio.value < 0.1
    assert found.ratio.value == pytest.approx(found.spread.value / found.seeds.value)
    assert found.ratio.ci[0] < found.ratio.value < found.ratio.ci[1] < 1


def test_a_mistuned_budget_spoils_the_collapse():
    found = measured(runs(bent=(4,)))
    assert found.verdict == "no supercollapse"
    assert found.ratio.ci[0] > 1
    assert int(np.abs(found.collapse.departure).argmax()) == 4


def test_without_seeds_or_a_floor_it_is_not_resolved():
    alone = measured(runs(seeds=1))
    assert (alone.status, alone.verdict) == (Status.TOO_FEW_POINTS, "not resolved")
    assert alone.spread.known
    assert not alone.ratio.known
    unknown = measured(runs(), floor=float("nan"))
    assert (unknown.status, unknown.verdict) == (Status.UNIDENTIFIED, "not resolved")


def test_noise_as_large_as_the_spread_is_not_resolved():
    """Curves that wobble by themselves as much as seeds differ."""
    found = measured(runs(wobble=SEED_SD))
    assert (found.status, found.verdict) == (Status.NOT_RESOLVED, "not resolved")
    assert found.ratio.ci[0] < 1 < found.ratio.ci[1]


def test_the_figure_shows_what_was_measured():
    found = measured(runs())
    table = plot_collapse(found).table
    curves = table[table.element == "curve"]
    assert sorted(set(curves.flops)) == sorted(found.collapse.flops)
    np.testing.assert_allclose(curves.normalised, found.collapse.curves.ravel())
    np.testing.assert_allclose(table.spread[table.element == "between seeds"], found.seed_spread)
