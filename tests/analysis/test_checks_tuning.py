"""Response surfaces with known optima, gaps with known sizes, and what they do to a frontier."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sweeps_by_law import SURFACES, isoflop

from analysis import read_table
from analysis.checks import Subject, check
from analysis.checks.response import joint_surface, settings
from analysis.checks.tuning import corrected, shifted_frontier, tuning_gaps

BUDGETS = np.geomspace(1e17, 1e19, 4)
SURFACE = SURFACES["chinchilla"]
CURVATURE = 0.06


def excess(rate, batch, params, tokens, curvature=CURVATURE):
    """Log loss above the best setting, where lr* falls with N and the best batch grows with D."""
    best_rate, best_batch = 1e-3 * (params / 1e8) ** -0.4, 3e5 * (tokens / 1e10) ** 0.5
    u, v = np.log(rate / best_rate), np.log(batch / best_batch)
    return 0.5 * curvature * (u**2 + 0.5 * v**2) + 0.2 * curvature * u * v


def gridded(sigma=0.002, seed=0, levels=5, cells=None, rate_shift=0.0):
    """Every cell of an isoFLOP sweep with a grid of rates and batches, `rate_shift` (per ln N) off its optimum."""
    rng = np.random.default_rng(seed)
    base = isoflop(SURFACE, BUDGETS, sizes=5)
    rows = []
    for i, cell in enumerate(base.itertuples()):
        if cells is not None and i not in cells:
            continue
        centre = 1e-3 * (cell.params / 1e8) ** (-0.4 + rate_shift)
        for lr in centre * 2.0 ** np.linspace(-2, 2, levels):
            for batch in 3e5 * (cell.tokens / 1e10) ** 0.5 * 2.0 ** np.linspace(-2, 2, levels):
                above = excess(lr, batch, cell.params, cell.tokens) + sigma * rng.standard_normal()
                rows.append((cell.params, cell.tokens, cell.flops, lr, batch, cell.loss * np.exp(above)))
    return pd.DataFrame(rows, columns=["params", "tokens", "flops", "lr", "batch_tokens", "loss"])


def subject(frame):
    return Subject(read_table(frame))


def test_a_noiseless_quadratic_gives_its_optimum_back():
    found = subject(gridded(sigma=0.0))
    assert len(found.rungs) == 20
    for rung in found.rungs:
        assert rung.status == "converged"
        best = 1e-3 * (rung.params / 1e8) ** -0.4, 3e5 * (rung.tokens / 1e10) ** 0.5
        np.testing.assert_allclose(np.exp(rung.optimum), best, rtol=1e-6)
        x = settings(found)[rung.rows]
        gap = rung.at(x) - rung.lowest()
        np.testing.assert_allclose(gap, excess(*np.exp(x.T), rung.params, rung.tokens), atol=1e-4)


def test_gaps_cover_the_truth_and_carry_their_error():
    frame = gridded(sigma=0.004, seed=1)
    used = "lr > 0"  # every run
    found = tuning_gaps(subject(frame), used=used)
    assert found.status == "converged"
    assert set(found.origin) == {"own surface"}
    assert found.sigma == pytest.approx(0.004, rel=0.15)
    truth = excess(*(frame[c].to_numpy() for c in ("lr", "batch_tokens", "params", "tokens")))
    z = (found.gap - truth) / np.maximum(found.sd, 1e-6)
    near = truth < 0.03  # the basin that the surface is fitted in
    assert np.mean(np.abs(z[near]) < 1.645) == pytest.approx(0.9, abs=0.08)
    assert (found.gap >= 0).all()


def test_a_run_beyond_the_grid_is_a_lower_bound_and_one_without_a_grid_is_not_measured():
    frame = gridded(cells=[2, 7], levels=7)
    best = 1e-3 * (frame["params"] / 1e8) ** -0.4
    low_edge = frame[(frame["flops"] != BUDGETS[0]) | (frame["lr"] > 1.2 * best)]
    single = isoflop(SURFACE, BUDGETS, sizes=5).iloc[[12]].assign(lr=1e-3, batch_tokens=3e5)
    found = tuning_gaps(subject(pd.concat([low_edge, single], ignore_index=True)))
    assert found.origin.count("not measured") == 1
    assert "own surface, a lower bound" in found.origin
    assert found.status == "non_interior"
    assert np.isnan(found.sd[found.origin.index("not measured")])


def test_two_batches_and_three_rates_are_a_surface_of_their_own():
    frame = gridded(sigma=0.0)
    levels = frame.groupby("params")["batch_tokens"].transform(lambda b: b.rank(method="dense"))
    rates = frame.groupby("params")["lr"].transform(lambda r: r.rank(method="dense"))
    small = frame[levels.isin([3, 4]) & rates.isin([2, 3, 4])]
    found = subject(small)
    assert all(r.terms == ("1", "u", "v", "uu", "uv") for r in found.rungs)
    for rung in found.rungs:  # the better of the two batches, at its best rate
        assert np.exp(rung.optimum[1]) == pytest.approx(3e5 * (rung.tokens / 1e10) ** 0.5, rel=1e-6)
        assert np.exp(rung.optimum[0]) == pytest.approx(1e-3 * (rung.params / 1e8) ** -0.4, rel=1e-3)


def test_the_joint_surface_knows_runs_that_have_no_grid():
    grids, bare = gridded(sigma=0.001, cells=[1, 3, 6, 10, 13, 18]), isoflop(SURFACE, BUDGETS, sizes=5)
    bare = bare.assign(lr=2e-3 * (bare["params"] / 1e8) ** -0.4, batch_tokens=3e5 * (bare["tokens"] / 1e10) ** 0.5)
    truth = excess(*(bare[c].to_numpy() for c in ("lr", "batch_tokens", "params", "tokens")))
    np.testing.assert_allclose(truth, 0.5 * CURVATURE * np.log(2) ** 2)
    other = subject(grids)
    joint = joint_surface(other, other.rungs)
    assert (joint.axes, joint.scales) == ((0, 1), (0, 1))
    found = tuning_gaps(subject(bare), grids=other)
    assert set(found.origin) == {"joint surface"}
    np.testing.assert_allclose(found.gap, truth, rtol=0.15)
    assert (np.abs(found.gap - truth) < 4 * found.sd + 1e-4).all()


def test_corrected_losses_bring_the_tuned_frontier_back():
    """Used rates drift off their optimum with size: the exponent is off, and the gaps bring it back."""
    base = isoflop(SURFACE, BUDGETS, sizes=5)
    frame = gridded(sigma=0.0005, seed=3)
    wanted = 1e-3 * (frame["params"] / 1e8) ** -0.4 * np.clip((frame["params"] / 2e7) ** 0.35, 0.25, 4)
    nearest = (np.log(frame["lr"]) - np.log(wanted)).abs()
    centre = 3e5 * (frame["tokens"] / 1e10) ** 0.5
    nearest += 10 * (np.log(frame["batch_tokens"]) - np.log(centre)).abs()
    frame["used"] = nearest == nearest.groupby([frame["params"], frame["flops"]]).transform("min")
    whole = subject(frame)
    gaps = tuning_gaps(whole, used="used")
    assert len(gaps.rows) == 20
    shift = shifted_frontier(whole, gaps, "isoflop", bootstrap=50)
    from analysis import frontier

    truth = frontier(base, "isoflop", bootstrap=0)["isoflop"].N_exponent.value
    assert abs(shift.before.N_exponent.value - truth) > 0.05
    assert shift.after.N_exponent.value == pytest.approx(truth, abs=0.03)
    assert 0 < shift.sd["exponent"] < 0.03
    # The noise of the runs that are used, and the surface's own, are left.
    assert abs(shift.after.N_exponent.value - truth) < 4 * shift.sd["exponent"]
    assert shift.exponent.ci[0] < shift.exponent.value < shift.exponent.ci[1]
    better = corrected(whole, gaps)
    np.testing.assert_allclose(better.runs.loss, base["loss"], rtol=0.003)
    assert better.error.shape == (20,)


def test_a_table_without_rates_has_no_gaps_and_a_report_carries_them():
    none = tuning_gaps(subject(isoflop(SURFACE, BUDGETS)))
    assert none.status == "too_few_points"
    assert "no lr column" in none.reason
    report = check(gridded(sigma=0.002))
    json.dumps(report.to_json(), allow_nan=False)
    assert report["rate_edge"].verdict == "clear"
    assert report.gaps.measured.all()
    assert report.shift is not None
    assert abs(report.shift.exponent.value) < 0.02
    assert {s.name for s in report.noise.sources if s.known} == {"tuning", "form"}
    assert "tuning moves" in repr(report)
