"""L(C) and N_opt over C and C_min: the exponents that L(N, S_min) and B_crit(L) imply are measured."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import simulated_batches
import simulated_grid as truth
from simulated_grid import curve_sweep

from analysis.compute import measure_compute
from analysis.compute_envelope import _vertex
from analysis.critical_batch import measure_critical_batch
from analysis.types import Status
from scaling.errors import InputError

LAW = {"B": truth.B, "alpha_B": truth.ALPHA_B}
LOSS = 1 / (1 / truth.BETA + 1 / truth.ALPHA_B + 1 / truth.ALPHA)
"""Kaplan et al. 2020 eq. B.7; of the others, B.9."""
EXPONENTS = {"N": LOSS / truth.ALPHA, "B": LOSS / truth.ALPHA_B, "S": LOSS / truth.BETA}
EXPONENTS["D"] = EXPONENTS["B"] + EXPONENTS["S"]


@pytest.fixture(scope="module")
def swept() -> tuple[pd.DataFrame, pd.DataFrame]:
    return curve_sweep()


def test_the_compute_exponents_that_the_laws_imply_are_measured(swept):
    found = measure_compute(*swept, LAW, bootstrap=60)
    assert found.adjusted is not None
    assert found.status is Status.CONVERGED
    assert found.adjusted.law.params["alpha"].value == pytest.approx(LOSS, rel=0.03)
    for name, value in EXPONENTS.items():
        assert found.adjusted.trends[name].exponent.value == pytest.approx(value, abs=0.02)
    assert found.naive.trends["N"].exponent.value > found.adjusted.trends["N"].exponent.value
    assert found.difference.ci[1] < 0
    assert found.batch_tokens == 512
    assert json.dumps(found.to_json(), allow_nan=False)


def test_exact_curves_give_the_exponents_and_the_tokens_of_the_best_size():
    found = measure_compute(*curve_sweep(sigma=0.0, seeds=1, points=300), LAW, bootstrap=0).adjusted
    assert found is not None
    for name, value in EXPONENTS.items():
        assert found.trends[name].exponent.value == pytest.approx(value, abs=0.008)
    inner = [p for p in found.points if p.status is Status.CONVERGED]
    for p in inner:
        # D = 2 C_min/(6N), and twice S_min steps of B_crit tokens are those tokens.
        assert p.tokens == pytest.approx(2 * p.flops / (6 * p.params), rel=0.02)
        assert p.tokens == pytest.approx(2 * p.steps * p.batch_tokens, rel=1e-9)
        assert p.batch_tokens == pytest.approx(truth.B * p.loss ** (-1 / truth.ALPHA_B), rel=1e-9)
    # At the optimum the two terms stand as alpha_N to alpha_S (about; B_crit falls with the loss as well).
    share = [truth.STEPS * p.steps**-truth.BETA / (truth.A * p.params**-truth.ALPHA) for p in inner]
    assert np.median(share) == pytest.approx(truth.ALPHA / truth.BETA, rel=0.25)


def test_intervals_of_the_exponents_cover():
    hits: list[bool] = []
    for seed in range(6):
        found = measure_compute(*curve_sweep(seed=100 + seed), LAW, bootstrap=60).adjusted
        assert found is not None
        hits += [t.exponent.ci[0] <= EXPONENTS[n] <= t.exponent.ci[1] for n, t in found.trends.items() if n in "NB"]
    assert np.sum(hits) >= 8


def test_the_vertex_is_that_of_the_parabola():
    below, above = np.array([1.0, 0.5]), np.array([2.0, 0.5])
    curve = lambda u: 0.3 * (u - 0.2) ** 2
    move, gain = _vertex(below, above, curve(-below) - curve(0.0), curve(above) - curve(0.0))
    np.testing.assert_allclose(move, 0.2)
    np.testing.assert_allclose(gain, curve(0.0))


def test_budgets_without_a_neighbour_are_not_interior_and_enter_no_law(swept):
    found = measure_compute(*swept, bootstrap=0).naive
    outer = [p for p in found.points if p.status is Status.NON_INTERIOR]
    assert outer
    assert all(p.reason for p in outer)
    assert found.law is not None
    assert found.law.n == len(found.points) - len(outer)
    smallest = swept[0]["params_non_embedding"].min()
    assert min(p.params for p in outer) == pytest.approx(smallest)


def test_other_batches_stay_out_of_the_naive_frontier(swept):
    rows, curves = swept
    more, more_curves = curve_sweep(batch=4096, seeds=1)
    more["run_id"] += "b"
    more_curves["run_id"] += "b"
    both = measure_compute(pd.concat([rows, more]), pd.concat([curves, more_curves]), bootstrap=0)
    alone = measure_compute(rows, curves, bootstrap=0)
    assert both.naive.trends["N"].exponent.value == alone.naive.trends["N"].exponent.value
    assert any("512 tokens a step alone" in w for w in both.warnings)


def test_a_measured_critical_batch_brings_its_draws_and_its_reach(swept):
    law = measure_critical_batch(*simulated_batches.sweep(rates=(0.5, 1.0, 2.0), sigma=0.1), bootstrap=60)
    assert law.law is not None
    measured = measure_compute(*swept, law, bootstrap=60)
    given = measure_compute(*swept, law.law.values, bootstrap=60)
    widths = []
    for found in (measured, given):
        assert found.adjusted is not None
        lo, hi = found.adjusted.trends["B"].exponent.ci
        widths.append(hi - lo)
    assert widths[0] > 1.2 * widths[1]
    assert any("B_crit(L) is extrapolated" in w for w in measured.warnings)
    assert not any("extrapolated" in w for w in given.warnings)


def test_what_is_missing_is_said(swept):
    rows, curves = swept
    few = rows["params_non_embedding"].isin(sorted(rows["params_non_embedding"].unique())[:2])
    found = measure_compute(rows[few], curves, bootstrap=0)
    assert found.status is Status.NEEDS_CURVES
    assert found.naive.law is None
    single = measure_compute(rows[rows["seed"] == 0].assign(schedule="cosine"), curves, bootstrap=20)
    assert any("several seeds" in w for w in single.warnings)
    assert any("cosine" in w for w in single.warnings)
    assert math.isnan(single.seed_sd)
    trend = single.naive.trends["N"]
    assert math.isnan(trend.exponent.ci[0])
    assert trend.status is Status.NOT_RESOLVED
    with pytest.raises(InputError, match="B and alpha_B"):
        measure_compute(rows, curves, {"B": 1.0}, bootstrap=0)
