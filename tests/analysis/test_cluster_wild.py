"""Intervals of a law fitted to several points a run cover when all of a run's points share its noise."""

import numpy as np
import pytest

from analysis.bootstrap import percentile, resample
from analysis.cluster_wild import cluster_draws
from analysis.estimation import estimate_law
from analysis.laws.power import Power

A, ALPHA = 10.0, 0.2
RUNS, POINTS = 12, 8


def sweep(seed: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    run = np.repeat(np.arange(RUNS), POINTS)
    n = np.repeat(np.geomspace(1e4, 1e6, RUNS), POINTS)
    noise = 0.01 * rng.standard_normal(RUNS)[run] + 0.0005 * rng.standard_normal(run.size)
    return {"params": n}, A * n**-ALPHA * np.exp(noise), run


def test_intervals_by_run_cover_and_those_by_row_are_too_narrow():
    by_run = by_row = 0
    for seed in range(50):
        x, loss, run = sweep(seed)
        fit = estimate_law(Power("params"), x, loss, "ls_log", None)
        draws = cluster_draws(fit, loss, run, draws=100, seed=seed).draws["alpha"]
        lo, hi = percentile(draws, 0.9)
        by_run += lo <= ALPHA <= hi
        rows = resample(np.arange(run.size), draws=100, seed=seed, scheme="wild")
        lo, hi = percentile(estimate_law(Power("params"), x, loss, "ls_log", rows).draws["alpha"], 0.9)
        by_row += lo <= ALPHA <= hi
    assert 0.78 <= by_run / 50 <= 1.0
    assert by_row / 50 < 0.6


def test_with_one_point_a_run_the_spread_is_that_of_the_wild_bootstrap():
    x, loss, run = sweep(0)
    x, loss, run = {"params": x["params"][::POINTS]}, loss[::POINTS], run[::POINTS]
    fit = estimate_law(Power("params"), x, loss, "ls_log", None)
    ours = cluster_draws(fit, loss, run, draws=400, seed=1).draws["alpha"]
    rows = resample(run, draws=400, seed=1, scheme="wild")
    theirs = estimate_law(Power("params"), x, loss, "ls_log", rows).draws["alpha"]
    assert ours.std() == pytest.approx(theirs.std(), rel=0.05)


def test_no_draws_leaves_the_fit_as_it_is():
    x, loss, run = sweep(0)
    fit = estimate_law(Power("params"), x, loss, "ls_log", None)
    assert cluster_draws(fit, loss, run, draws=0, seed=0) is fit
