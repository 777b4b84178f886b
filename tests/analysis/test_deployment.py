"""Optima of any law against closed forms and first-order conditions; Kaplan's excess compute; what has no optimum."""

from __future__ import annotations

import numpy as np
import pytest
from sweeps_by_law import SURFACES, isoflop

from analysis import fit, get_law
from analysis.deployment import best_at_budget, cheapest_to_loss, departure, deploy, kaplan_excess_compute
from scaling.errors import InputError

LAW = get_law("chinchilla")


@pytest.mark.parametrize("surface", SURFACES)
def test_numeric_frontier_is_the_closed_one(surface):
    v, flops = SURFACES[surface], np.geomspace(1e15, 1e26, 12)
    closed, numeric = LAW.frontier(v, flops, kappa=7.0), best_at_budget(LAW, v, flops, kappa=7.0)
    for a, b in zip(closed, numeric, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10)
    np.testing.assert_allclose(numeric.params * numeric.tokens * 7.0, flops, rtol=1e-12)


def test_draws_and_budgets_broadcast():
    v = SURFACES["chinchilla"]
    draws = {k: x * np.array([[0.98], [1.0], [1.03]]) for k, x in v.items()}
    found = best_at_budget(LAW, draws, [1e18, 1e20])
    np.testing.assert_allclose(found.params, LAW.frontier(draws, [1e18, 1e20]).params, rtol=1e-9)
    assert found.loss.shape == (3, 2)


def test_tied_law_and_kaplans_joint_law_at_their_best():
    tied = get_law("tied")
    v = {"E": 1.8, "A": 400.0, "B": 1500.0, "alpha": 0.34}
    best = best_at_budget(tied, v, [1e18, 1e22])
    np.testing.assert_allclose(best.tokens / best.params, tied.optimal_ratio(v), rtol=1e-10)
    # Kaplan's joint law: A^(1/beta) (alpha/beta) N^(−alpha/beta) = B^(1/beta) / D at the best.
    joint = get_law("kaplan_joint")
    k = joint.instances["kaplan_2020"]
    best = best_at_budget(joint, k, [1e18, 1e22])
    left = np.log(k["A"]) / k["beta"] + np.log(k["alpha"] / k["beta"]) - k["alpha"] / k["beta"] * np.log(best.params)
    np.testing.assert_allclose(left, np.log(k["B"]) / k["beta"] - np.log(best.tokens), atol=1e-8)


def test_without_inference_the_cheapest_is_the_frontier():
    v, flops = SURFACES["asymmetric"], np.array([1e17, 1e21])
    best = LAW.frontier(v, flops)
    found = cheapest_to_loss(LAW, v, best.loss)
    np.testing.assert_allclose(found.flops, flops, rtol=1e-9)
    np.testing.assert_allclose(found.params, best.params, rtol=1e-8)


@pytest.mark.parametrize("served", [1e10, 1e12, 1e14])
def test_inference_satisfies_the_first_order_condition(served):
    v = SURFACES["chinchilla"]
    found = cheapest_to_loss(LAW, v, 2.2, inference_tokens=served)
    n, d = float(found.params), float(found.tokens)
    assert float(LAW.predict(v, params=n, tokens=d)) == pytest.approx(2.2, rel=1e-13)
    by_n = v["alpha"] * v["A"] * n ** (-v["alpha"] - 1)
    by_d = v["beta"] * v["B"] * d ** (-v["beta"] - 1)
    # Lagrange: the ratio of marginal costs is that of marginal losses.
    assert (6 * d + 2 * served) / (6 * n) == pytest.approx(by_n / by_d, rel=1e-9)
    assert float(found.flops) == pytest.approx(6 * n * d + 2 * n * served, rel=1e-12)
    without = cheapest_to_loss(LAW, v, 2.2)
    assert n < float(without.params)
    assert d > float(without.tokens)


def test_kaplans_excess_compute_is_the_general_one():
    law = get_law("kaplan_steps")
    v = law.instances["kaplan_2020"]
    best = cheapest_to_loss(law, v, 2.5)
    ratio = np.array([0.3, 0.6, 1.0, 1.5, 2.2, 5.0])
    steps = ((2.5 - v["A"] * (best.params * ratio) ** -v["alpha"]) / v["B"]) ** (-1 / v["beta"])
    found = departure(law, v, best.params * ratio, steps)
    closed = kaplan_excess_compute(ratio, alpha_N=v["alpha"], alpha_S=v["beta"])
    np.testing.assert_allclose(found.excess_compute, closed, rtol=1e-8, atol=1e-10)
    # Sizes from .6 to 2.2 times the best cost some 20 % more compute, and the worst is at the ends.
    assert closed[1] == pytest.approx(0.165, abs=5e-4)
    assert closed[4] == pytest.approx(0.204, abs=5e-4)
    assert kaplan_excess_compute(0.01) == np.inf
    assert (found.excess_loss >= -1e-12).all()


def test_leaving_the_frontier_costs_compute_and_loss():
    v = SURFACES["chinchilla"]
    best = LAW.frontier(v, 1e20)
    over = departure(LAW, v, best.params / np.array([1.0, 4.0]), best.tokens * np.array([1.0, 4.0]))
    assert over.excess_compute[0] == pytest.approx(0.0, abs=1e-9)
    assert over.excess_loss[0] == pytest.approx(0.0, abs=1e-9)
    assert over.excess_loss[1] == pytest.approx(float(over.loss[1] - best.loss), rel=1e-6)
    assert 0.1 < over.excess_compute[1] < 1.0


def test_other_variables_are_given():
    law = get_law("data_constrained")
    v = law.instances["muennighoff_2023"]
    fresh, scarce = (best_at_budget(law, v, 1e21, unique_tokens=u) for u in (1e13, 1e9))
    assert float(scarce.loss) > float(fresh.loss)
    n = float(scarce.params) * np.geomspace(0.5, 2, 401)
    losses = law.predict(v, params=n, tokens=1e21 / 6 / n, unique_tokens=1e9)
    assert losses.min() == pytest.approx(float(scarce.loss), rel=1e-9)
    with pytest.raises(InputError, match="values of all others"):
        best_at_budget(law, v, 1e21)
    with pytest.raises(InputError, match="law power is of params"):
        best_at_budget(get_law("power"), {"A": 1.0, "alpha": 0.1}, 1e21)


def test_no_optimum_is_no_number():
    v = SURFACES["chinchilla"]
    assert np.isnan(cheapest_to_loss(LAW, v, 1.0).flops)
    assert np.isnan(best_at_budget(LAW, {**v, "A": 0.0}, 1e20).params)
    assert np.isnan(best_at_budget(LAW, {**v, "B": np.nan}, 1e20).loss)
    for bad in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(InputError, match="not a positive number"):
            best_at_budget(LAW, v, bad)
    with pytest.raises(InputError, match="number of tokens, 0 or more"):
        cheapest_to_loss(LAW, v, 2.2, inference_tokens=-1.0)


def test_a_fit_gives_intervals():
    v = SURFACES["chinchilla"]
    table = isoflop(v, np.geomspace(1e17, 1e20, 5), sizes=7, sigma=0.002)
    found = fit(table, bootstrap=60)
    plan = deploy(found, loss=2.6, inference_tokens=1e11)
    truth = cheapest_to_loss(LAW, v, 2.6, inference_tokens=1e11)
    assert plan.status == "converged"
    for name in ("params", "tokens", "flops"):
        estimate = getattr(plan, name)
        assert estimate.ci[0] < estimate.value < estimate.ci[1]
        assert estimate.value == pytest.approx(float(getattr(truth, name)), rel=0.3)
    assert set(plan.to_json()) == {"loss", "inference_tokens", "params", "tokens", "flops", "status", "warnings"}
    below = deploy(found, loss=0.5, inference_tokens=1e11)
    assert below.status == "non_interior"
    assert "no size" in below.reason
    nothing = deploy(fit(table[:4], bootstrap=0), loss=2.6, inference_tokens=1e11)
    assert nothing.status == "too_few_points"
    assert not nothing.params.known
