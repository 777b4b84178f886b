"""Contrasts: hand-worked values, errors that add up as they should, and the coverage of their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student_t

from analysis.contrasts import Scored, contrast, given, ratio, seed_noise, slope_weights
from analysis.types import Status


def test_a_ratio_is_that_of_its_sums_and_draws_have_the_clustered_error() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(50, 200, 300).astype(float)
    sums = counts * (2.0 + 0.3 * rng.standard_normal(300))
    found = ratio(sums, counts, draws=2000)
    assert found.value == pytest.approx(sums.sum() / counts.sum(), rel=1e-14)
    spread = math.sqrt(np.square(sums - counts * found.value).sum()) / counts.sum()
    assert found.draws.std() == pytest.approx(spread, rel=0.06)
    assert found.log().value == pytest.approx(math.log(found.value))


def test_what_two_runs_have_in_common_drops_out_of_their_difference() -> None:
    rng = np.random.default_rng(1)
    hard, ones = rng.standard_normal(500), np.ones(500)
    a = [ratio(hard + 1.0 + d, ones) for d in (-0.1, 0.1)]
    b = [ratio(hard + 0.5 + d, ones) for d in (-0.2, 0.2)]
    noise = seed_noise([a, b])
    assert noise.sd == pytest.approx(math.sqrt((2 * 0.1**2 + 2 * 0.2**2) / 2))
    assert noise.dof == 2
    found = contrast([(1.0, a), (-1.0, b)], noise, 0.9)
    assert found.value.value == pytest.approx(0.5)
    assert found.se_items == pytest.approx(0.0, abs=1e-12)
    assert found.se_seeds == pytest.approx(noise.sd)
    half = student_t.ppf(0.95, 2) * noise.sd
    assert found.value.ci == pytest.approx((0.5 - half, 0.5 + half))
    assert (found.status, found.runs) == (Status.NOT_RESOLVED, 4)
    hundred = contrast([(1.0, a), (-1.0, b)], noise, 0.9, scale=100.0)
    assert hundred.value.ci == pytest.approx((100 * (0.5 - half), 100 * (0.5 + half)))


def test_without_seeds_or_runs_there_is_no_interval() -> None:
    alone = contrast([(1.0, [given(2.0)]), (-1.0, [given(1.0)])], seed_noise([[given(2.0)], [given(1.0)]]))
    assert (alone.status, alone.value.value) == (Status.NOT_RESOLVED, 1.0)
    assert math.isnan(alone.value.ci[0])
    assert "two seeds" in alone.reason
    none = contrast([(1.0, []), (-1.0, [given(1.0)])], seed_noise([[given(1.0), given(1.1)]]))
    assert none.status is Status.TOO_FEW_POINTS
    assert not none.value.known


def test_slope_weights_give_the_slope_of_a_line() -> None:
    x = np.log([1e4, 3e4, 9e4, 3e5])
    w = slope_weights(x)
    assert w.sum() == pytest.approx(0.0, abs=1e-12)
    assert w @ (3.0 - 0.7 * x) == pytest.approx(-0.7)
    noise = seed_noise([[given(1.0), given(1.2)]])
    found = contrast([(c, [given(3.0 - 0.7 * v)]) for c, v in zip(w, x, strict=True)], noise, 0.9)
    assert found.value.value == pytest.approx(-0.7)
    assert found.se_seeds == pytest.approx(noise.sd * math.sqrt(np.square(w).sum()))


@pytest.mark.parametrize(("between", "within"), [(0.02, 0.1), (0.0, 0.3), (0.05, 0.0)])
def test_nominal_ninety_percent_intervals_cover(between: float, within: float) -> None:
    """Seeds that shift a whole run and items that answer differently to the two recipes."""
    rng, inside, n = np.random.default_rng(3), 0, 300
    for _ in range(n):
        items = rng.standard_normal(200)
        own = within * rng.standard_normal((2, 200))
        runs: list[list[Scored]] = []
        for k in range(2):
            shifts = between * rng.standard_normal(3) + 0.4 * k
            # The truth is over all items there could be, so each recipe's own answers are drawn as well.
            runs.append([ratio(items + own[k] + s, np.ones(200), draws=200) for s in shifts])
        found = contrast([(1.0, runs[1]), (-1.0, runs[0])], seed_noise(runs), 0.9)
        inside += found.value.ci[0] <= 0.4 <= found.value.ci[1]
    assert 0.85 * n < inside < 0.95 * n
