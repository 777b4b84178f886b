"""The solver: known surfaces come back, the published table's optimum, agreement with scipy's optimizers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize, nnls
from scipy.special import huber, logsumexp
from sweeps_by_law import LAW, SURFACES, isoflop

from analysis import fit, frontier
from analysis.laws.base import nnls_small
from analysis.solve import OBJECTIVES, minimise, multistart

BUDGETS = np.geomspace(1e17, 1e19, 5)


def chinchilla_rows() -> pd.DataFrame:
    """The 240 rows of Besiroglu et al. 2024: the digitised runs without the five highest losses."""
    folder = os.environ.get("SCALING_TEST_DATA")
    if not folder:
        pytest.skip("SCALING_TEST_DATA is not set")
    path = Path(folder) / "tables" / "epoch_chinchilla" / "svg_extracted_data.csv"
    if not path.exists():
        pytest.skip(f"{path.name} is not in SCALING_TEST_DATA")
    raw = pd.read_csv(path).sort_values("loss", kind="stable").iloc[:-5]
    params, flops = raw["Model Size"].to_numpy(float), raw["Training FLOP"].to_numpy(float)
    return pd.DataFrame({"params": params, "tokens": flops / 6 / params, "loss": raw["loss"].to_numpy(float)})


def test_chinchilla_rows_reach_the_known_optimum():
    result = fit(chinchilla_rows(), bootstrap=200)
    assert result.n == 240
    assert result.status == "converged"
    assert result.objective_value == pytest.approx(0.001018274, abs=5e-10)
    assert result.params["E"].value == pytest.approx(1.8172, abs=5e-5)
    assert result.params["alpha"].value == pytest.approx(0.3473, abs=5e-5)
    assert result.params["beta"].value == pytest.approx(0.3672, abs=5e-5)
    assert result.diagnostics["bootstrap"]["scheme"] == "case"
    assert result.diagnostics["bootstrap"]["restarts_better"] == 0


def test_chinchilla_intervals_match_the_published_standard_errors():
    # Besiroglu et al. 2024: SE .0257, .0154, .0206 by 4,000 case draws; a 90 % interval is 3.29 SE wide.
    result = fit(chinchilla_rows(), bootstrap=1000)
    for name, se in (("E", 0.0257), ("alpha", 0.0154), ("beta", 0.0206)):
        lo, hi = result.interval(name)
        assert (hi - lo) / 3.29 == pytest.approx(se, rel=0.2)


def test_frontier_of_chinchilla_rows():
    found = frontier(chinchilla_rows(), "parametric", bootstrap=200)["parametric"]
    assert found.N_exponent.value == pytest.approx(0.3672 / (0.3473 + 0.3672), abs=2e-4)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES.keys())
def test_exact_data_give_the_surface_back(surface, objective):
    result = fit(isoflop(surface, BUDGETS), objective=objective, bootstrap=0)
    assert result.status == "converged"
    for name, value in surface.items():
        assert result.params[name].value == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_huber_optimum_is_no_worse_than_scipys_from_many_starts(seed):
    table = isoflop(SURFACES["chinchilla"], BUDGETS, sigma=0.01, seed=seed)
    log_n, log_d, y = (np.log(table[c].to_numpy()) for c in ("params", "tokens", "loss"))

    def objective(t):
        f = logsumexp([t[0] - t[1] * log_n, t[2] - t[3] * log_d, np.full_like(y, t[4])], axis=0)
        return 1e4 * huber(1e-3, f - y).sum()

    starts = [(a, x, b, z, e) for a in (5, 10) for x in (0.3, 0.6) for b in (5, 10) for z in (0.3, 0.6) for e in (0.5,)]
    best = min(minimize(objective, s, method="L-BFGS-B", options={"maxiter": 2000}).fun for s in starts) / 1e4
    ours = fit(table, bootstrap=0)
    assert ours.objective_value <= best * (1 + 1e-7)
    assert ours.objective_value == pytest.approx(best, rel=2e-2)


@pytest.mark.parametrize("seed", range(2))
def test_least_squares_optimum_equals_variable_projection_by_scipy(seed):
    table = isoflop(SURFACES["asymmetric"], BUDGETS, sigma=0.005, seed=seed)
    n, d, loss = (table[c].to_numpy() for c in ("params", "tokens", "loss"))
    unit_n, unit_d = n / n.mean(), d / d.mean()

    def projected(exponents):
        columns = np.stack([np.ones_like(n), unit_n ** -exponents[0], unit_d ** -exponents[1]], axis=1)
        return nnls(columns, loss)[1] ** 2 / 2

    start = min(((a, b) for a in np.linspace(0.1, 0.8, 15) for b in np.linspace(0.1, 0.8, 15)), key=projected)
    best = minimize(projected, start, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-16, "maxiter": 2000})
    ours = fit(table, objective="ls", bootstrap=0)
    assert ours.objective_value == pytest.approx(best.fun, rel=1e-8)
    assert ours.params["alpha"].value == pytest.approx(best.x[0], rel=1e-4)


def test_many_problems_at_once_equal_each_alone():
    table = isoflop(SURFACES["chinchilla"], BUDGETS, sigma=0.01)
    bound = LAW.bind(params=table["params"].to_numpy(), tokens=table["tokens"].to_numpy())
    y = np.log(table["loss"].to_numpy())
    weights = np.random.default_rng(0).multinomial(y.size, np.full(y.size, 1 / y.size), size=12).astype(float)
    start, _ = multistart(bound, y, np.ones(y.size), "huber_log")
    together = minimise(bound, y, weights, np.repeat(start.theta, 12, axis=0), "huber_log")
    for i in (0, 5, 11):
        alone = minimise(bound, y, weights[i], start.theta, "huber_log")
        assert alone.objective[0] == pytest.approx(together.objective[i], rel=1e-10)


def test_small_nnls_equals_scipys():
    rng = np.random.default_rng(1)
    basis = rng.uniform(0, 1, (20, 3, 8))
    target = rng.normal(size=8)
    weights = rng.uniform(0.5, 2, 8)
    found, rss = nnls_small(basis, target, weights)
    for g in range(20):
        x, norm = nnls((basis[g] * np.sqrt(weights)).T, target * np.sqrt(weights))
        np.testing.assert_allclose(found[g], x, atol=1e-8)
        assert rss[g] == pytest.approx(norm**2, rel=1e-8)
