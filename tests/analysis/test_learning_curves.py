"""L(N, S_min) of simulated curves is recovered; what makes it weak is said."""

import json

import pandas as pd
import pytest
import simulated_grid as truth
from simulated_grid import curve_sweep

from analysis.learning_curves import fit_learning_curves, points_of
from analysis.types import Status

LAW = {"B": truth.B, "alpha_B": truth.ALPHA_B}


@pytest.fixture(scope="module")
def swept() -> tuple[pd.DataFrame, pd.DataFrame]:
    return curve_sweep(sizes=truth.SIZES[::2])


def test_size_and_steps_exponents_are_recovered(swept):
    found = fit_learning_curves(*swept, LAW, bootstrap=100)
    assert found.status is Status.CONVERGED
    assert found.adjusted
    assert found.fit.params["alpha"].value == pytest.approx(truth.ALPHA, rel=0.04)
    assert found.fit.params["beta"].value == pytest.approx(truth.BETA, rel=0.02)
    lo, hi = found.fit.params["alpha"].ci
    assert 0 < hi - lo < 0.02
    assert found.seed_dof == 4
    assert 0 < found.seed_sd < 0.01
    assert json.dumps(found.to_json(), allow_nan=False)


def test_exact_curves_give_the_law_and_its_compute_exponents_exactly():
    found = fit_learning_curves(*curve_sweep(sigma=0.0, seeds=1, points=400, sizes=truth.SIZES[::2]), LAW, bootstrap=0)
    assert found.fit.params["A"].value == pytest.approx(truth.A, rel=1e-3)
    exponents = found.efficient_exponents(truth.ALPHA_B)
    loss = 1 / (1 / truth.BETA + 1 / truth.ALPHA_B + 1 / truth.ALPHA)
    assert exponents.params == pytest.approx(loss / truth.ALPHA, rel=1e-3)
    assert exponents.tokens == pytest.approx(loss / truth.ALPHA_B + loss / truth.BETA, rel=1e-3)


def test_points_begin_after_the_warmup_and_are_given_by_size(swept):
    rows, curves = swept
    found = fit_learning_curves(rows.assign(warmup_fraction=0.1), curves, bootstrap=0)
    first = 0.1 * rows["tokens"].iloc[0] / 512
    assert found.table["S"].min() >= first
    parts = points_of(found)
    assert sorted(parts) == sorted(rows["params_non_embedding"].unique())
    assert all((part[1:, 0] >= part[:-1, 0]).all() for part in parts.values())


def test_steps_as_taken_and_a_decaying_schedule_are_warned_of(swept):
    rows, curves = swept
    found = fit_learning_curves(rows.assign(schedule="cosine"), curves, bootstrap=0)
    assert not found.adjusted
    assert any("cosine" in w for w in found.warnings)
    assert any("without B_crit" in w for w in found.warnings)


def test_without_curves_there_is_a_status_and_no_number(swept):
    rows, curves = swept
    found = fit_learning_curves(rows, curves.iloc[:0], LAW)
    assert found.status is Status.NEEDS_CURVES
    assert found.fit.params == {}
    assert len(found.dropped) == len(rows)
