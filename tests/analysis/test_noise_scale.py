"""The gradient's noise scale at a loss is the ratio it was simulated with."""

import math

import pandas as pd
import pytest
from kaplan_results import noise_evals
from simulated_batches import critical, sweep

from analysis.noise_scale import noise_scale
from analysis.types import Status
from scaling.errors import TableError


@pytest.fixture(scope="module")
def curves() -> pd.DataFrame:
    return sweep(batches=(512, 2048), rates=(1.0,))[1]


def test_signal_and_noise_give_their_ratio_at_the_loss(curves):
    found = noise_scale(noise_evals(curves), curves, [3.0, 2.2])
    assert found.status is Status.CONVERGED
    assert [p.loss for p in found.points] == [3.0, 2.2]
    for p in found.points:
        assert p.runs == 4
        assert p.noise_scale.value == pytest.approx(float(critical(p.loss)), rel=0.15)
        assert p.noise_scale.ci[0] < p.noise_scale.value < p.noise_scale.ci[1]


def test_a_ratio_given_is_taken_as_it_stands(curves):
    ratio = pd.DataFrame(
        {
            "run_id": curves["run_id"],
            "metric": "gradient_noise_scale",
            "x": curves["step"].astype(float),
            "value": critical(curves["loss"]),
        }
    )
    (point,) = noise_scale(ratio, curves, [2.5]).points
    assert point.noise_scale.value == pytest.approx(float(critical(2.5)), rel=0.02)


def test_negative_signals_are_averaged_before_they_divide(curves):
    evals = noise_evals(curves)
    odd = (evals["metric"] == "gradient_squared") & (evals.groupby(["run_id", "metric"]).cumcount() % 5 == 2)
    evals.loc[odd, "value"] = -1e-4
    (point,) = noise_scale(evals, curves, [2.5]).points
    assert math.isfinite(point.noise_scale.value)
    assert point.noise_scale.value > critical(2.5)


def test_nothing_measured_says_so(curves):
    evals = noise_evals(curves).assign(metric="other")
    found = noise_scale(evals, curves)
    assert found.points == ()
    assert found.status is Status.NEEDS_CURVES
    assert "gradient_squared" in found.reason
    with pytest.raises(TableError, match="metric"):
        noise_scale(evals.drop(columns="metric"), curves)
