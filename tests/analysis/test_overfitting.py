"""L(N, D) on limited data: Kaplan's joint law and the overfit it implies are recovered."""

import json

import numpy as np
import pytest
from simulated_grid import JOINT, data_sweep

from analysis.laws.kaplan_joint import KaplanJoint
from analysis.overfitting import measure_overfitting, overfit_of
from analysis.types import Status


def test_the_joint_law_and_every_overfit_are_recovered():
    found = measure_overfitting(data_sweep(), bootstrap=100)
    assert found.status is Status.CONVERGED
    for name, value in JOINT.items():
        assert found.joint.params[name].value == pytest.approx(value, rel=0.06)
    assert len(found.points) == 18
    for p in found.points:
        if p.unique_tokens == 2**24:
            assert not p.overfit.known
            continue
        truth = float(overfit_of(JOINT, p.params, p.unique_tokens) - overfit_of(JOINT, p.params, 2.0**24))
        assert p.overfit.value == pytest.approx(truth, abs=0.03 * (1 + truth))
        assert p.overfit.ci[0] < p.overfit.value < p.overfit.ci[1]
    assert json.dumps(found.to_json(), allow_nan=False)


def test_the_overfit_depends_on_one_combination_of_size_and_data():
    found = measure_overfitting(data_sweep(sigma=0.0), bootstrap=0)
    x = np.array([p.x for p in found.points])
    np.testing.assert_allclose(found.delta_over(x)[0], [p.predicted for p in found.points], rtol=1e-6)
    np.testing.assert_allclose(found.delta(2e4, 1e6), overfit_of(JOINT, 2e4, 1e6), rtol=1e-4)


def test_kaplans_published_condition_keeps_the_overfit_near_two_percent():
    """Ibid. eq. 4.4: D of 5e3 N^.74 keeps δL under about .02."""
    law = KaplanJoint.instances["kaplan_2020"]
    for n in (1e6, 1e8, 1e9):
        assert float(overfit_of(law, n, 5e3 * n**0.74)) == pytest.approx(0.02, abs=0.005)


def test_the_early_stopped_loss_is_read_and_its_absence_warned_of():
    rows = data_sweep()
    stopped = measure_overfitting(rows, bootstrap=0)
    ended = measure_overfitting(rows.drop(columns="loss_best"), bootstrap=0)
    assert ended.points[0].loss.value == pytest.approx(1.05 * stopped.points[0].loss.value)
    assert any("no loss_best" in w for w in ended.warnings)
    assert not any("no loss_best" in w for w in stopped.warnings)


def test_the_best_recipe_of_each_cell_is_read_and_repeated_data_warned_of():
    import pandas as pd

    rows = data_sweep()
    worse = rows.assign(run_id=rows["run_id"] + "x", lr=0.1, loss_best=rows["loss_best"] * 1.1)
    both = measure_overfitting(pd.concat([rows, worse]), bootstrap=0)
    assert both.points == measure_overfitting(rows, bootstrap=0).points
    again = measure_overfitting(rows.assign(epochs=5.0), bootstrap=0)
    assert any("seen again" in w for w in again.warnings)


def test_one_amount_of_data_is_no_joint_law():
    rows = data_sweep()
    found = measure_overfitting(rows[rows["tokens_unique"] == 2**20], bootstrap=0)
    assert found.status is not Status.CONVERGED
    assert found.reason
