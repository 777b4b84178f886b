"""Estimates of one law: bad input is a status or one clear error, draws are joint, weights change what they should."""

from __future__ import annotations

import numpy as np
import pytest
from sweeps_by_law import LAW, SURFACES, isoflop

from analysis.bootstrap import resample
from analysis.estimation import estimate_law, leverages
from analysis.intervals import estimate
from analysis.objectives import OBJECTIVES
from scaling.errors import InputError

BUDGETS = np.geomspace(1e17, 1e19, 5)


def points(sigma: float = 0.01, seed: int = 0):
    table = isoflop(SURFACES["chinchilla"], BUDGETS, sigma=sigma, seed=seed)
    return {v: table[v].to_numpy() for v in ("params", "tokens")}, table["loss"].to_numpy()


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_what_is_no_positive_number_is_named_by_row(value):
    x, loss = points()
    with pytest.raises(InputError, match="row 3: loss"):
        estimate_law(LAW, x, np.where(np.arange(loss.size) == 3, value, loss), "huber_log", None)
    with pytest.raises(InputError, match="row 0: tokens"):
        estimate_law(
            LAW, {**x, "tokens": np.where(np.arange(loss.size) == 0, value, x["tokens"])}, loss, "ls_log", None
        )


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_too_few_distinct_points_and_one_size(objective):
    x, loss = points()
    few = estimate_law(LAW, {k: v[:5] for k, v in x.items()}, loss[:5], objective, None)
    assert (few.status, few.usable) == ("too_few_points", False)
    same = estimate_law(LAW, {k: np.full(20, v[0]) for k, v in x.items()}, np.full(20, 3.0), objective, None)
    assert same.status == "too_few_points"
    one = {"params": np.full(12, 1e8), "tokens": np.geomspace(1e8, 1e11, 12)}
    flat = estimate_law(LAW, one, LAW.predict(SURFACES["chinchilla"], **one), objective, None)
    assert flat.status == "unidentified"
    assert "same params" in flat.reason


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_identical_losses_are_no_law(objective):
    x, loss = points()
    found = estimate_law(LAW, x, np.full(loss.size, 2.5), objective, None)
    assert found.status != "converged"
    assert found.reason


def test_draws_are_joint():
    x, loss = points()
    draws = resample(np.arange(loss.size), draws=300, seed=0, scheme="noise")
    found = estimate_law(LAW, x, loss, "ls_log", draws)
    budget = 1e20
    best = LAW.frontier(found.draws, np.asarray(budget))
    np.testing.assert_allclose(6 * best.params * best.tokens, budget, rtol=1e-9)
    np.testing.assert_allclose(best.loss, LAW.predict(found.draws, params=best.params, tokens=best.tokens))
    # Taken one by one the parameters of a draw say far less than together: the loss is known much better than A or B.
    spread = {k: np.std(np.log(v)) for k, v in found.draws.items()}
    assert np.std(np.log(best.loss)) < 0.1 * spread["A"]
    truth = LAW.frontier(SURFACES["chinchilla"], np.asarray(budget))
    for drawn, value, true in ((best.params, None, truth.params), (best.loss, None, truth.loss)):
        lo, hi = estimate(float(np.median(drawn) if value is None else value), drawn, 0.99).ci
        assert lo < float(true) < hi


def test_leverages_sum_to_the_number_of_parameters():
    x, loss = points()
    found = estimate_law(LAW, x, loss, "ls_log", None)
    h = leverages(found.bound, found.theta, None)
    assert h.sum() == pytest.approx(5.0)
    assert ((h > 0) & (h < 1)).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_equal_weights_change_nothing_and_a_worthless_row_is_ignored(objective):
    x, loss = points()
    plain = estimate_law(LAW, x, loss, objective, None)
    noise = np.full(loss.size, 0.02) / (loss if objective == "ls" else 1.0)
    same = estimate_law(LAW, x, loss, objective, None, noise=noise)
    assert same.values == pytest.approx(dict(plain.values), rel=1e-4)
    spoilt = np.where(np.arange(loss.size) == 4, 3 * loss, loss)
    without = {k: np.delete(v, 4) for k, v in x.items()}
    left = estimate_law(LAW, without, np.delete(loss, 4), objective, None)
    ignored = estimate_law(LAW, x, spoilt, objective, None, noise=np.where(np.arange(loss.size) == 4, 1e4, 0.01) / loss)
    if objective == "ls":
        assert ignored.values["alpha"] == pytest.approx(left.values["alpha"], rel=1e-3)
    else:
        assert ignored.values["alpha"] == pytest.approx(left.values["alpha"], rel=0.1)
