"""Porian's approach: the authors' exponents to the last digit, known surfaces, and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sweeps_by_law import LAW, SURFACES, exponent, isoflop

from analysis import frontier
from analysis.approaches.base import line
from analysis.approaches.porian import SCHEDULES, minimum_of
from scaling.errors import InputError

BUDGETS = np.geomspace(1e17, 1e19, 5)
PUBLISHED = (0.86351, 0.69850, 0.60320, 0.57430, 0.51845)


@pytest.fixture(scope="module")
def owt2() -> Path:
    root = os.environ.get("SCALING_TEST_DATA")
    if not root:
        pytest.skip("SCALING_TEST_DATA is not set: the tables of Porian et al. are not here")
    return Path(root) / "tables" / "porian_owt2"


def authors_minima(points: pd.DataFrame, random: np.random.RandomState) -> tuple[list[float], list]:
    """Our minima with the authors' noise: theirs draws for N* and then for D* at every budget, from one stream."""
    schedule = SCHEDULES["porian_2024_owt2_as_run"]
    flops, minima = [], []
    for c, group in points.groupby("flops"):
        group = group.sort_values("params")
        loss = group["loss"].to_numpy()
        replicates = loss + schedule(loss) * random.normal(size=(1000, loss.size))
        random.normal(size=(1000, loss.size))
        found = minimum_of(np.log(group["params"].to_numpy()), loss, replicates)
        if found.status == "converged":
            flops.append(float(c))
            minima.append(found)
    return flops, minima


def test_stored_pairs_give_the_published_exponents(owt2):
    pairs = pd.read_csv(owt2 / "optimal_pairs.csv").dropna()
    stored = pd.read_csv(owt2 / "published_exponents.csv")
    for setting, group in pairs.groupby("setting"):
        log_n = np.log(group["n_star"].to_numpy())
        weights = group["log_n_star_std"].to_numpy() ** -2.0
        found = line(np.log(group["flops"].to_numpy()), log_n, log_n[None], weights)
        assert found.exponent == pytest.approx(stored["wls_n_exponent"][setting], abs=1e-12)
        assert found.exponent == pytest.approx(PUBLISHED[setting], abs=5e-6)
        plain = line(np.log(group["flops"].to_numpy()), log_n, log_n[None])
        assert plain.exponent == pytest.approx(stored["ols_n_exponent"][setting], abs=1e-12)


def test_isoflop_points_and_the_authors_noise_give_every_stored_minimum(owt2):
    points, pairs = pd.read_csv(owt2 / "isoflop_points.csv"), pd.read_csv(owt2 / "optimal_pairs.csv")
    random = np.random.RandomState(42)
    for setting, published in enumerate(PUBLISHED):
        flops, minima = authors_minima(points[points["setting"] == setting], random)
        stored = pairs[pairs["setting"] == setting].dropna()
        np.testing.assert_allclose(flops, stored["flops"])
        np.testing.assert_allclose(np.exp([m.log_n for m in minima]), stored["n_star"], rtol=1e-12)
        np.testing.assert_allclose([m.deviation for m in minima], stored["log_n_star_std"], rtol=1e-12)
        log_n = np.array([m.log_n for m in minima])
        weights = np.array([m.deviation for m in minima]) ** -2.0
        assert line(np.log(flops), log_n, log_n[None], weights).exponent == pytest.approx(published, abs=5e-6)


def test_our_draws_come_near_and_the_stated_schedule_does_not_change_the_order(owt2):
    points = pd.read_csv(owt2 / "isoflop_points.csv")
    names = ["porian:porian_2024_owt2_as_run", "porian:porian_2024_owt2", "porian"]
    found = [frontier(points[points["setting"] == s], names, bootstrap=400) for s in range(5)]
    for frontiers, published in zip(found, PUBLISHED, strict=True):
        run = frontiers[names[0]]
        assert run.status == "converged"
        assert run.N_exponent.value == pytest.approx(published, abs=0.004)
        assert run.N_exponent.ci[0] < published < run.N_exponent.ci[1]
        # Noise measured on the losses themselves is of the same size as the authors' 0.01 nats.
        assert frontiers["porian"].N_exponent.value == pytest.approx(published, abs=0.02)
        assert 0.002 < frontiers["porian"].diagnostics["noise_relative"] < 0.02
    assert len(found[1][names[0]].dropped) == 1  # the lowest budget's minimum is at the smallest size
    exponents = [f[names[1]].N_exponent.value for f in found]
    assert exponents == sorted(exponents, reverse=True)


def test_schedules_rise_with_the_loss():
    noise = SCHEDULES["porian_2024_refinedweb"]
    np.testing.assert_allclose(noise(np.array([2.0, 3.0, 7.0, 9.0])), [0.002, 0.002, 0.05, 0.05])
    assert noise(np.array([np.sqrt(21.0)]))[0] == pytest.approx(np.sqrt(0.002 * 0.05))


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES.keys())
def test_wide_grids_do_not_shift_it_as_they_shift_a_parabola(surface):
    table = isoflop(surface, BUDGETS, sizes=9)
    found = frontier(table, "isoflop,porian", bootstrap=50)
    assert found["porian"].N_exponent.value == pytest.approx(exponent(surface), abs=2e-3)
    best = LAW.frontier(surface, BUDGETS).params
    off = {f.approach: np.abs(np.log([p.params for p in f.points] / best)).max() for f in found}
    assert off["porian"] < 0.02  # half a gap between sizes is .35; the grid's step is .03
    if surface["alpha"] != surface["beta"]:
        assert off["isoflop"] > 0.01


def test_symmetric_surfaces_without_noise_are_exact_but_for_the_grids_step():
    table = isoflop(SURFACES["symmetric"], BUDGETS)
    found = frontier(table, "porian", bootstrap=50)["porian"]
    step = np.log(2) * 6 / (25 * 6 - 1)
    best = LAW.frontier(SURFACES["symmetric"], BUDGETS).params
    assert np.abs(np.log([p.params for p in found.points] / best)).max() <= 0.5 * step * (1 + 1e-6)
    assert found.N_exponent.value == pytest.approx(0.5, abs=0.5 * step / np.log(10))
    assert found.N_exponent.ci[0] < 0.5 < found.N_exponent.ci[1]


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES.keys())
def test_noisy_surfaces_lie_within_the_interval(surface):
    found = frontier(isoflop(surface, BUDGETS, sigma=0.003, seed=5), "porian", bootstrap=300, level=0.99)["porian"]
    assert found.status == "converged"
    assert found.N_exponent.ci[0] < exponent(surface) < found.N_exponent.ci[1]
    assert found.D_exponent.value == pytest.approx(1 - found.N_exponent.value, abs=1e-6)
    for p in found.points:
        assert p.params_ci[0] <= p.params <= p.params_ci[1]


def test_budgets_that_noise_does_not_leave_a_minimum_are_dropped():
    log_n, loss = np.log([1e6, 2e6, 4e6]), np.array([3.0, 2.9, 3.0])
    shocks = np.random.default_rng(0).standard_normal((400, 3))
    assert minimum_of(log_n, loss, loss + 0.01 * shocks).status == "converged"
    refused = minimum_of(log_n, loss, loss + 0.9 * shocks)  # the middle of three equal losses is lowest in a third
    assert refused.status == "not_resolved"
    assert "of draws" in refused.reason
    assert minimum_of(log_n, loss[::-1].cumsum(), None).reason.startswith("the smallest size")
    assert minimum_of(log_n, np.full(3, 2.0), None).reason == "the losses are equal: no minimum"


def test_the_deviation_is_a_third_of_a_gap_at_least_and_grows_with_lost_draws():
    log_n, loss = np.log([1e6, 2e6, 4e6, 8e6]), np.array([3.0, 2.8, 2.78, 2.95])
    exact = minimum_of(log_n, loss, np.repeat(loss[None], 40, axis=0))
    gap = np.log(8) / 3
    assert exact.deviation == pytest.approx(0.33 * gap * 75 / 74)  # the grid has 75 points, hence 74 steps
    replicates = np.repeat(loss[None], 40, axis=0)
    replicates[:10] = [3.0, 2.9, 2.8, 2.7]
    assert minimum_of(log_n, loss, replicates).deviation == pytest.approx(exact.deviation / 0.75)


def test_case_draws_leave_out_sizes_and_keep_the_value():
    table = isoflop(SURFACES["chinchilla"], BUDGETS, sizes=13, ratio=1.4, sigma=0.002)
    found = frontier(table, "porian", bootstrap=60, scheme="case")["porian"]
    assert found.diagnostics["scheme"] == "case"
    assert found.N_exponent.ci[0] < exponent(SURFACES["chinchilla"]) < found.N_exponent.ci[1]


def test_what_it_has_not_is_an_error():
    with pytest.raises(InputError, match="no noise schedule 'porian_2023'"):
        frontier(isoflop(SURFACES["chinchilla"], BUDGETS), "porian:porian_2023")
    with pytest.raises(InputError, match="isoflop has no variants"):
        frontier(isoflop(SURFACES["chinchilla"], BUDGETS), "isoflop:wide")
