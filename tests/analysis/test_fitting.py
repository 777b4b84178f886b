"""Fits: statuses where the data do not determine the law, intervals, JSON, and what importing costs."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sweeps_by_law import LAW, SURFACES, isoflop

from analysis import fit
from analysis.bootstrap import bca, choose_scheme, percentile, resample, shared_noise
from scaling.errors import InputError

BUDGETS = np.geomspace(1e17, 1e19, 5)


def power(alpha: float = 0.1, floor: float = 0.0, n: int = 20, sigma: float = 0.0) -> pd.DataFrame:
    x = np.geomspace(1e6, 1e10, n)
    loss = (floor + 8.0 * x**-alpha) * np.exp(sigma * np.random.default_rng(0).standard_normal(n))
    return pd.DataFrame({"params": x, "tokens": 20 * x, "loss": loss})


@pytest.mark.parametrize("objective", ["huber_log", "ls_log", "ls"])
def test_power_laws_come_back(objective):
    plain = fit(power(0.1), "power", objective=objective, bootstrap=0)
    assert plain.values == pytest.approx({"A": 8.0, "alpha": 0.1}, rel=1e-7)
    floor = fit(power(0.2, 1.5), "power_floor:tokens", objective=objective, bootstrap=0)
    assert floor.status == "converged"
    assert floor.values == pytest.approx({"E": 1.5, "A": 8.0 * 20**0.2, "alpha": 0.2}, rel=1e-5)


def test_predict_and_intervals_are_joint():
    result = fit(isoflop(SURFACES["chinchilla"], BUDGETS, sigma=0.004), bootstrap=300)
    at = {"params": np.array([1e8, 1e9]), "tokens": np.array([2e9, 2e10])}
    mean = result.predict(**at)
    lo, hi = result.predict_interval(**at)
    assert mean.shape == (2,)
    assert (lo < mean).all()
    assert (mean < hi).all()
    # Parameters vary by tens of per cent; inside the data the loss they give together hardly moves.
    assert ((hi - lo) / mean < 0.02).all()
    wide_lo, wide_hi = result.predict_interval(new_run=True, **at)
    assert (wide_hi - wide_lo > hi - lo).all()
    assert result.interval("E") == result.params["E"].ci
    with pytest.raises(KeyError, match="no parameter"):
        result.interval("gamma")


def test_too_few_points():
    result = fit(isoflop(SURFACES["chinchilla"], BUDGETS[:1], sizes=5), bootstrap=20)
    assert result.status == "too_few_points"
    assert not result.params["E"].known
    same = pd.concat([power().iloc[:1]] * 10)
    assert fit(same, "power", bootstrap=20).status == "too_few_points"


def test_one_size_is_unidentified():
    tokens = np.geomspace(1e8, 1e11, 12)
    loss = LAW.predict(SURFACES["chinchilla"], params=1e8, tokens=tokens)
    result = fit(pd.DataFrame({"params": 1e8, "tokens": tokens, "loss": loss}), bootstrap=0)
    assert result.status == "unidentified"
    assert "same params" in result.reason


def test_two_sizes_do_not_identify_the_floor():
    tokens = np.tile(np.geomspace(1e8, 1e11, 12), 2)
    params = np.repeat([1e7, 1e9], 12)
    loss = LAW.predict(SURFACES["chinchilla"], params=params, tokens=tokens)
    loss = loss * np.exp(0.003 * np.random.default_rng(0).standard_normal(loss.size))
    result = fit(pd.DataFrame({"params": params, "tokens": tokens, "loss": loss}), bootstrap=0)
    assert result.status in ("unidentified", "bound_hit")
    assert result.reason


def test_no_floor_in_the_data_is_said():
    result = fit(power(0.1, sigma=0.004), "power_floor", bootstrap=0)
    assert result.status in ("bound_hit", "unidentified")
    assert "fits as well" in result.reason
    lower, upper = result.diagnostics["profile_interval_95"]
    assert lower <= 0.01 < upper


def test_strong_floor_is_identified():
    result = fit(power(0.3, 2.0, sigma=0.002), "power_floor", bootstrap=200)
    assert result.status == "converged"
    lower, upper = result.diagnostics["profile_interval_95"]
    assert lower < 2.0 < upper
    assert result.params["E"].ci[0] < 2.0 < result.params["E"].ci[1]


def test_rising_loss_hits_a_bound():
    table = power(-0.1)
    result = fit(table, "power", bootstrap=0)
    assert result.status == "bound_hit"
    assert "alpha" in result.reason


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_values_of_any_scale_are_fitted_or_refused(scale):
    table = power(0.1)
    table["loss"] *= scale
    result = fit(table, "power", bootstrap=20)
    assert result.status == "converged"
    assert result.values["alpha"] == pytest.approx(0.1, rel=1e-6)


def test_json_is_the_contract_and_holds_no_nan():
    for table in (isoflop(SURFACES["chinchilla"], BUDGETS, sigma=0.002), isoflop(SURFACES["chinchilla"], BUDGETS[:1])):
        result = fit(table, bootstrap=50)
        back = json.loads(json.dumps(result.to_json(), allow_nan=False))
        assert set(back) == {
            "law", "params", "objective_value", "objective", "n", "status", "warnings", "diagnostics", "dropped",
            "command", "version",
        }  # fmt: skip
        assert set(back["params"]) == {"E", "A", "alpha", "B", "beta"}
        assert "chinchilla" in repr(result)


def test_bca_shifts_a_skewed_interval_and_leaves_a_symmetric_one():
    rng = np.random.default_rng(0)
    draws = rng.standard_normal(20000)
    lo, hi = bca(0.0, draws, np.linspace(-1, 1, 21), 0.9)
    assert (lo, hi) == pytest.approx(percentile(draws, 0.9), abs=0.03)
    skewed_lo, skewed_hi = bca(-0.5, draws, np.linspace(-1, 1, 21), 0.9)
    assert skewed_lo < lo - 0.3
    assert skewed_hi < hi - 0.3
    table = isoflop(SURFACES["chinchilla"], BUDGETS, sigma=0.004)
    assert fit(table, interval="bca", bootstrap=200).params["E"].ci != fit(table, bootstrap=200).params["E"].ci


def test_case_draws_keep_lineages_and_strata():
    clusters = np.array([0, 0, 1, 2, 3, 4, 5])
    strata = np.array([0, 0, 0, 0, 1, 1, 1])
    draws = resample(clusters, draws=50, seed=0, scheme="case", strata=strata)
    assert (draws.weights[:, 0] == draws.weights[:, 1]).all()
    assert (draws.weights[:, 1:4].sum(axis=1) == 3).all()
    assert (draws.weights[:, 4:].sum(axis=1) == 3).all()
    assert choose_scheme(clusters, strata, "auto") == "noise"
    with pytest.raises(InputError, match="scheme"):
        choose_scheme(clusters, strata, "wild")


def test_noise_shared_within_lineages_is_measured_and_drawn():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(400), 4)
    residual = np.sqrt(0.6) * rng.standard_normal(400)[clusters] + np.sqrt(0.4) * rng.standard_normal(1600)
    assert shared_noise(residual, clusters) == pytest.approx(0.6, abs=0.06)
    shocks = resample(np.array([0, 0, 1]), draws=4000, seed=0, scheme="noise", shared=0.6).shocks
    assert np.corrcoef(shocks.T)[0, 1] == pytest.approx(0.6, abs=0.05)
    assert np.corrcoef(shocks.T)[0, 2] == pytest.approx(0.0, abs=0.06)


def test_importing_and_fitting_need_neither_torch_nor_ray():
    code = (
        "import sys, pandas as pd, analysis.fitting, analysis.frontiers, analysis.predictions\n"
        "from analysis import fit, frontier, list_laws\n"
        "list_laws(); t = pd.DataFrame({'params': [1e6, 2e6, 4e6, 8e6], 'tokens': 1e9, 'loss': [3, 2.9, 2.8, 2.7]})\n"
        "fit(t, 'power', bootstrap=20)\n"
        "bad = {'torch', 'ray', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_public_names_survive_the_import_of_every_module():
    import analysis.fitting
    import analysis.frontiers
    import analysis.predictions
    import analysis.scoring

    for name in ("fit", "frontier", "predict", "score", "read_table", "list_laws"):
        assert callable(getattr(analysis, name))
        assert name in dir(analysis)
    with pytest.raises(AttributeError):
        _ = analysis.nothing
