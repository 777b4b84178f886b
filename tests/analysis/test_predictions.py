"""Predictions and their scores: exact on exact data, prediction intervals that cover, baselines that fall behind."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sweeps_by_law import LAW, SURFACES, isoflop

from analysis import Estimate, predict, score
from analysis.scoring import interval_score
from scaling.errors import InputError

BUDGETS = 1e17 * 4.0 ** np.arange(5)
SURFACE = SURFACES["chinchilla"]
TARGET = 10 * BUDGETS[-1]
BEST = LAW.frontier(SURFACE, TARGET)


@pytest.mark.parametrize("approach", ["parametric", "vpnls"])
def test_exact_data_predict_exactly(approach):
    found = predict(isoflop(SURFACE, BUDGETS), flops=TARGET, approach=approach, bootstrap=20)
    assert found.params.value == pytest.approx(float(BEST.params), rel=1e-5)
    assert found.tokens.value == pytest.approx(float(BEST.tokens), rel=1e-5)
    assert found.loss.value == pytest.approx(float(BEST.loss), rel=1e-7)
    # With a floor, straight lines in log–log are too optimistic, the one through all budgets the most.
    assert found.baselines["power_law"].value < found.baselines["last_two"].value < float(BEST.loss)


def test_a_run_of_given_size_and_tokens():
    found = predict(isoflop(SURFACE, BUDGETS, sigma=0.002), params=1e9, tokens=1e10, bootstrap=100)
    assert found.params == Estimate(1e9, (1e9, 1e9), 0.9)
    assert found.flops == pytest.approx(6e19, rel=1e-6)
    assert found.loss.value == pytest.approx(float(LAW.predict(SURFACE, params=1e9, tokens=1e10)), rel=0.01)
    assert found.loss.ci[0] < found.mean_loss.ci[0] < found.mean_loss.ci[1] < found.loss.ci[1]
    assert set(found.to_json()) == {"params", "tokens", "loss"}


def test_prediction_intervals_cover_a_new_run():
    # 40 sweeps at a nominal 90 %: below 30 hits has probability under 1 in 1,000.
    inside, errors, line_errors = 0, [], []
    for seed in range(40):
        table = isoflop(SURFACE, BUDGETS, sigma=0.007, seed=1000 + seed)
        found = predict(table, flops=TARGET, bootstrap=100, seed=seed, approach="vpnls")
        met = float(BEST.loss) * np.exp(0.007 * np.random.default_rng(9000 + seed).standard_normal())
        result = score(found, met)
        inside += result.inside
        errors.append(abs(result.error_relative))
        line_errors.append(abs(result.baseline_errors["last_two"]) / met)
    assert inside >= 30
    assert np.median(errors) < 0.012 < np.median(line_errors)


def test_scores_by_hand():
    guess = Estimate(2.0, (1.9, 2.1), 0.9)
    assert interval_score(guess, 2.05) == pytest.approx(0.2)
    assert interval_score(guess, 2.15) == pytest.approx(0.2 + 20 * 0.05)
    found = predict(isoflop(SURFACE, BUDGETS), flops=TARGET, bootstrap=20)
    result = score(found, [2.6, 2.7])
    assert result.observed == pytest.approx(2.65)
    assert result.error_nats == pytest.approx(float(BEST.loss) - 2.65, rel=1e-5)
    behind = found.baselines["last_two"].value - 2.65
    assert result.skill["last_two"] == pytest.approx(1 - abs(result.error_nats) / abs(behind))
    assert set(result.to_json()) >= {"error_nats", "error_relative", "inside", "interval_score", "skill"}


def test_what_cannot_be_predicted_is_a_status():
    found = predict(isoflop(SURFACE, BUDGETS[:1], sizes=4), flops=TARGET, bootstrap=20)
    assert found.status == "too_few_points"
    assert found.to_json()["loss"] == {"value": None, "ci": [None, None], "level": 0.9}
    assert found.baselines == {}
    with pytest.raises(InputError, match="no value to score"):
        score(found, 2.0)


def test_bad_targets():
    table = pd.DataFrame({"params": [1.0], "tokens": [1.0], "loss": [1.0]})
    with pytest.raises(InputError, match="one of the two"):
        predict(table)
    with pytest.raises(InputError, match="together"):
        predict(table, params=1.0)
    with pytest.raises(InputError, match="not a positive number"):
        predict(table, flops=-1.0)
    with pytest.raises(InputError, match="observed loss"):
        score(Estimate(2.0, (1.0, 3.0), 0.9), [2.0, float("nan")])
