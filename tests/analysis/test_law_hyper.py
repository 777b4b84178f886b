"""Laws of the best learning rate and batch: published constants, known grids, edges, and the Step Law's own data."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import fit, fit_hyperparameters
from analysis.hyperparameters import optimal_cells
from analysis.laws import get_law
from analysis.types import Status
from scaling.errors import InputError, TableError

LR = {"A": 1.79, "alpha": -0.713, "beta": 0.307}
BATCH = {"A": 0.58, "beta": 0.571}
HESSIAN = np.array([[0.06, 0.02], [0.02, 0.04]])
"""Curvature of a cell's loss over (ln lr, ln batch), nats."""
SIZES, HORIZONS = (1e8, 3e8, 1e9), (2e9, 8e9, 3.2e10, 1.28e11)


def best_of(n: float, d: float) -> np.ndarray:
    """ln lr and ln batch of the truth."""
    lr = get_law("learning_rate").predict(LR, params=n, tokens=d)
    return np.log([float(lr), float(get_law("batch_size").predict(BATCH, tokens=d))])


def grid(sigma: float = 0.0, span: float = 2.0, points: int = 7) -> pd.DataFrame:
    """A grid around a neighbour of each cell's optimum, so that the grid is not centred on it."""
    rng, rows = np.random.default_rng(1), []
    for n in SIZES:
        for d in HORIZONS:
            truth, least = best_of(n, d), 2.0 + 400 / n**0.34
            centre = truth + rng.uniform(-0.4, 0.4, 2)
            for u in np.linspace(-span, span, points):
                for v in np.linspace(-span, span, points):
                    at = centre + np.array([u, v])
                    z = at - truth
                    loss = (least + 0.5 * z @ HESSIAN @ z) * np.exp(sigma * rng.standard_normal())
                    lr, batch = np.exp(at)
                    rows.append({"params": n, "tokens": d, "lr": lr, "batch_tokens": batch, "loss": loss})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("name", "instance", "x", "expected"),
    [
        # The rates at N = 1.5e5 and D = 1.1e7 are the published formulas worked out by hand.
        ("learning_rate", "step_law_2025", {"params": 1.5e5, "tokens": 1.1e7}, 0.053),
        ("learning_rate:flops", "deepseek_2024", {"flops": 6 * 1.5e5 * 1.1e7}, 0.0074),
        ("learning_rate:params", "porian_2024", {"params": 1.5e5}, 0.0507),
        ("learning_rate_log", "kaplan_2020", {"params": 1e6}, 1.31e-3),
        ("learning_rate_log", "kaplan_2020", {"params": 1e7}, 9.9e-4),
        ("batch_size", "step_law_2025", {"tokens": 3.5e5}, 850),
        ("batch_size:flops", "deepseek_2024", {"flops": 1e18}, 0.2920 * 1e18**0.3271),
        ("batch_size:params", "porian_2024", {"params": 1.08e8}, 160 * 2048),
    ],
)
def test_published_rules_give_their_published_values(name, instance, x, expected):
    law = get_law(name)
    assert float(law.predict(law.instances[instance], **x)) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    "name",
    [
        *("learning_rate", "learning_rate:params", "learning_rate:tokens", "learning_rate:flops", "learning_rate_log"),
        *("batch_size", "batch_size:params", "batch_size:flops", "batch_size:params_tokens"),
    ],
)
def test_jacobian_is_the_derivative(name):
    law = get_law(name)
    values = {"A": 0.9, "alpha": -0.4, "beta": 0.3, "gamma": -0.1, "a": 3e-3, "b": 1.4e-4}
    p = {q.name: values[q.name] for q in law.parameters}
    rng = np.random.default_rng(0)
    x = {v: np.exp(rng.uniform(14, 21, 20)) for v in law.variables}
    for key, column in law.jacobian(p, **x).items():
        h = 1e-5 * p[key]
        up, down = (law.predict({**p, key: p[key] + s * h}, **x) for s in (1, -1))
        np.testing.assert_allclose(column, (up - down) / (2 * h), rtol=1e-7, atol=1e-12)


def test_a_table_of_optima_gives_its_law_back():
    rng = np.random.default_rng(0)
    n, d = np.exp(rng.uniform(18, 21, 30)), np.exp(rng.uniform(21, 25, 30))
    lr = get_law("learning_rate").predict(LR, params=n, tokens=d)
    found = fit(pd.DataFrame({"params": n, "tokens": d, "lr": lr}), law="learning_rate", bootstrap=0)
    assert found.status is Status.CONVERGED
    assert found.values == pytest.approx(LR, rel=1e-7)
    # Noise of 10 % in the optima, and the interval of the exponent holds the truth.
    noisy = pd.DataFrame({"params": n, "tokens": d, "lr": lr * np.exp(0.1 * rng.standard_normal(30))})
    again = fit(noisy, law="learning_rate", objective="ls_log", bootstrap=400)
    for key in ("alpha", "beta"):
        lo, hi = again.interval(key)
        assert lo < LR[key] < hi


def test_kaplans_rule_comes_back():
    n = np.geomspace(1e5, 1e9, 9)
    p = dict(get_law("learning_rate_log").instances["kaplan_2020"])
    lr = get_law("learning_rate_log").predict(p, params=n)
    found = fit(pd.DataFrame({"params": n, "lr": lr}), law="learning_rate_log", bootstrap=0)
    assert found.values == pytest.approx(p, rel=1e-8)


def test_a_quadratic_grid_gives_its_optima_and_laws_exactly():
    found = fit_hyperparameters(grid(), bootstrap=0)
    assert all(c.status is Status.CONVERGED for c in found.cells)
    for cell in found.cells:
        truth = best_of(cell.params, cell.tokens)
        assert np.log([cell.lr.value, cell.batch_tokens.value]) == pytest.approx(truth, abs=1e-8)
        assert cell.loss == pytest.approx(2.0 + 400 / cell.params**0.34, rel=1e-12)
        np.testing.assert_allclose(cell.curvature, HESSIAN, rtol=1e-6)
        assert 0 <= cell.gap < 0.02
    assert found.lr.values == pytest.approx(LR, rel=1e-6)
    assert found.batch.values == pytest.approx(BATCH, rel=1e-6)
    asked = found.at(params=5e8, tokens=5e10)
    assert np.log([asked["lr"].value, asked["batch_tokens"].value]) == pytest.approx(best_of(5e8, 5e10), abs=1e-6)


def test_noise_of_a_grid_shows_in_the_intervals():
    found = fit_hyperparameters(grid(sigma=1e-3), bootstrap=300)
    inside = [
        cell.lr.ci[0] < np.exp(best_of(cell.params, cell.tokens)[0]) < cell.lr.ci[1]
        for cell in found.cells
        if cell.status is Status.CONVERGED
    ]
    assert len(inside) >= 10
    assert np.mean(inside) > 0.7
    for law, truth in ((found.lr, LR), (found.batch, BATCH)):
        for key in ("alpha", "beta"):
            if key in truth:
                lo, hi = law.interval(key)
                assert lo - 0.02 < truth[key] < hi + 0.02
                assert hi - lo < 0.3
    ends = found.at(params=1e9, tokens=1e11)["lr"]
    assert ends.ci[0] < ends.value < ends.ci[1]
    assert "surface, 12 cells" in repr(found)
    assert len(found.to_json()["cells"]) == 12


@pytest.mark.parametrize(("selection", "most"), [("within", 0.12), ("best", 0.25)])
def test_other_selections_come_near(selection, most):
    found = fit_hyperparameters(grid(points=11), selection=selection, bootstrap=0)
    assert found.lr.values["alpha"] == pytest.approx(LR["alpha"], abs=most)
    assert found.batch.values["beta"] == pytest.approx(BATCH["beta"], abs=most)
    assert found.lr.n == (12 if selection == "best" else len(within_a_share(grid(points=11))))


def within_a_share(frame: pd.DataFrame) -> pd.DataFrame:
    least = frame.groupby(["params", "tokens"])["loss"].transform("min")
    return frame[frame["loss"] / least - 1 < 0.0025]


def test_an_optimum_at_the_grids_edge_is_said_and_left_out():
    frame = grid()
    low = (frame["params"] == 1e8) & (frame["tokens"] == 2e9)
    cut = frame[~low | (frame["lr"] > np.exp(best_of(1e8, 2e9)[0] + 0.3))]
    found = fit_hyperparameters(cut, bootstrap=0)
    edge = found.cells[0]
    assert (edge.params, edge.tokens) == (1e8, 2e9)
    assert edge.status is Status.NON_INTERIOR
    assert "lower edge of the grid's lr" in edge.reason
    assert np.isnan(edge.gap)
    assert [d.reason for d in found.dropped] == [edge.reason]
    assert found.lr.n == 11
    assert found.lr.values == pytest.approx(LR, rel=1e-6)


def test_cells_without_a_surface_say_why():
    frame = grid()
    one_batch = frame[frame["batch_tokens"] == frame.groupby(["params", "tokens"])["batch_tokens"].transform("median")]
    found = fit_hyperparameters(one_batch, bootstrap=0)
    assert found.batch is None
    assert {d.reason for d in found.dropped} == {"one batch_tokens only"}
    assert found.lr.n == 12
    assert {c.axes for c in found.cells} == {("lr",)}
    few = optimal_cells(frame.groupby(["params", "tokens"]).head(3))
    assert {c.status for c in few} == {Status.TOO_FEW_POINTS}
    hollow = frame.assign(loss=10.0 - frame["loss"])
    assert Status.CONVERGED not in {c.status for c in optimal_cells(hollow)}


def test_wrong_calls_are_refused():
    with pytest.raises(InputError, match="did you mean surface"):
        fit_hyperparameters(grid(), selection="surfac")
    with pytest.raises(InputError, match="no variable 'width'"):
        fit_hyperparameters(grid(), lr="width")
    with pytest.raises(InputError, match="positive share"):
        fit_hyperparameters(grid(), within=0.0)
    with pytest.raises(TableError, match="batch_tokens"):
        fit_hyperparameters(grid().drop(columns="batch_tokens"))


def step_law_runs() -> pd.DataFrame:
    """All dense runs of the Step Law, as they were gathered for a benchmark of fits."""
    folder = os.environ.get("SCALING_TEST_DATA")
    if not folder:
        pytest.skip("SCALING_TEST_DATA is not set")
    path = Path(folder) / "tables/scalebench/lr_bsz_scaling_law"
    if not path.is_dir():
        pytest.skip("scalebench is not in SCALING_TEST_DATA")
    frame = pd.concat([pd.read_parquet(file) for file in sorted(path.glob("*.parquet"))])
    names = {"non_embedding_param_size": "params", "data_size": "tokens", "lm_loss": "loss"}
    return frame.rename(columns=names).assign(batch_tokens=2048 * frame["bsz"])


def test_the_step_law_from_its_runs():
    """lr = 1.79 N^-.713 D^.307, B = .58 D^.571: their procedure on 42 cells of 240 near-best runs."""
    found = fit_hyperparameters(step_law_runs(), selection="within", bootstrap=300)
    assert found.lr.n == 240
    assert len(found.cells) == 42
    assert found.lr.values["alpha"] == pytest.approx(-0.713, abs=0.004)
    assert found.lr.values["beta"] == pytest.approx(0.307, abs=0.002)
    assert found.lr.values["A"] == pytest.approx(1.79, rel=0.08)
    assert found.batch.values["beta"] == pytest.approx(0.571, abs=0.001)
    assert found.batch.values["A"] == pytest.approx(0.58, rel=0.02)
    for law in (found.lr, found.batch):
        for key, value in law.model.instances["step_law_2025"].items():
            lo, hi = law.interval(key)
            assert lo < value < hi


def test_the_published_draws_have_the_published_means():
    folder = os.environ.get("SCALING_TEST_DATA")
    if not folder:
        pytest.skip("SCALING_TEST_DATA is not set")
    path = Path(folder) / "tables/steplaw/1004_fitted_lr_bs_scaling_model_parameters.csv"
    if not path.exists():
        pytest.skip("steplaw is not in SCALING_TEST_DATA")
    mean = pd.read_csv(path).mean()
    lr, batch = (get_law(n).instances["step_law_2025"] for n in ("learning_rate", "batch_size"))
    assert np.exp(mean["lr_intercept"]) == pytest.approx(lr["A"], abs=0.01)
    assert (mean["lr_coefN"], mean["lr_coefD"]) == pytest.approx((lr["alpha"], lr["beta"]), abs=6e-4)
    assert np.exp(mean["bs_intercept"]) == pytest.approx(batch["A"], abs=5e-3)
    assert mean["bs_coefD"] == pytest.approx(batch["beta"], abs=6e-4)


def test_the_step_law_surfaces_find_two_cells_at_an_edge():
    cells = optimal_cells(step_law_runs())
    edge = [c for c in cells if c.status is not Status.CONVERGED]
    assert len(edge) == 2
    assert all(c.status is Status.NON_INTERIOR for c in edge)
    assert max(c.gap for c in cells if c.status is Status.CONVERGED) < 0.003
