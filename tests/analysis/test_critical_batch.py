"""The critical batch of simulated sweeps is that they were made with; what cannot be told says so."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import simulated_batches as truth
from simulated_batches import sweep

from analysis.critical_batch import adjusted, extrapolated, law_values, measure_critical_batch
from analysis.types import Status
from scaling.errors import InputError, TableError


@pytest.fixture(scope="module")
def swept() -> tuple[pd.DataFrame, pd.DataFrame]:
    return sweep(rates=(0.5, 1.0, 2.0))


def test_each_targets_hyperbola_and_the_law_over_losses_are_recovered(swept):
    found = measure_critical_batch(*swept, bootstrap=200)
    assert len(found.converged) >= 4
    for t in found.converged:
        assert t.span >= 5.0
        assert t.B_crit.value == pytest.approx(float(truth.critical(t.target)), rel=0.08)
        assert t.S_min.value == pytest.approx(float(truth.least_steps(t.target)), rel=0.06)
        assert t.E_min.value == pytest.approx(t.S_min.value * t.B_crit.value)
        assert t.B_crit.ci[0] < t.B_crit.value < t.B_crit.ci[1]
    assert found.status is Status.CONVERGED
    assert found.law is not None
    assert found.law.params["alpha_B"].value == pytest.approx(truth.ALPHA_B, rel=0.05)
    assert found.law.params["B"].value == pytest.approx(truth.B, rel=0.15)
    assert json.dumps(found.to_json(), allow_nan=False)


def test_intervals_cover():
    hits, of_law = [], []
    for seed in range(8):
        found = measure_critical_batch(*sweep(rates=(0.5, 1.0, 2.0), seed=seed), [3.0, 2.6, 2.3, 2.0], bootstrap=80)
        hits += [t.B_crit.ci[0] <= truth.critical(t.target) <= t.B_crit.ci[1] for t in found.converged]
        lo, hi = found.law.params["B"].ci
        of_law.append(lo <= truth.B <= hi)
    # 32 and 8 intervals of 90 %: the bounds are those that a right one misses once in 500 times.
    assert np.mean(hits) >= 0.72
    assert np.sum(of_law) >= 5


def test_targets_whose_steps_span_too_little_are_refused_with_the_span(swept):
    (t,) = measure_critical_batch(*swept, [5.0], bootstrap=0).targets
    assert t.status is Status.NOT_RESOLVED
    assert "less than 5×" in t.reason
    assert not t.B_crit.known


def test_batches_that_never_got_there_stay_in_the_record_as_censored(swept):
    (t,) = measure_critical_batch(*swept, [1.6], bootstrap=0).targets
    censored = [p for p in t.points if p.censored]
    assert [p.batch_tokens for p in censored] == [128, 256, 512, 1024, 2048, 4096][: len(censored)]
    assert censored
    rows = swept[0]
    for p in censored:
        assert "never reached by" in p.reason
        given = rows.set_index("run_id")["tokens"][list(p.run_ids)]
        assert list(p.tokens) == pytest.approx(list(given))


def test_a_best_rate_at_the_edge_is_flagged_and_not_fitted_unless_a_higher_one_diverged(swept):
    rows, curves = swept
    low = rows["lr"] <= 0.004
    edge = measure_critical_batch(rows[low], curves, [2.3], bootstrap=0).targets[0]
    assert {p.status for p in edge.points if not p.censored} == {Status.NON_INTERIOR}
    assert edge.status is Status.TOO_FEW_POINTS
    assert "highest tried" in edge.reason
    diverged = rows[~low].assign(status="diverged", reason="NaN")
    bounded = measure_critical_batch(pd.concat([rows[low], diverged]), curves, [2.3], bootstrap=0).targets[0]
    assert bounded.status is Status.CONVERGED
    single = measure_critical_batch(rows[rows["lr"] == 0.004], curves, [2.3], bootstrap=0).targets[0]
    assert "one learning rate only" in single.reason


def test_a_rate_tuned_at_the_end_is_used_at_every_target(swept):
    rows, curves = swept
    # A rate of .002 gets to 2.3 soonest, but ends higher: tuned at the end the batch keeps its rate of .004.
    quick, early = rows["run_id"].str.contains("-0.5-"), curves["run_id"].str.contains("-0.5-")
    faster = curves.copy()
    faster.loc[early & (curves["loss"] < 2.6), "loss"] = 2.2
    rows = rows.assign(loss=rows["loss"].where(~quick, 2.2))
    by_target = measure_critical_batch(rows, faster, [2.3], bootstrap=0).targets[0]
    by_end = measure_critical_batch(rows, faster, [2.3], tuned="end", bootstrap=0).targets[0]
    assert {p.status for p in by_target.points if not p.censored} >= {Status.NON_INTERIOR}
    kept = [p for p in by_end.points if p.status is Status.CONVERGED]
    assert len(kept) >= 5
    assert {p.lr for p in kept} == {0.004}
    assert by_end.B_crit.value == pytest.approx(float(truth.critical(2.3)), rel=0.08)
    with pytest.raises(InputError, match="no tuned 'start'"):
        measure_critical_batch(rows, curves, [2.3], tuned="start")


def test_a_critical_batch_outside_the_batches_is_not_resolved():
    found = measure_critical_batch(*sweep(batches=(128, 256, 512, 1024), rates=(0.5, 1.0, 2.0)), [2.0], bootstrap=50)
    (t,) = found.targets
    assert t.status is not Status.CONVERGED
    assert t.reason
    assert found.law is None
    assert found.status is Status.TOO_FEW_POINTS


def test_a_loss_below_the_first_point_is_not_taken_for_its_first_point(swept):
    rows, curves = swept
    (t,) = measure_critical_batch(rows, curves[curves["step"] > 300], [3.5], bootstrap=0).targets
    early = [p for p in t.points if "first point" in p.reason]
    assert early
    assert all(p.steps == () for p in early)


def test_adjusted_is_the_published_formula_with_hand_numbers():
    table = pd.DataFrame(
        {"loss": [2.0, 1.0], "batch_tokens": [500.0, 1000.0], "steps": [100.0, 10.0], "flops_exact": [1e12, 4e12]}
    )
    found = adjusted(table, {"B": 1000.0, "alpha_B": 1.0})
    assert found["B_crit"].tolist() == [500.0, 1000.0]
    assert found["S_min"].tolist() == [50.0, 5.0]
    assert found["C_min"].tolist() == [5e11, 2e12]
    assert found["E_min"].tolist() == [25_000.0, 5_000.0]
    assert not found["B_crit_extrapolated"].any()


def test_adjusted_marks_losses_outside_the_fitted_ones(swept):
    law = measure_critical_batch(*swept, [3.0, 2.6, 2.3, 2.0], bootstrap=0)
    table = pd.DataFrame({"loss": [2.5, 1.5], "batch_tokens": 512.0, "steps": 10.0, "flops_exact": 1e9})
    assert adjusted(table, law)["B_crit_extrapolated"].tolist() == [False, True]
    assert extrapolated(law, np.array([2.5, 1.5]), "points") == ("B_crit(L) is extrapolated at 1 of 2 points",)
    assert extrapolated({"B": 1.0, "alpha_B": 1.0}, np.array([2.5, 1.5]), "points") == ()
    with pytest.raises(InputError, match="no column 'steps'"):
        adjusted(table.drop(columns="steps"), law)


def test_constants_by_hand_and_their_absence():
    assert law_values({"B": 2.0, "alpha_B": 0.2}) == {"B": 2.0, "alpha_B": 0.2}
    with pytest.raises(InputError, match="needs B and alpha_B"):
        law_values({"B": 2.0})


def test_wrong_input_is_one_clear_error(swept):
    with pytest.raises(InputError, match="not all positive"):
        measure_critical_batch(*swept, [math.nan])
    with pytest.raises(TableError, match="lr"):
        measure_critical_batch(swept[0].drop(columns="lr"), swept[1])
