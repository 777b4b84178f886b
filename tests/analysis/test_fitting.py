"""Fits: statuses where the data do not determine the law, intervals, JSON, and what importing costs."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress
from scipy.stats import t as student
from sweeps_by_law import LAW, SURFACES, isoflop

from analysis import fit
from analysis.bootstrap import percentile
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


@pytest.mark.parametrize("scheme", ["case", "residual", "wild", "noise"])
@pytest.mark.parametrize("objective", ["huber_log", "student_t"])
def test_every_scheme_gives_intervals_of_the_same_size(scheme, objective):
    surface = SURFACES["chinchilla"]
    table = isoflop(surface, BUDGETS, sigma=0.005, seed=4)
    found = fit(table, objective=objective, scheme=scheme, bootstrap=400, verify=False)
    plain = fit(table, objective="ls_log", scheme="noise", bootstrap=400, verify=False)
    assert found.diagnostics["bootstrap"]["scheme"] == scheme
    lo, hi = found.interval("alpha")
    width = np.ptp(plain.interval("alpha"))
    assert 0.5 * width < hi - lo < 2.2 * width
    assert lo < found.values["alpha"] < hi


def test_percentile_and_bca_differ_by_the_draws_bias():
    table = isoflop(SURFACES["chinchilla"], BUDGETS, sigma=0.004)
    by_bca, plain = (fit(table, interval=i, bootstrap=200, verify=False) for i in ("bca", "percentile"))
    assert plain.params["B"].ci == percentile(plain.draws["B"], 0.9)
    # More draws below the estimate than above: they lie too low, and the interval is moved up; and the reverse.
    below = float(np.mean(by_bca.draws["B"] < by_bca.values["B"]))
    assert below != 0.5
    assert (by_bca.params["B"].ci[1] > plain.params["B"].ci[1]) == (below > 0.5)


def test_profile_intervals_of_a_line_are_students():
    # ln L = ln A − alpha ln N is linear, so the profile interval is the textbook one.
    table = power(0.1, n=9, sigma=0.02)
    found = fit(table, "power", objective="ls_log", interval="profile", bootstrap=0, level=0.95)
    line = linregress(np.log(table["params"]), np.log(table["loss"]))
    half = student.ppf(0.975, 7) * line.stderr
    assert found.values["alpha"] == pytest.approx(-line.slope, rel=1e-9)
    assert found.interval("alpha") == pytest.approx((-line.slope - half, -line.slope + half), rel=2e-3)
    half = student.ppf(0.975, 7) * line.intercept_stderr
    ends = np.exp(np.array([line.intercept - half, line.intercept + half]))
    assert found.interval("A") == pytest.approx(tuple(ends), rel=2e-3)


def test_profile_of_a_floor_that_may_be_zero_ends_at_zero():
    found = fit(power(0.1, sigma=0.004), "power_floor", interval="profile", bootstrap=0)
    assert found.interval("E")[0] == pytest.approx(0.0, abs=1e-6)
    assert 0.0 < found.interval("E")[1] < 8.0


def test_weights_from_seeds_and_from_standard_errors():
    rng = np.random.default_rng(5)
    cells = pd.concat([isoflop(SURFACES["chinchilla"], BUDGETS, sizes=5)] * 4)
    sigma = np.where(cells["params"] < cells["params"].median(), 0.03, 0.002)
    cells["loss"] *= np.exp(sigma * rng.standard_normal(len(cells)))
    cells["loss_se"] = sigma * cells["loss"]
    truth = SURFACES["chinchilla"]
    for objective in ("huber_log", "ls_log", "ls", "student_t"):
        given = {"objective": objective, "bootstrap": 200, "scheme": "noise", "verify": False}
        plain, seeds, se = (fit(cells, weights=w, **given) for w in ("none", "seeds", "se"))
        widths = [np.ptp(f.interval("beta")) for f in (plain, seeds, se)]
        assert widths[1] < 0.8 * widths[0], objective
        assert widths[2] < 0.8 * widths[0], objective
        assert se.values["beta"] == pytest.approx(truth["beta"], abs=0.03)
    slope = seeds.diagnostics["seed_noise"]["slopes_of_log_sigma"]["params"]
    assert slope < -0.2
    drawn = fit(cells, objective="ls_log", weights="seeds", scheme="seeds", bootstrap=200, verify=False)
    assert np.ptp(drawn.interval("beta")) == pytest.approx(widths[1], rel=0.5)


def test_likeliest_nu_is_small_for_outliers_and_large_without():
    table = pd.concat([isoflop(SURFACES["symmetric"], BUDGETS)] * 6)
    rng = np.random.default_rng(1)
    for noise, low, high in ((rng.standard_t(2, len(table)), 1.0, 4.0), (rng.standard_normal(len(table)), 9.0, 101.0)):
        shaken = table.assign(loss=table["loss"] * np.exp(0.005 * noise))
        found = fit(shaken, objective="student_t", nu="profile", bootstrap=0, verify=False)
        nu = float(found.diagnostics["checklist"]["fit"]["loss"].split("nu ")[1].split(",")[0])
        assert low <= nu <= high


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": "seeds"}, "more than once"),
        ({"weights": "se"}, "loss_se"),
        ({"scheme": "seeds"}, "more than once"),
        ({"scheme": "jackknife"}, "no bootstrap scheme"),
        ({"nu": "many"}, "neither a number"),
        ({"delta": -1.0}, "delta is -1"),
        ({"interval": "wald"}, "no interval"),
        ({"multiplier": "normal"}, "no multiplier"),
    ],
)
def test_what_cannot_be_done_is_one_clear_error(given, message):
    with pytest.raises(InputError, match=message):
        fit(isoflop(SURFACES["chinchilla"], BUDGETS, sizes=5, sigma=0.01), bootstrap=20, **given)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("column", ["params", "tokens", "loss"])
def test_overflow_scale_values_give_a_status_with_a_reason_or_the_law(column, scale):
    table = isoflop(SURFACES["chinchilla"], BUDGETS, sigma=0.002).drop(columns="flops")
    table[column] *= scale
    found = fit(table, bootstrap=20)
    if found.status == "converged":
        assert found.values["alpha"] == pytest.approx(SURFACES["chinchilla"]["alpha"], abs=0.05)
    else:
        assert found.reason
    one = table.copy()
    one.loc[3, column] = 1e30
    odd = fit(one, bootstrap=20)
    assert odd.status == "converged" or odd.reason
    assert all(np.isfinite(e.value) or np.isnan(e.value) for e in odd.params.values())


def test_losses_below_a_floor_that_is_given_are_refused_by_the_data():
    # A floor of 2.9 in the data of most runs and one loss far below it: no floor fits both, and that is said.
    table = power(0.3, 2.9, n=12)
    table.loc[0, "loss"] = 0.5
    found = fit(table, "power_floor", objective="ls_log", bootstrap=0)
    assert found.status in ("bound_hit", "unidentified")
    assert found.reason


def test_importing_and_fitting_need_neither_torch_nor_ray():
    code = (
        "import sys, pandas as pd, analysis.fitting, analysis.frontiers, analysis.predictions\n"
        "from analysis import fit, frontier, list_laws\n"
        "list_laws(); t = pd.DataFrame({'params': [1e6, 2e6, 4e6, 8e6], 'tokens': 1e9, 'loss': [3, 2.9, 2.8, 2.7]})\n"
        "fit(t, 'power', bootstrap=20)\n"
        "bad = {'torch', 'ray', 'scipy.stats', 'matplotlib'} & set(sys.modules)\n"
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
