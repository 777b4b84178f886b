"""Laws of downstream error over loss: limits, parameters that come back, and what a short range cannot tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis import fit
from analysis.laws import get_law
from analysis.types import Status

EXPONENTIAL = dict(get_law("downstream").instances["gadre_2024_c4"])
SIGMOID = {"low": 0.2, "high": 0.75, "k": 3.0, "L0": 2.8}
LAWS = {"downstream": EXPONENTIAL, "downstream_sigmoid": SIGMOID}


def runs(name: str, low: float, high: float, n: int = 24, sigma: float = 0.0) -> pd.DataFrame:
    loss = np.linspace(low, high, n)
    error = get_law(name).predict(LAWS[name], loss=loss)
    return pd.DataFrame({"loss": loss, "error": error + sigma * np.random.default_rng(0).standard_normal(n)})


@pytest.mark.parametrize("name", LAWS)
def test_jacobian_is_the_derivative(name):
    law, p, x = get_law(name), LAWS[name], np.linspace(1.5, 5.0, 12)
    for key, column in law.jacobian(p, loss=x).items():
        h = 1e-5 * p[key]
        up, down = (law.predict({**p, key: p[key] + s * h}, loss=x) for s in (1, -1))
        np.testing.assert_allclose(column, (up - down) / (2 * h), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("objective", ["ls", "huber_log"])
@pytest.mark.parametrize("name", LAWS)
def test_parameters_come_back(name, objective):
    found = fit(runs(name, 1.8, 5.0), law=name, objective=objective, bootstrap=0)
    assert found.status is Status.CONVERGED, found.reason
    assert found.values == pytest.approx(LAWS[name], rel=1e-5)
    assert found.predict(loss=2.3) == pytest.approx(get_law(name).predict(LAWS[name], loss=2.3), rel=1e-7)


def test_limits():
    law, p = get_law("downstream"), EXPONENTIAL
    assert law.predict(p, loss=1e3) == p["eps"]
    assert law.predict(p, loss=0.0) == pytest.approx(p["eps"] - p["k"])
    assert law.predict(p, loss=np.log(p["k"] / p["eps"]) / p["gamma"]) == pytest.approx(0.0, abs=1e-15)
    # A power of perplexity: doubling it divides what is gained on eps by 2^gamma.
    gain = p["eps"] - law.predict(p, loss=np.array([3.0, 3.0 + np.log(2)]))
    assert gain[0] / gain[1] == pytest.approx(2 ** p["gamma"])
    sigmoid, q = get_law("downstream_sigmoid"), SIGMOID
    np.testing.assert_allclose(sigmoid.predict(q, loss=np.array([1e4, 2.8, -1e4])), [0.75, 0.475, 0.2], rtol=1e-14)
    # Far above L0 it is the exponential form with eps = high, gamma = k.
    far = np.array([6.0, 7.0])
    twin = {"eps": 0.75, "k": 0.55 * np.exp(3.0 * 2.8), "gamma": 3.0}
    gained = 0.75 - sigmoid.predict(q, loss=far)
    np.testing.assert_allclose(gained, 0.75 - law.predict(twin, loss=far), rtol=1e-3)


def test_intervals_hold_the_truth():
    found = fit(runs("downstream", 2.2, 4.5, 40, 0.004), law="downstream", objective="ls", bootstrap=400, level=0.98)
    for key, value in EXPONENTIAL.items():
        lo, hi = found.interval(key)
        assert lo < value < hi, key
    assert found.predict(loss=2.0) == pytest.approx(get_law("downstream").predict(EXPONENTIAL, loss=2.0), abs=0.02)


def test_a_level_that_no_run_comes_near_is_not_told():
    found = fit(
        runs("downstream_sigmoid", 3.2, 5.0, 30, 0.004), law="downstream_sigmoid", objective="ls", bootstrap=200
    )
    lo, hi = found.interval("low")
    assert found.status is not Status.CONVERGED or hi - lo > 0.1
    near = fit(runs("downstream_sigmoid", 1.5, 5.0, 30, 0.004), law="downstream_sigmoid", objective="ls", bootstrap=200)
    lo, hi = near.interval("low")
    assert near.status is Status.CONVERGED
    assert hi - lo < 0.05


def test_too_few_points_is_a_status():
    found = fit(runs("downstream", 2.0, 4.0, 3), law="downstream", bootstrap=0)
    assert found.status is Status.TOO_FEW_POINTS
