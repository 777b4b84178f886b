"""Resampling: what each scheme draws, with clusters and strata, and the moments it must have."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.bootstrap import choose_scheme, resample, shared_noise
from analysis.noise import seed_noise
from scaling.errors import InputError

CLUSTERS = np.array([0, 0, 1, 2, 3, 4, 5])
STRATA = np.array([0, 0, 0, 0, 1, 1, 1])


def test_case_draws_keep_lineages_and_strata():
    draws = resample(CLUSTERS, draws=50, seed=0, scheme="case", strata=STRATA)
    assert (draws.weights[:, 0] == draws.weights[:, 1]).all()
    assert draws.weights[:, 1:4].sum(axis=1) == pytest.approx(np.full(50, 3.0))
    assert draws.weights[:, 4:].sum(axis=1) == pytest.approx(np.full(50, 3.0))


def test_stratified_draws_give_the_unbiased_variance_of_a_mean():
    # Rao and Wu 1988: with n − 1 of n drawn and counted up, the variance is s²/n and not (n − 1)/n of it.
    y = np.array([1.0, 4.0, 2.0, 8.0, 3.0, 5.0])
    strata = np.array([0, 0, 0, 1, 1, 1])
    draws = resample(np.arange(6), draws=40000, seed=1, scheme="case", strata=strata)
    total = (draws.weights * y).sum(axis=1)
    expected = 3 * y[:3].var(ddof=1) + 3 * y[3:].var(ddof=1)
    assert total.var() == pytest.approx(expected, rel=0.03)


def test_auto_takes_cases_only_where_there_are_many():
    assert choose_scheme(CLUSTERS, STRATA, "auto") == "noise"
    assert choose_scheme(np.arange(60), None, "auto") == "case"
    assert choose_scheme(np.arange(59), None, "auto") == "noise"
    for name in ("case", "noise", "residual", "wild", "seeds"):
        assert choose_scheme(CLUSTERS, STRATA, name) == name
    with pytest.raises(InputError, match="scheme"):
        choose_scheme(CLUSTERS, STRATA, "jackknife")


def test_noise_shared_within_lineages_is_measured_and_drawn():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(400), 4)
    residual = np.sqrt(0.6) * rng.standard_normal(400)[clusters] + np.sqrt(0.4) * rng.standard_normal(1600)
    assert shared_noise(residual, clusters) == pytest.approx(0.6, abs=0.06)
    shocks = resample(np.array([0, 0, 1]), draws=4000, seed=0, scheme="noise", shared=0.6).shocks
    assert np.corrcoef(shocks.T)[0, 1] == pytest.approx(0.6, abs=0.05)
    assert np.corrcoef(shocks.T)[0, 2] == pytest.approx(0.0, abs=0.06)


def test_noise_with_an_estimated_variance_is_students():
    draws = resample(np.arange(3), draws=60000, seed=4, scheme="noise")
    dof = 6
    assert draws.noise(0.01, dof).var() == pytest.approx(1e-4 * dof / (dof - 2), rel=0.06)
    assert draws.noise(0.01, 0).var() == pytest.approx(1e-4, rel=0.02)


@pytest.mark.parametrize(("multiplier", "third"), [("rademacher", 0.0), ("mammen", 1.0)])
def test_wild_signs_are_shared_by_a_lineage_and_have_the_right_moments(multiplier, third):
    draws = resample(CLUSTERS, draws=60000, seed=0, scheme="wild", multiplier=multiplier)
    assert (draws.shocks[:, 0] == draws.shocks[:, 1]).all()
    s = draws.shocks[:, 2]
    assert (s.mean(), (s**2).mean(), (s**3).mean()) == pytest.approx((0.0, 1.0, third), abs=0.03)
    residual, leverage = np.linspace(-0.01, 0.02, 7), np.full(7, 0.5)
    noise = draws.noise(0.0, 3, residual, leverage)
    assert np.abs(noise).mean(axis=0) == pytest.approx(2 * np.abs(residual) * np.abs(s).mean(), rel=0.03, abs=1e-9)


def test_residuals_are_drawn_with_their_spread_and_lineages_together():
    rng = np.random.default_rng(0)
    residual = rng.standard_normal(30)
    residual -= residual.mean()
    noise = resample(np.arange(30), draws=20000, seed=0, scheme="residual").noise(1.0, 0, residual)
    assert noise.var() == pytest.approx(residual.var(), rel=0.02)
    assert np.isin(np.round(noise[:20], 9), np.round(residual, 9)).all()
    clusters = np.repeat(np.arange(5), 2)
    picks = resample(clusters, draws=100, seed=0, scheme="residual").picks
    assert (clusters[picks[:, 0]] == clusters[picks[:, 1]]).all()
    assert (picks[:, 0] % 2 == 0).all()
    uneven = resample(np.array([0, 0, 0, 1, 2, 2]), draws=200, seed=0, scheme="residual").picks
    assert (uneven >= 0).all()


def test_seeds_draw_each_rows_own_noise_and_need_repeats():
    params = np.repeat([1e6, 1e7, 1e8, 1e9], 6)
    rng = np.random.default_rng(0)
    loss = np.exp(1.0 + np.where(params < 5e7, 0.02, 0.002) * rng.standard_normal(24))
    seeds = seed_noise({"params": params}, loss)
    draws = resample(np.arange(24), draws=4000, seed=0, scheme="seeds", seeds=seeds)
    noise = draws.noise(123.0, 5)
    assert noise.std(axis=0) == pytest.approx(seeds.sigma * np.sqrt(20 / 18), rel=0.08)
    with pytest.raises(InputError, match="more than once"):
        resample(np.arange(24), draws=40, seed=0, scheme="seeds")


def test_the_same_seed_gives_the_same_draws_and_rows_can_be_taken():
    for scheme in ("case", "noise", "residual", "wild"):
        a, b, other = (resample(CLUSTERS, draws=30, seed=s, scheme=scheme) for s in (1, 1, 2))
        for name in ("weights", "shocks", "picks"):
            one, two, three = (getattr(r, name) for r in (a, b, other))
            assert (one is None) == (two is None)
            if one is not None:
                assert (one == two).all()
                assert (one != three).any()
        few = a.take(np.array([0, 3]))
        if scheme != "case":
            assert few.noise(0.01, 4, np.array([0.01, -0.01])).shape == (30, 2)
        else:
            assert few.weights.shape == (30, 2)
    with pytest.raises(InputError, match="multiplier"):
        resample(CLUSTERS, draws=30, seed=0, scheme="wild", multiplier="normal")
