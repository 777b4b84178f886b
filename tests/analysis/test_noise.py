"""Seed noise: σ(N, D) comes back from repeated cells, and is one number where they cannot tell."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.noise import relative_precision, seed_noise
from scaling.errors import InputError


def repeated(slope: float, seeds: int, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e8, 1e11, 6)))
    n, d = np.repeat(n, seeds), np.repeat(d, seeds)
    sigma = 0.01 * (n / 3e7) ** slope
    loss = np.exp(1.0 + 0.1 * np.log(n) + sigma * np.random.default_rng(seed).standard_normal(n.size))
    return {"params": n, "tokens": d}, loss, sigma


@pytest.mark.parametrize("slope", [-0.3, 0.2])
def test_slopes_come_back(slope):
    x, loss, sigma = repeated(slope, 8)
    found = seed_noise(x, loss)
    assert found.dof == 36 * 7
    assert found.slopes["params"] == pytest.approx(slope, abs=0.06)
    assert found.slopes["tokens"] == pytest.approx(0.0, abs=0.06)
    assert found.sigma == pytest.approx(sigma, rel=0.3)


def test_equal_noise_is_one_number():
    x, loss, _ = repeated(0.0, 5, seed=3)
    found = seed_noise(x, loss)
    assert found.slopes == {}
    assert np.ptp(found.sigma) == 0.0
    assert found.sigma[0] == pytest.approx(0.01, rel=0.12)


def test_slopes_are_rarely_seen_where_there_are_none():
    seen = [bool(seed_noise(*repeated(0.0, 4, seed=s)[:2]).slopes) for s in range(60)]
    assert np.mean(seen) < 0.25  # by AIC two needless slopes are kept 13 % of the time


def test_few_repeats_give_one_number_and_none_none():
    x, loss, _ = repeated(-0.3, 1)
    assert seed_noise(x, loss) is None
    twice = {k: np.append(v, v[0]) for k, v in x.items()}
    found = seed_noise(twice, np.append(loss, loss[0] * 1.02))
    assert (found.dof, found.cells, found.slopes) == (1, 1, {})
    assert found.sigma[0] == pytest.approx(np.log(1.02) / np.sqrt(2), rel=1e-9)


def test_precision_is_relative():
    assert np.mean(relative_precision(np.array([0.01, 0.02, 0.04])) ** 2) == pytest.approx(1.0)
    p = relative_precision(np.array([0.01, 0.02]))
    assert p[0] / p[1] == pytest.approx(2.0)
    with pytest.raises(InputError, match="row 1"):
        relative_precision(np.array([0.01, np.nan]))
