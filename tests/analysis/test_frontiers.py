"""Frontiers: known surfaces come back by every approach, and what cannot be known comes back as a status."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sweeps_by_law import LAW, SURFACES, cosine_curves, exponent, isoflop

from analysis import frontier, read_table
from analysis.approaches import list_approaches
from analysis.costs import fit_cost, optimum
from scaling.errors import InputError

BUDGETS = np.geomspace(1e17, 1e19, 5)


@pytest.mark.parametrize("approach", ["parametric", "vpnls"])
@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES.keys())
def test_surfaces_give_the_exact_frontier_back(surface, approach):
    found = frontier(isoflop(surface, BUDGETS, off_centre=0.3), approach, bootstrap=20)[approach]
    a = exponent(surface)
    assert found.status == "converged"
    assert found.N_exponent.value == pytest.approx(a, abs=1e-6)
    assert found.D_exponent.value == pytest.approx(1 - a, abs=1e-6)
    best = LAW.frontier(surface, BUDGETS)
    np.testing.assert_allclose([p.params for p in found.points], best.params, rtol=1e-5)
    np.testing.assert_allclose([p.tokens for p in found.points], best.tokens, rtol=1e-5)
    np.testing.assert_allclose(found.params(BUDGETS), best.params, rtol=1e-5)


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES.keys())
def test_parabolas_on_centred_grids_give_the_exponent_exactly(surface):
    # The vertex shifts by the same factor at every budget: the exponent is exact, the intercept where alpha = beta.
    found = frontier(isoflop(surface, BUDGETS), "isoflop", bootstrap=20)["isoflop"]
    assert found.N_exponent.value == pytest.approx(exponent(surface), abs=1e-6)
    shift = np.array([p.params for p in found.points]) / LAW.frontier(surface, BUDGETS).params
    np.testing.assert_allclose(shift, shift[0], rtol=1e-6)
    if surface["alpha"] == surface["beta"]:
        assert shift[0] == pytest.approx(1.0, abs=1e-6)
    else:
        assert abs(shift[0] - 1) > 0.005


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES.keys())
def test_noisy_sweeps_cover_and_agree(surface):
    found = frontier(
        isoflop(surface, BUDGETS, sigma=0.003, seed=3), "isoflop,parametric,vpnls", bootstrap=200, level=0.99
    )
    for f in found:
        assert f.status == "converged"
        assert f.N_exponent.ci[0] < exponent(surface) < f.N_exponent.ci[1]
        assert f.diagnostics["scheme"] == "noise"
    assert found.agreement["verdict"] == "agree"
    assert len(found.agreement["pairs"]) == 3


def test_envelope_of_matched_cosine_runs():
    surface = SURFACES["chinchilla"]
    table, curves = cosine_curves(isoflop(surface, BUDGETS, sizes=9, ratio=1.5), surface)
    found = frontier(read_table(table, curves=curves), "envelope", bootstrap=100)["envelope"]
    assert found.status == "converged"
    assert found.N_exponent.ci[0] < exponent(surface) < found.N_exponent.ci[1]
    assert found.N_exponent.value == pytest.approx(exponent(surface), abs=0.05)
    good = [p for p in found.points if p.status == "converged"]
    assert len(good) >= 5
    for p in good:  # the best size at the end of a budget is the trained size nearest the optimum
        assert abs(np.log(p.params / float(LAW.frontier(surface, p.flops).params))) < np.log(1.5)
    assert all("through" in p.reason for p in found.points if p.status == "not_resolved")


def test_no_curves_is_a_status():
    found = frontier(isoflop(SURFACES["chinchilla"], BUDGETS), "envelope", bootstrap=20)["envelope"]
    assert found.status == "needs_curves"
    assert not found.known
    assert found.to_json()["N_exponent"] == {"value": None, "ci": [None, None], "level": 0.9}


@pytest.mark.parametrize(("off", "word"), [(3.0, "smallest"), (-3.0, "largest")])
def test_minima_at_the_edge_are_refused_with_the_reason(off, word):
    surface = SURFACES["chinchilla"]
    inner = isoflop(surface, BUDGETS[1:])
    edge = isoflop(surface, BUDGETS[:1], off_centre=off, sizes=5)
    found = frontier(pd.concat([edge, inner]), "isoflop", bootstrap=20)["isoflop"]
    assert found.status == "converged"
    assert [p.status for p in found.points] == ["non_interior"] + ["converged"] * 4
    assert word in found.dropped[0].reason
    assert np.isnan(found.points[0].params)
    none = frontier(isoflop(surface, BUDGETS, off_centre=off, sizes=5), "isoflop", bootstrap=20)["isoflop"]
    assert none.status == "non_interior"
    assert not none.known
    one = frontier(pd.concat([edge, isoflop(surface, BUDGETS[1:2])]), "isoflop", bootstrap=20)["isoflop"]
    assert one.status == "too_few_points"


def test_tables_without_groups_are_not_isoflop():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"params": np.exp(rng.uniform(15, 20, 30)), "tokens": np.exp(rng.uniform(20, 23, 30))})
    table["loss"] = LAW.predict(SURFACES["chinchilla"], params=table["params"], tokens=table["tokens"])
    found = frontier(table, "isoflop,parametric", bootstrap=20)
    assert found["isoflop"].status == "not_isoflop"
    assert found["parametric"].N_exponent.value == pytest.approx(exponent(SURFACES["chinchilla"]), abs=1e-5)


def test_groups_of_one_cost_are_not_groups_of_another():
    surface = SURFACES["chinchilla"]
    table = isoflop(surface, BUDGETS)
    # Exact FLOPs with a term that shrinks against N: equal within a budget, while 6ND then is not.
    table["tokens"] = table["flops"] / (6 * table["params"] * (1 + 300 / table["params"] ** (1 / 3)))
    table["loss"] = LAW.predict(surface, params=table["params"], tokens=table["tokens"])
    found = frontier(table, "isoflop,parametric", costs="exact,6nd", bootstrap=20)
    status = {(f.approach, f.cost): f.status for f in found}
    assert status["isoflop", "exact"] == "converged"
    assert status["isoflop", "6nd"] == "not_isoflop"
    assert status["parametric", "6nd"] == "converged"
    by_6nd = next(f for f in found if (f.approach, f.cost) == ("parametric", "6nd"))
    assert by_6nd.N_exponent.value == pytest.approx(exponent(surface), abs=1e-5)
    exact = next(f for f in found if (f.approach, f.cost) == ("parametric", "exact"))
    for p in exact.points:  # against a brute-force search along the budget
        n = p.params * np.geomspace(0.8, 1.25, 4001)
        losses = LAW.predict(surface, params=n, tokens=p.flops / (6 * n * (1 + 300 / n ** (1 / 3))))
        assert p.params == pytest.approx(n[losses.argmin()], rel=3e-4)


def test_optimum_under_a_cost_that_is_simply_proportional_is_closed_form():
    surface = SURFACES["asymmetric"]
    n = np.geomspace(1e6, 1e9, 12)
    cost = fit_cost(n, n * 20, 7.0 * n * n * 20)
    assert cost.constant
    best = optimum(LAW, surface, BUDGETS, cost)
    np.testing.assert_allclose(best.params, LAW.frontier(surface, BUDGETS, 7.0).params)


def test_same_seed_same_draws_and_more_runs_use_case_resampling():
    table = isoflop(SURFACES["chinchilla"], BUDGETS[:3], sizes=13, ratio=1.4, sigma=0.003)
    first, second = (frontier(table, "isoflop", bootstrap=100, seed=7)["isoflop"] for _ in range(2))
    assert first.N_exponent == second.N_exponent
    assert first.diagnostics["scheme"] == "case"
    other = frontier(table, "isoflop", bootstrap=100, seed=8)["isoflop"]
    assert other.N_exponent.ci != first.N_exponent.ci
    assert other.N_exponent.value == first.N_exponent.value


def test_opposite_approaches_are_said_to_differ():
    surface = SURFACES["chinchilla"]
    parts = [isoflop(surface, BUDGETS[i : i + 1], off_centre=0.7 * (i - 2), sigma=1e-4, seed=i) for i in range(5)]
    found = frontier(pd.concat(parts), "isoflop,parametric", bootstrap=100)
    (pair,) = found.agreement["pairs"]
    # A grid that drifts against the optimum biases the parabolas' exponent, and not the surface's.
    assert abs(found["parametric"].N_exponent.value - exponent(surface)) < 0.005
    assert pair["verdict"] in ("differ", "agree")
    assert (pair["difference"].ci[0] > 0) == (pair["difference"].value > 0)
    assert abs(pair["difference"].value) > 0.01


def test_json_is_the_contract_and_holds_no_nan():
    import json

    found = frontier(isoflop(SURFACES["chinchilla"], BUDGETS, sigma=0.002), bootstrap=50)
    text = json.dumps(found.to_json(), allow_nan=False)
    back = json.loads(text)
    assert set(back) == {"frontiers", "agreement"}
    assert {f["approach"] for f in back["frontiers"]} == {a["name"] for a in list_approaches()}
    for f in back["frontiers"]:
        assert set(f) == {
            "approach", "count", "cost", "N_exponent", "D_exponent", "N_coefficient", "D_coefficient",
            "status", "points", "dropped",
        }  # fmt: skip
        assert set(f["N_exponent"]) == {"value", "ci", "level"}
        assert all(set(p) == {"flops", "params", "tokens", "loss", "status"} for p in f["points"])
    assert "isoflop" in repr(found)
    assert set(back["agreement"]["pairs"][0]["difference"]) == {"value", "ci", "level"}


def test_bad_arguments():
    table = isoflop(SURFACES["chinchilla"], BUDGETS)
    with pytest.raises(InputError, match="did you mean isoflop"):
        frontier(table, "isoflops")
    with pytest.raises(InputError, match="no count"):
        frontier(table, counts="all")
    with pytest.raises(InputError, match="level 90"):
        frontier(table, level=90)
    with pytest.raises(InputError, match="too few for an interval"):
        frontier(table, bootstrap=5)
