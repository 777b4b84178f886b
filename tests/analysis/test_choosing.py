"""Choosing: the law that made the data wins on what was held out, and what cannot be told apart is not resolved."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sweeps_by_law import LAW, SURFACES, isoflop

from analysis import read_table
from analysis.choosing import choose
from analysis.estimation import estimate_law
from analysis.laws import get_law
from scaling.errors import InputError

BUDGETS = np.geomspace(1e17, 1e20, 6)
SURFACE = SURFACES["chinchilla"]


def table(sigma=0.003, seed=0, budgets=BUDGETS):
    return isoflop(SURFACE, budgets, sizes=5, sigma=sigma, seed=seed)


def test_the_law_that_made_the_data_wins_the_top_decade():
    found = choose(table(), ("power:flops", "power_floor:flops", "chinchilla"))
    assert found.best == "chinchilla"
    assert found.status == "converged"
    assert [c.law for c in found.candidates] == ["chinchilla", "power_floor:flops", "power:flops"]
    best = found["chinchilla"]
    assert best.log_rmse < 0.008
    assert best.are == pytest.approx(np.mean(np.abs(np.expm1(best.errors))))
    assert best.difference is None
    assert all(c.difference.ci[0] > 0 for c in found.candidates[1:])
    held_out = table()["flops"] >= BUDGETS[-1] / 10
    assert best.held_out == held_out.sum() == len(found.rows)
    with pytest.raises(KeyError, match="no law 'tied' was tried"):
        found["tied"]


def test_held_out_errors_are_those_of_a_fit_to_the_rest():
    frame = table()
    low, high = frame[frame["flops"] < BUDGETS[-1] / 10 * 0.999], frame[frame["flops"] >= BUDGETS[-1] / 10 * 0.999]
    x = {"params": low["params"].to_numpy(), "tokens": low["tokens"].to_numpy()}
    own = estimate_law(LAW, x, low["loss"].to_numpy(), "huber_log", None)
    expected = np.log(LAW.predict(own.values, params=high["params"], tokens=high["tokens"])) - np.log(high["loss"])
    np.testing.assert_allclose(choose(frame, ["chinchilla"])["chinchilla"].errors, expected, atol=1e-9)


def test_nested_laws_on_data_of_the_smaller_are_not_resolved():
    rng = np.random.default_rng(1)
    n = np.geomspace(1e6, 1e9, 30)
    frame = pd.DataFrame({"params": n, "tokens": 20 * n})
    frame["loss"] = 30 * n**-0.1 * np.exp(0.01 * rng.standard_normal(30))
    found = choose(frame, ("power:params", "power:tokens", "power_floor:params"))
    assert found.status == "not_resolved"
    # N and D in one ratio: the two power laws predict the same.
    assert found["power:params"].log_rmse == pytest.approx(found["power:tokens"].log_rmse, rel=1e-6)
    assert "within noise of" in found.reason


def test_information_criteria_are_those_of_normal_residuals_with_n_runs():
    frame = table()
    got = choose(frame, ["power:params"])["power:params"]
    slope, level = np.polyfit(np.log(frame["params"]), np.log(frame["loss"]), 1)
    rss = ((np.log(frame["loss"]) - slope * np.log(frame["params"]) - level) ** 2).sum()
    n, k = 30, 3
    deviance = n * (np.log(2 * np.pi * rss / n) + 1)
    assert got.aicc == pytest.approx(deviance + 2 * k + 2 * k * (k + 1) / (n - k - 1), rel=1e-6)
    assert got.bic == pytest.approx(deviance + k * np.log(n), rel=1e-6)
    # Each run's second checkpoint adds rows, and no runs.
    twice = pd.concat([frame, frame], ignore_index=True).assign(lineage=[f"r{i % 30}" for i in range(60)])
    assert choose(twice, ["power:params"])["power:params"].bic == pytest.approx(got.bic, rel=1e-6)


@pytest.mark.parametrize("holdout", ["budget", "size"])
def test_leaving_one_out_covers_every_run_once(holdout):
    frame = table(budgets=BUDGETS[:4])
    found = choose(frame, ("chinchilla", "power:flops"), holdout=holdout)
    assert found.best == "chinchilla"
    assert sorted(found.rows) == sorted(f"row {i}" for i in range(20))
    assert found["chinchilla"].coverage > 0.7


def test_a_lineage_is_never_on_both_sides():
    frame = table().assign(lineage=[f"trunk {i % 5}" for i in range(30)])
    found = choose(frame, ["chinchilla"])
    assert found.status == "too_few_points"
    assert "lineage" in found.reason


def test_what_cannot_be_tried_says_why():
    narrow = choose(table(budgets=[1e18, 2e18]))
    assert narrow.status == "too_few_points"
    assert "within one decade" in narrow.reason
    found = choose(table(), ("chinchilla", "data_constrained"))
    assert "no unique_tokens" in found["data_constrained"].reason
    json.dumps(found.to_json(), allow_nan=False)
    assert "chinchilla" in repr(found)


def test_random_folds_are_not_offered():
    with pytest.raises(InputError, match="random folds test interpolation"):
        choose(table(), holdout="random")
    with pytest.raises(InputError, match="did you mean budget"):
        choose(table(), holdout="budgets")
    with pytest.raises(InputError, match="no laws"):
        choose(table(), [])


def test_published_runs_prefer_a_floor_of_size_and_data():
    """The digitised runs of Hoffmann et al.: the surface beats every law of one variable on the highest decade."""
    folder = os.environ.get("SCALING_TEST_DATA")
    if not folder:
        pytest.skip("SCALING_TEST_DATA is not set: no published tables")
    frame = pd.read_csv(Path(folder) / "tables/epoch_chinchilla/svg_extracted_data.csv")
    frame = frame.rename(columns={"Model Size": "params", "Training FLOP": "flops", "loss": "loss"})
    frame["tokens"] = frame["flops"] / 6 / frame["params"]
    frame = frame.sort_values("loss").iloc[:-5]
    found = choose(read_table(frame), ("chinchilla", "power:flops", "power_floor:flops"))
    assert found.best == "chinchilla"
    assert found["chinchilla"].are < 0.02
    assert get_law("chinchilla").floor == "E"
