"""The best loss of each budget: how fast it falls, and whether that is told to change."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.best_loss import Best, pace

LOG_C = np.log(1e18 * np.array([1.0, 2.5, 10.0, 20.0, 100.0]))


def best(log_loss: np.ndarray, noise: float = 0.0, seed: int = 0) -> Best:
    draws = log_loss + noise * np.random.default_rng(seed).standard_normal((400, log_loss.size))
    return Best(LOG_C[: log_loss.size], log_loss, draws)


def test_the_pace_of_a_parabola_is_its_own() -> None:
    """ln L = −.03 x − .01 x²: from budget to budget the exponent is .03 + .01 (x + x'), .02 ln 10 more in a decade."""
    x = LOG_C - LOG_C[0]
    found = pace(best(-0.03 * x - 0.01 * x**2), 0.9)
    assert found is not None
    np.testing.assert_allclose(found.exponents, 0.03 + 0.01 * (x[1:] + x[:-1]))
    assert found.rise.value == pytest.approx(0.02 * math.log(10.0))
    assert not found.excess.known
    assert pace(best(-0.03 * x[:2]), 0.9) is None


def test_what_exceeds_a_laws_own_bend_pairs_draws() -> None:
    """Noise that law and losses share leaves the difference sharp."""
    x = LOG_C - LOG_C[0]
    seen, law = best(-0.05 * x, noise=0.01), -0.05 * x + 0.002 * x**2
    found = pace(seen, 0.9, along=Best(LOG_C, law, seen.draws + 0.05 * x + law))
    assert found is not None
    assert found.law == pytest.approx(-0.004 * math.log(10.0))
    assert found.excess.value == pytest.approx(0.004 * math.log(10.0))
    assert found.excess.ci[1] - found.excess.ci[0] < 1e-9 < found.rise.ci[1] - found.rise.ci[0]


def test_a_pure_power_law_is_told_to_bend_no_oftener_than_its_level_says() -> None:
    x, noise = LOG_C - LOG_C[0], 0.005
    told = 0
    for seed in range(300):
        seen = -0.05 * x + noise * np.random.default_rng(seed).standard_normal(x.size)
        found = pace(best(seen, noise, 1000 + seed), 0.9)
        assert found is not None
        told += found.rise.excludes()
    assert 0.05 <= told / 300 <= 0.16
