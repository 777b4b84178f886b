"""Predictions and their scores: exact on exact data, prediction intervals that cover, baselines that fall behind."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sweeps_by_law import LAW, SURFACES, isoflop

from analysis import Estimate, frontier, predict, score
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


@pytest.mark.parametrize("approach", ["isoflop", "porian", "envelope"])
def test_approaches_without_a_surface_take_the_loss_from_one(approach):
    if approach == "envelope":
        sizes, flops = 2.0 ** np.arange(22, 33), np.geomspace(1e17, 2e19, 9)
        table = pd.DataFrame([(n, c / 6 / n) for n in sizes for c in flops], columns=["params", "tokens"])
        table["loss"] = LAW.predict(SURFACE, params=table["params"], tokens=table["tokens"])
        table["loss"] *= np.exp(0.002 * np.random.default_rng(2).standard_normal(len(table)))
    else:
        table = isoflop(SURFACE, BUDGETS, ratio=1.5, sigma=0.002, seed=2)
    found = predict(table, flops=TARGET, approach=approach, bootstrap=200, level=0.99, scheme="noise")
    lines = frontier(table, approach, bootstrap=200, level=0.99, scheme="noise")[approach]
    assert found.approach == approach
    assert found.status == "converged"
    assert found.params.value == pytest.approx(float(lines.params(TARGET)))
    assert found.params.ci[0] < float(BEST.params) < found.params.ci[1]
    assert found.tokens.ci[0] < float(BEST.tokens) < found.tokens.ci[1]
    assert found.loss.ci[0] < float(BEST.loss) < found.loss.ci[1]
    # The loss is flat in N near N*: an uncertain size makes the loss no more uncertain than the surface is, nearly.
    direct = predict(table, flops=TARGET, bootstrap=200, level=0.99, scheme="noise")
    assert found.loss.value == pytest.approx(direct.loss.value, rel=5e-3)
    assert set(found.baselines) == {"power_law", "last_two"}


def test_size_tokens_and_loss_are_drawn_together():
    # One draw's size, tokens and budget belong together: the product of the intervals would be far wider.
    table = isoflop(SURFACE, BUDGETS, sigma=0.004, seed=3)
    found = predict(table, flops=TARGET, approach="isoflop", bootstrap=300)
    assert found.params.ci[0] * found.tokens.ci[1] * 6 == pytest.approx(TARGET, rel=1e-3)
    assert found.params.ci[1] * found.tokens.ci[0] * 6 == pytest.approx(TARGET, rel=1e-3)
    narrow = np.diff(found.mean_loss.ci)[0] / found.mean_loss.value
    assert narrow < 0.2 * np.log(found.params.ci[1] / found.params.ci[0])


def test_another_law_predicts_what_it_says():
    table = isoflop(SURFACE, BUDGETS)
    n, d = table["params"].to_numpy(), table["tokens"].to_numpy()
    table["loss"] = ((6.4e13 / n) ** (0.076 / 0.103) + 1.8e13 / d) ** 0.103
    found = predict(table, params=1e9, tokens=2e10, law="kaplan_joint", bootstrap=20)
    assert found.loss.value == pytest.approx(((6.4e13 / 1e9) ** (0.076 / 0.103) + 1.8e13 / 2e10) ** 0.103, rel=1e-6)
    at = predict(table, flops=TARGET, law="kaplan_joint", bootstrap=20)
    assert at.approach == "parametric:kaplan_joint"
    assert at.loss.value < found.loss.value
    with pytest.raises(InputError, match="did you mean isoflop"):
        predict(table, flops=TARGET, approach="isoflops")


def test_a_power_law_outside_the_interval_is_a_warning_at_a_budget_alone():
    """With a floor they part ten times beyond; without one they do not, and off the optimum nothing is compared."""
    words = "which holds nothing of the law's form"
    curved = isoflop(SURFACE, BUDGETS, sigma=0.002, seed=4)
    far, run = predict(curved, flops=TARGET, bootstrap=100), predict(curved, params=1e9, tokens=1e10, bootstrap=100)
    assert far.baselines["power_law"].value < far.loss.ci[0]
    (told,) = [w for w in far.warnings if words in w]
    assert f"reckon with {far.baselines['power_law'].ci[0]:.4g} to {far.loss.ci[1]:.4g}" in told
    assert words not in " ".join(run.warnings)
    straight = predict(isoflop({**SURFACE, "E": 0.0}, BUDGETS, sigma=0.01, seed=4), flops=TARGET, bootstrap=100)
    assert straight.loss.known
    assert words not in " ".join(straight.warnings)


def test_a_best_loss_that_slows_down_less_than_the_law_is_a_warning_beyond_the_table_alone():
    """Every budget's losses times a factor: the shape within a budget stays as it was."""
    words = "the exponent by which the best loss falls changes by"
    table = isoflop(SURFACE, BUDGETS, sigma=0.002, seed=4)
    x = np.log(table["flops"])
    bent = {b: table.assign(loss=table["loss"] * np.exp(b * (x - x.mean()) ** 2)) for b in (-0.004, 0.0, 0.004)}
    (told,) = [w for w in predict(bent[-0.004], flops=TARGET, bootstrap=100).warnings if words in w]
    assert told.endswith("reckon with a lower loss than this")
    for table, flops in ((bent[0.0], TARGET), (bent[0.004], TARGET), (bent[-0.004], BUDGETS[-2])):
        assert words not in " ".join(predict(table, flops=flops, bootstrap=100).warnings)


def test_an_approach_without_a_frontier_says_why():
    table = isoflop(SURFACE, BUDGETS, sizes=2)
    found = predict(table, flops=TARGET, approach="isoflop", bootstrap=20)
    assert found.status == "not_isoflop"
    assert "share a budget" in found.reason
    assert not found.params.known
    assert not found.loss.known
    # The lowest loss of each budget is still known, and so are the rules that know no law.
    assert found.baselines["last_two"].known


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
