"""The convention switch: frontiers under a cost that is not the budgets' own, against the surface's own optimum."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from stores_by_law import best, ladder, per_token, rows, size
from sweeps_by_law import LAW, SURFACES

from analysis import frontier, read_table
from analysis.approaches.base import Task
from analysis.approaches.cells import cells_of, measured_noise, through
from analysis.frontiers import draws_of
from scaling.accounting import COSTS, COUNTS

SURFACE = SURFACES["chinchilla"]
BUDGETS = np.geomspace(1e17, 1e20, 7)


def truth(frontier_, surface=SURFACE) -> tuple[np.ndarray, np.ndarray]:
    """ln C of the frontier's points and ln N* of the surface there, under the frontier's convention."""
    c = np.array([p.flops for p in frontier_.points if p.status == "converged"])
    convention = "exact" if frontier_.cost == "exact" else frontier_.count
    n = np.array([best(surface, x, convention) for x in c])
    return np.log(c), np.log(size(n, frontier_.count))


@pytest.fixture(scope="module")
def switched():
    """Narrow groups, so that the parabola's own bias is small beside what is tested."""
    table = ladder(SURFACE, np.geomspace(1e17, 1e20, 15), sizes=7, ratio=1.5)
    return frontier(table, "isoflop,porian,parametric", counts="all", costs="all", bootstrap=40)


def test_every_count_and_cost_stands_side_by_side(switched):
    assert [(f.count, f.cost) for f in switched] == [(n, c) for n in COUNTS for c in COSTS for _ in range(3)]
    (one,) = switched.find("porian", count="non_embedding", cost="6nd")
    assert (one.approach, one.count, one.cost) == ("porian", "non_embedding", "6nd")
    assert len(switched.find(cost="exact")) == 9
    assert switched.find("envelope") == ()
    pairs = {(p["count"], p["cost"]) for p in switched.agreement["pairs"]}
    assert pairs == {(n, c) for n in COUNTS for c in COSTS}


@pytest.mark.parametrize("approach", ["isoflop", "porian"])
def test_the_switched_convention_gives_the_surfaces_own_frontier(switched, approach):
    exponents = {}
    for f in (f for f in switched if f.approach == approach):
        log_c, log_n = truth(f)
        slope = np.polyfit(log_c, log_n, 1)[0]
        got = np.log([p.params for p in f.points if p.status == "converged"])
        assert f.status == "converged"
        assert len(got) >= 12
        assert f.N_exponent.value == pytest.approx(slope, abs=0.012)
        assert np.abs(got - log_n).max() < 0.1
        exponents[f.count, f.cost] = f.N_exponent.value
    # The convention alone moves the exponent by more than any published disagreement between approaches.
    assert exponents["non_embedding", "6nd"] > exponents["total", "6nd"] + 0.08


def test_costs_that_are_no_power_of_n_are_followed_by_surfaces(switched):
    for f in (f for f in switched if f.approach == "parametric" and f.count == "total"):
        log_c, log_n = truth(f)
        assert f.N_exponent.value == pytest.approx(np.polyfit(log_c, log_n, 1)[0], abs=1e-3)
        got = np.log([p.params for p in f.points])
        assert np.abs(got - log_n).max() < 5e-3


def cells(table: pd.DataFrame, count: str, cost: str, draws: int = 20, scheme="noise"):
    runs = read_table(table)
    task = Task(runs, count, cost, 0.9, draws_of(runs, draws=draws, seed=0, scheme=scheme))
    return task, cells_of(task)


def test_points_lie_at_one_cost_between_horizons_and_on_the_surface():
    table = ladder(SURFACE, BUDGETS, sizes=9)
    task, found = cells(table, "non_embedding", "6nd")
    assert found.interpolated
    np.testing.assert_allclose(6 * found.params * found.tokens, [
        g.flops for g in found.groups for _ in g.rows
    ], rtol=1e-4)  # fmt: skip
    lowest, highest = task.flops.min(), task.flops.max()
    for g in found.groups:
        assert lowest < g.flops < highest
        for k in g.rows:  # no point beyond its own size's horizons
            own = task.flops[np.isclose(task.params, found.params[k], rtol=1e-4)]
            assert own.min() * 0.9999 <= g.flops <= own.max() * 1.0001
    n = found.params
    exact = LAW.predict(SURFACE, params=size(n, "total"), tokens=found.tokens)
    np.testing.assert_allclose(found.loss, exact, rtol=6e-4)


def test_the_budgets_own_cost_is_taken_as_it_is():
    table = ladder(SURFACE, BUDGETS)
    for count in COUNTS:
        task, found = cells(table, count, "exact")
        assert not found.interpolated
        np.testing.assert_array_equal(found.loss, task.runs.loss)


def test_interpolated_noise_is_that_of_the_rows_it_is_made_of():
    # At the middle of three horizons the weight on each node is known: the variance is the sum of their squares.
    table = ladder(SURFACE, BUDGETS, sizes=9)
    task, found = cells(table, "non_embedding", "6nd", draws=2000)
    rows_noise = task.resamples.noise(0.003, 0)
    noise = found.noise(rows_noise)
    share = noise.std(axis=0) / rows_noise.std()
    assert noise.shape == (2000, found.loss.size)
    assert 0.5 < share.min() < share.max() < 1.15
    one = np.zeros((1, len(table)))
    np.testing.assert_allclose(found.noise(one), 0, atol=1e-14)
    np.testing.assert_allclose(found.noise(one + 0.01), 0.01, rtol=1e-9)  # noise that all rows share is shared


def test_case_draws_interpolate_through_what_was_drawn():
    table = ladder(SURFACE, BUDGETS, sizes=9)
    task, found = cells(table, "non_embedding", "6nd", scheme="case")
    everything = np.ones((1, len(table)))
    loss, weight = found.drawn(everything)
    np.testing.assert_allclose(loss[0], found.loss)
    np.testing.assert_allclose(weight, 1)
    nothing = np.zeros((1, len(table)))
    assert (found.drawn(nothing)[1] == 0).all()
    assert task.resamples.weights is not None
    fs = frontier(table, "isoflop", counts="non_embedding", costs="6nd", bootstrap=40, scheme="case")["isoflop"]
    assert fs.diagnostics["scheme"] == "case"
    assert fs.known


def test_noise_carries_into_the_switched_interval():
    quiet, loud = (
        frontier(
            ladder(SURFACE, np.geomspace(1e17, 1e20, 15), sizes=7, ratio=1.5, sigma=s, seed=4),
            "isoflop",
            counts="non_embedding",
            costs="6nd",
            bootstrap=200,
        )["isoflop"]
        for s in (0.001, 0.006)
    )
    width = [f.N_exponent.ci[1] - f.N_exponent.ci[0] for f in (quiet, loud)]
    assert width[1] > 1.5 * width[0]
    assert any("interpolated between horizons" in w for w in quiet.warnings)


def test_repeated_seeds_are_averaged_at_their_horizon():
    once, thrice = ladder(SURFACE, BUDGETS), ladder(SURFACE, BUDGETS, repeats=3)
    one, three = (cells(t, "non_embedding", "6nd")[1] for t in (once, thrice))
    np.testing.assert_allclose(three.loss, one.loss, rtol=1e-12)
    np.testing.assert_allclose(three.params, one.params, rtol=1e-4)


def test_without_three_horizons_the_switch_is_refused():
    # Sizes re-centred at every budget, so that none is met twice.
    pairs = []
    for c in BUDGETS:
        n0 = best(SURFACE, c, "exact")
        pairs += [(n0 * 2.0**k, c / per_token(n0 * 2.0**k, "exact")) for k in range(-3, 4)]
    found = frontier(rows(SURFACE, pairs), "isoflop,porian", counts="all", costs="all", bootstrap=20)
    for f in found:
        if f.cost == "exact":
            assert f.status == "converged"
        elif f.count != "total":
            assert f.status == "not_isoflop"
            assert "0 sizes have the 3 horizons" in f.reason
            assert not f.known


def test_a_small_drift_of_cost_is_said():
    pairs = []
    for c in BUDGETS[:5]:
        n0 = best(SURFACE, c, "exact")
        pairs += [(n0 * 2.0**k, c / per_token(n0 * 2.0**k, "exact")) for k in range(-2, 3)]
    found = frontier(rows(SURFACE, pairs), "isoflop", costs="all", bootstrap=20)
    by_cost = {f.cost: f for f in found}
    assert not any("within a group" in w for w in by_cost["exact"].warnings)
    assert any("within a group differ by up to" in w for w in by_cost["6nd"].warnings)


def test_splines_leave_out_what_is_missing_and_never_extrapolate():
    x = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    y = np.stack([x**2, np.where(x == 2, np.nan, x**2), np.where(x > 1, np.nan, x**2)])
    out = through(x, y, np.array([0.0, 1.0, 3.5, 4.0, 4.5]))
    np.testing.assert_allclose(out[0, :2], [0.0, 1.0])
    assert out[0, 2] == pytest.approx(3.5**2, abs=1e-9)  # Akima's spline holds parabolas on equal steps
    assert np.isnan(out[:2, 4]).all()
    assert np.isfinite(out[1, 2])
    assert np.isnan(out[2]).all()  # two nodes are left


def test_noise_is_measured_where_the_form_leaves_degrees_of_freedom():
    sigma = 0.004
    runs = read_table(ladder(SURFACE, BUDGETS, sizes=9, sigma=sigma, seed=2))
    task = Task(runs, "total", "exact", 0.9, draws_of(runs, draws=20, seed=0, scheme="noise"))
    noise = measured_noise(task, 4)
    assert noise.origin == "residuals"
    assert noise.dof == 7 * (9 - 5)
    assert noise.sigma == pytest.approx(sigma, rel=4 / np.sqrt(2 * noise.dof))
    assert noise.leverage.sum() == pytest.approx(7 * 5)  # one for each coefficient
    few = read_table(ladder(SURFACE, BUDGETS, sizes=3).assign(loss_se=0.01))
    task = Task(few, "total", "exact", 0.9, draws_of(few, draws=20, seed=0, scheme="noise"))
    noise = measured_noise(task, 4)
    assert (noise.dof, noise.origin) == (0, "loss_se")
    assert noise.sigma == pytest.approx(float(np.sqrt(np.mean((0.01 / few.loss) ** 2))))
