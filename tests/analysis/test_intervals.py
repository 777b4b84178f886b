"""Intervals: BCa's ends where they are known, accelerations against the jackknife's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.intervals import accelerations, bca, bca_accelerated, estimate, percentile, skewness_of
from analysis.types import Estimate, Status


def test_bca_shifts_a_skewed_interval_and_leaves_a_symmetric_one():
    draws = np.random.default_rng(0).standard_normal(20000)
    lo, hi = bca(0.0, draws, np.linspace(-1, 1, 21), 0.9)
    assert (lo, hi) == pytest.approx(percentile(draws, 0.9), abs=0.03)
    skewed_lo, skewed_hi = bca(-0.5, draws, np.linspace(-1, 1, 21), 0.9)
    assert skewed_lo < lo - 0.3
    assert skewed_hi < hi - 0.3


def test_bca_of_a_chi_square_scale_is_the_exact_interval():
    # Efron 1987 §4: θ̂ ~ θ χ²(ν)/ν has a = z0 = skewness/6 to second order; BCa is then close to exact, percentile not.
    nu, seen = 19, 1.0
    rng = np.random.default_rng(1)
    draws = seen * rng.chisquare(nu, 200000) / nu
    a = math.sqrt(8.0 / nu) / 6.0
    lo, hi = bca_accelerated(seen, draws, 0.9, a)
    quantiles = np.quantile(rng.chisquare(nu, 400000) / nu, [0.05, 0.95])
    exact = seen / quantiles[::-1]
    assert (lo, hi) == pytest.approx(tuple(exact), rel=0.02)
    assert abs(percentile(draws, 0.9)[1] - exact[1]) > 0.15


def test_accelerations_from_draws_are_the_jackknifes():
    rng = np.random.default_rng(2)
    x = rng.exponential(size=25)
    counts = rng.multinomial(25, np.full(25, 1 / 25), size=6000).astype(float)
    draws = {"mean": counts @ x / 25, "square": (counts @ x / 25) ** 2}
    found = accelerations(draws, counts)
    left = (x.sum() - x) / 24
    assert found["mean"] == pytest.approx(skewness_of(left.mean() - left), abs=0.01)
    assert found["square"] == pytest.approx(skewness_of((left**2).mean() - left**2), abs=0.03)


def test_accelerations_need_draws_enough_and_count_clusters_once():
    rng = np.random.default_rng(3)
    counts = rng.multinomial(25, np.full(25, 1 / 25), size=60).astype(float)
    assert accelerations({"a": rng.standard_normal(60)}, counts) == {"a": 0.0}
    few = rng.multinomial(5, np.full(5, 0.2), size=600).astype(float)
    x = np.array([1.0, 1.0, 1.0, 1.0, 9.0])
    alone = accelerations({"a": few @ x}, few)["a"]
    assert accelerations({"a": few @ x}, np.repeat(few, 3, axis=1))["a"] == pytest.approx(alone, rel=1e-6)
    assert alone > 0.05


def test_no_interval_from_too_few_finite_draws():
    draws = np.full(100, np.nan)
    draws[:40] = np.arange(40.0)
    assert np.isnan(percentile(draws, 0.9)).all()
    assert np.isnan(estimate(20.0, draws, 0.9).ci).all()
    assert np.isnan(bca(20.0, draws, np.arange(5.0), 0.9)).all()
    assert not estimate(math.nan, np.arange(40.0), 0.9).known


def test_an_estimate_outside_its_draws_keeps_the_percentile_interval():
    draws = np.linspace(0, 1, 500)
    assert estimate(5.0, draws, 0.9).ci == percentile(draws, 0.9)


@pytest.mark.parametrize(
    ("ci", "value", "told"),
    [
        ((0.1, 0.5), 0.0, (Status.CONVERGED, "")),
        ((0.1, 0.5), 1.0, (Status.CONVERGED, "")),
        ((0.1, 0.5), 0.2, (Status.NOT_RESOLVED, "0.2 is inside the interval")),
        ((0.0, 0.5), 0.0, (Status.NOT_RESOLVED, "0 is inside the interval")),
        ((0.1, math.inf), 0.0, (Status.CONVERGED, "")),
        ((-math.inf, 0.5), 0.0, (Status.NOT_RESOLVED, "0 is inside the interval")),
        ((math.nan, math.nan), 0.0, (Status.NOT_RESOLVED, "one run")),
    ],
)
def test_an_estimate_is_told_from_a_value_outside_its_interval_alone(ci, value, told):
    assert Estimate(0.3, ci, 0.9).told_from(value, "one run") == told


def test_what_is_not_known_is_told_from_nothing():
    assert Estimate.missing(0.9).told_from(no_interval="no run") == (Status.NOT_RESOLVED, "no run")
