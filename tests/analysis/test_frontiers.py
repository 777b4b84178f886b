"""Frontiers: known surfaces come back by every approach, and what cannot be known comes back as a status."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sweeps_by_law import LAW, SURFACES, cosine_curves, exponent, isoflop

from analysis import Estimate, Frontier, Status, frontier, read_table
from analysis.approaches import list_approaches
from analysis.bootstrap import percentile
from analysis.costs import fit_cost, optimum
from analysis.frontiers import agreement
from analysis.laws.base import SumOfPowers, Term
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
    table = isoflop(SURFACES["chinchilla"], BUDGETS[:3], sizes=21, ratio=1.22, sigma=0.003)
    first, second = (frontier(table, "isoflop", bootstrap=100, seed=7)["isoflop"] for _ in range(2))
    assert first.N_exponent == second.N_exponent
    assert first.diagnostics["scheme"] == "case"
    other = frontier(table, "isoflop", bootstrap=100, seed=8)["isoflop"]
    assert other.N_exponent.ci != first.N_exponent.ci
    assert other.N_exponent.value == first.N_exponent.value


def drawn(approach: str, value: float, draws: np.ndarray, count: str = "total", cost: str = "exact") -> Frontier:
    """A frontier of which only the exponent of N* is known."""
    e, none = Estimate(value, percentile(draws, 0.9), 0.9), Estimate.missing(0.9)
    kept = {"N_exponent": draws}
    return Frontier(approach, count, cost, e, none, none, none, Status.CONVERGED, draws=kept)


@pytest.mark.parametrize(
    ("difference", "spread", "verdict"),
    [
        (0.0, 0.01, "agree"),
        (0.02, 0.005, "agree"),  # a difference that is surely not 0 and as surely of no account
        (0.1, 0.02, "differ"),
        (-0.1, 0.02, "differ"),
        (0.045, 0.02, "differ"),  # surely not 0, and not surely of no account
        (0.03, 0.05, "not_resolved"),
        (0.0, 0.05, "not_resolved"),  # a wide interval about 0 is no agreement
    ],
)
def test_verdicts_on_paired_differences(difference, spread, verdict):
    rng = np.random.default_rng(0)
    common, own = 0.3 * rng.standard_normal(2000), spread * rng.standard_normal(2000)
    # What both share cancels: unpaired, the difference would have a standard deviation of .4.
    pair = [drawn("a", 0.5 + difference, 0.5 + difference + common + own), drawn("b", 0.5, 0.5 + common)]
    found = agreement(pair, 0.9)
    (only,) = found["pairs"]
    assert only["verdict"] == found["verdict"] == verdict
    assert only["difference"].value == pytest.approx(difference)
    lo, hi = only["difference"].ci
    assert lo == pytest.approx(difference - 1.645 * spread, abs=0.15 * spread)
    assert hi == pytest.approx(difference + 1.645 * spread, abs=0.15 * spread)


def test_verdicts_need_draws_and_one_convention():
    rng = np.random.default_rng(1)
    draws = [0.5 + 0.01 * rng.standard_normal(100) for _ in range(2)]
    other = agreement([drawn("a", 0.5, draws[0]), drawn("a", 0.5, draws[1], count="non_embedding")], 0.9)
    assert other["pairs"] == []
    assert other["verdict"] == "not_resolved"
    lost = np.where(np.arange(100) < 60, np.nan, draws[1])
    (pair,) = agreement([drawn("a", 0.5, draws[0]), drawn("b", 0.5, lost)], 0.9)["pairs"]
    assert np.isnan(pair["difference"].ci[0])
    assert pair["verdict"] == "not_resolved"
    three = [drawn("a", 0.5, draws[0]), drawn("b", 0.5, draws[1]), drawn("c", 0.7, draws[1] + 0.2)]
    found = agreement(three, 0.9)
    assert [p["verdict"] for p in found["pairs"]] == ["agree", "differ", "differ"]
    assert found["verdict"] == "differ"


def test_a_drifting_grid_makes_approaches_differ():
    surface = SURFACES["chinchilla"]
    parts = [
        isoflop(surface, BUDGETS[i : i + 1], ratio=3.0, off_centre=1.2 * (i - 2), sigma=1e-4, seed=i) for i in range(5)
    ]
    found = frontier(pd.concat(parts), "isoflop,parametric", bootstrap=100)
    # A grid that drifts against the optimum biases the parabolas' exponent, and not the surface's.
    assert abs(found["parametric"].N_exponent.value - exponent(surface)) < 0.005
    (pair,) = found.agreement["pairs"]
    assert abs(pair["difference"].value) > 0.05
    assert pair["verdict"] == "differ"


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES.keys())
def test_two_solvers_find_one_frontier(surface):
    found = frontier(isoflop(surface, BUDGETS, off_centre=0.2), "parametric,vpnls", bootstrap=20)
    a, b = found["parametric"], found["vpnls"]
    assert a.N_exponent.value == pytest.approx(b.N_exponent.value, abs=1e-7)
    assert np.log(a.N_coefficient.value / b.N_coefficient.value) == pytest.approx(0.0, abs=1e-5)
    for p, q in zip(a.points, b.points, strict=True):
        assert p.params == pytest.approx(q.params, rel=1e-6)
        assert p.loss == pytest.approx(q.loss, rel=1e-9)


def kaplan(params: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Kaplan et al. 2020 (arXiv 2001.08361), eq. 1.5 with Table 2."""
    return ((6.4e13 / params) ** (0.076 / 0.103) + 1.8e13 / tokens) ** 0.103


@pytest.mark.parametrize("how", ["by_name", "by_law"])
def test_another_law_gives_its_own_frontier(how):
    table = isoflop(SURFACES["chinchilla"], BUDGETS)
    table["loss"] = kaplan(table["params"].to_numpy(), table["tokens"].to_numpy())
    if how == "by_name":
        found = frontier(table, "parametric:kaplan_joint", bootstrap=20)["parametric:kaplan_joint"]
    else:
        found = frontier(table, "parametric", law="kaplan_joint", bootstrap=20)["parametric:kaplan_joint"]
    # Along 6ND = C the two terms have exponents alpha_N/alpha_D and 1, so N* goes as C^(1 / (1 + alpha_N/alpha_D)).
    assert found.N_exponent.value == pytest.approx(1 / (1 + 0.076 / 0.103), abs=1e-5)
    assert found.surface is not None
    assert found.surface.law == "kaplan_joint"
    for p in found.points:
        n = p.params * np.geomspace(0.8, 1.25, 4001)
        assert p.params == pytest.approx(n[kaplan(n, p.flops / 6 / n).argmin()], rel=3e-4)
        assert p.loss == pytest.approx(float(kaplan(p.params, p.tokens)), rel=1e-6)


def test_searching_a_law_finds_what_its_closed_form_says():
    n = np.geomspace(1e6, 1e9, 12)
    cost = fit_cost(n, n * 20, 6 * n * n * 20 * (1 + 300 / n ** (1 / 3)))
    surface = {k: np.array([v, v * 1.1])[:, None] for k, v in SURFACES["asymmetric"].items()}
    closed = optimum(LAW, surface, BUDGETS, cost)
    searched = optimum(Unnamed(), surface, BUDGETS, cost)
    for a, b in zip(closed, searched, strict=True):
        assert a.shape == (2, 5)
        np.testing.assert_allclose(a, b, rtol=1e-6)
    nowhere = optimum(Unnamed(), {**SURFACES["asymmetric"], "A": 0.0}, BUDGETS, cost)
    assert np.isnan(nowhere.params).all()


class Unnamed(SumOfPowers):
    """Hoffmann's law, not recognised as such."""

    formula = LAW.formula
    floor = "E"

    @property
    def terms(self) -> tuple[Term, ...]:
        return LAW.terms


def test_costs_are_followed_within_the_rows_and_settle_beyond():
    n = np.geomspace(1e5, 1e9, 30)
    kappa = 6 + 500 * n ** (2 / 3) / (n + 47491 * n ** (1 / 3))
    cost = fit_cost(n, 20 * n, kappa * 20 * n * n)
    np.testing.assert_allclose(cost.flops(n, np.ones(30)), kappa * n, rtol=2e-3)
    assert cost.misfit < 2e-3
    far = np.log(np.array([1e-3, 1e-2, 1e12, 1e14]))
    value, slope, _ = cost.log_kappa(far)
    assert (np.abs(slope) < 0.02).all()
    assert (np.abs(value - np.log(6)) < 1.5).all()
    at = np.log(np.array([3e4, 2e6, 5e10]))  # below, within and above the rows: derivatives are those of the value
    value, slope, bend = cost.log_kappa(at)
    h = 1e-4
    up, down = cost.log_kappa(at + h), cost.log_kappa(at - h)
    np.testing.assert_allclose((up[0] - down[0]) / (2 * h), slope, atol=1e-7)
    np.testing.assert_allclose((up[1] - down[1]) / (2 * h), bend, atol=1e-6)


def test_finished_runs_at_several_horizons_are_curves():
    surface = SURFACES["chinchilla"]
    sizes = 2.0 ** np.arange(22, 33)
    flops = np.geomspace(1e17, 1e20, 9)
    table = pd.DataFrame([(n, c / 6 / n) for n in sizes for c in flops], columns=["params", "tokens"])
    table["loss"] = LAW.predict(surface, params=table["params"], tokens=table["tokens"])
    found = frontier(table, "envelope", bootstrap=100, scheme="noise")["envelope"]
    assert found.status == "converged"
    assert found.diagnostics["curves"] == "finished runs"
    assert found.diagnostics["share_in_last_part"] == 1.0
    assert found.N_exponent.ci[0] < exponent(surface) < found.N_exponent.ci[1]
    assert found.N_exponent.value == pytest.approx(exponent(surface), abs=0.02)
    for p in found.points:
        if p.status == "converged":  # the trained size nearest the optimum, the ends of its cell included
            assert abs(np.log(p.params / float(LAW.frontier(surface, p.flops).params))) < 0.75 * np.log(2)
    case = frontier(table, "envelope", bootstrap=60, scheme="case")["envelope"]
    assert case.N_exponent.ci[0] < exponent(surface) < case.N_exponent.ci[1]


EVERY = ["envelope", "isoflop", "parametric", "porian", "vpnls"]


def awkward(kind: str) -> pd.DataFrame:
    table = isoflop(SURFACES["chinchilla"], BUDGETS, sigma=0.003)
    return {
        "one_row": lambda: table[:1],
        "one_budget": lambda: isoflop(SURFACES["chinchilla"], BUDGETS[:1], sigma=0.003),
        "one_size": lambda: pd.DataFrame({"params": 1e8, "tokens": np.geomspace(1e9, 1e11, 9)}).assign(
            loss=lambda f: 2 + 1e3 * f["tokens"] ** -0.3
        ),
        "two_sizes": lambda: isoflop(SURFACES["chinchilla"], BUDGETS, sizes=2),
        "identical_rows": lambda: pd.concat([table[:1]] * 12),
        "equal_losses": lambda: table.assign(loss=3.0),
        "loss_turned_over": lambda: table.assign(loss=10 - table["loss"]),
        "huge": lambda: table.assign(
            params=table["params"] * 1e30, tokens=table["tokens"] * 1e30, flops=table["flops"] * 1e60,
            loss=table["loss"] * 1e30,
        ),
    }[kind]()  # fmt: skip


REFUSED = {
    "one_row": {a: {"needs_curves", "not_isoflop", "too_few_points"} for a in EVERY},
    "one_budget": {"envelope": {"needs_curves"}, "isoflop": {"too_few_points"}, "porian": {"too_few_points"}},
    "one_size": {
        "envelope": {"needs_curves"},
        "isoflop": {"not_isoflop"},
        "porian": {"not_isoflop"},
        "parametric": {"unidentified", "bound_hit"},
        "vpnls": {"unidentified", "bound_hit"},
    },
    "two_sizes": {"envelope": {"needs_curves"}, "isoflop": {"not_isoflop"}, "porian": {"not_isoflop"}},
    "identical_rows": {a: {"needs_curves", "too_few_points", "unidentified"} for a in EVERY},
    "equal_losses": {a: {"needs_curves", "non_interior", "bound_hit", "unidentified"} for a in EVERY},
    "loss_turned_over": {a: {"needs_curves", "non_interior", "bound_hit", "unidentified"} for a in EVERY},
    "huge": {"envelope": {"needs_curves"}},
}


@pytest.mark.parametrize("scheme", ["auto", "case"])
@pytest.mark.parametrize("kind", REFUSED)
def test_awkward_tables_give_a_status_and_its_reason(kind, scheme):
    found = frontier(awkward(kind), "all", bootstrap=30, scheme=scheme)
    assert [f.approach for f in found] == EVERY
    for f in found:
        refused = REFUSED[kind].get(f.approach)
        if refused is not None:
            assert f.status in refused
            assert not f.known
            assert np.isnan(f.D_exponent.value)
        elif kind != "huge" or f.status == "converged":
            assert np.isfinite(f.N_exponent.value)
        assert bool(f.reason) == (f.status != "converged")
        for p in f.points:
            assert p.status == "converged" or p.reason


@pytest.mark.parametrize("kind", ["one_size", "equal_losses"])
def test_a_fitted_surface_is_kept_where_no_exponent_comes_of_it(kind):
    for f in frontier(awkward(kind), "parametric,vpnls", bootstrap=30):
        assert not f.known
        assert f.surface is not None
        assert f.surface.status == f.status


@pytest.mark.parametrize("scheme", ["residual", "wild", "seeds"])
def test_every_scheme_reaches_every_approach(scheme):
    surface = SURFACES["chinchilla"]
    table = pd.concat([isoflop(surface, BUDGETS, ratio=1.5, sigma=0.003, seed=s) for s in range(3)])
    found = frontier(table, "isoflop,porian,parametric", bootstrap=200, scheme=scheme, level=0.99)
    for f in found:
        assert f.diagnostics["scheme"] == scheme
        assert f.N_exponent.ci[0] < exponent(surface) < f.N_exponent.ci[1]
        assert f.N_exponent.ci[1] - f.N_exponent.ci[0] < 0.2


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
        frontier(table, counts="every")
    with pytest.raises(InputError, match="no cost"):
        frontier(table, costs="exact,6n")
    with pytest.raises(InputError, match="loss over params and tokens; power"):
        frontier(table, "vpnls:power")
    with pytest.raises(InputError, match="fits a surface"):
        frontier(table, "isoflop,porian", law="chinchilla")
    with pytest.raises(InputError, match="no number of budgets"):
        frontier(table, "envelope:few")
    with pytest.raises(InputError, match="level 90"):
        frontier(table, level=90)
    with pytest.raises(InputError, match="too few for an interval"):
        frontier(table, bootstrap=5)
