"""Tokens to reach a loss, by size: simulated truth, censored runs kept, the ratio of the ends."""

import json
import math

import pandas as pd
import pytest
import simulated_grid as truth
from simulated_batches import store_row
from simulated_grid import curve_sweep

from analysis.sample_efficiency import measure_sample_efficiency
from analysis.types import Status
from scaling.errors import InputError

SIZES = truth.SIZES[::2]


@pytest.fixture(scope="module")
def swept() -> tuple[pd.DataFrame, pd.DataFrame]:
    return curve_sweep(sizes=SIZES)


def tokens_to(target: float, n: float) -> float:
    s_min = ((target - truth.A * n**-truth.ALPHA) / truth.STEPS) ** (-1 / truth.BETA)
    return 512 * s_min * (1 + truth.B * target ** (-1 / truth.ALPHA_B) / 512)


def test_tokens_to_a_loss_are_those_of_the_surface(swept):
    found = measure_sample_efficiency(*swept, [3.5])
    for reach in found.reaches:
        assert reach.tokens.value == pytest.approx(tokens_to(3.5, reach.params), rel=0.05)
        assert reach.tokens.ci[0] < reach.tokens.value < reach.tokens.ci[1]
        assert reach.steps.value == pytest.approx(reach.tokens.value / 512)
        assert not reach.censored
    (summary,) = found.summaries
    assert summary.first == max(SIZES)
    assert (summary.sooner, summary.pairs) == (6, 6)
    expected = tokens_to(3.5, min(SIZES)) / tokens_to(3.5, max(SIZES))
    assert summary.ratio.value == pytest.approx(expected, rel=0.07)
    assert json.dumps(found.to_json(), allow_nan=False)


def test_sizes_that_never_got_there_are_censored_at_what_they_were_given(swept):
    found = measure_sample_efficiency(*swept, [2.2])
    small = found.reaches[0]
    assert small.censored
    assert (small.reached, small.runs) == (0, 2)
    assert not small.tokens.known
    assert small.at_least == pytest.approx(swept[0]["tokens"].max())
    (summary,) = found.summaries
    assert summary.status is Status.NOT_RESOLVED
    assert not summary.ratio.known
    assert summary.ratio_at_least == pytest.approx(small.at_least / found.reaches[-1].tokens.value)
    assert summary.pairs < 6


def test_a_target_no_size_reaches_is_not_resolved(swept):
    (summary,) = measure_sample_efficiency(*swept, [0.5]).summaries
    assert summary.status is Status.NOT_RESOLVED
    assert math.isnan(summary.first)


def test_a_size_is_read_at_its_best_recipe(swept):
    rows, curves = swept
    bad = store_row("bad", SIZES[0], 4e7, 9.0, lr=0.1)
    worse = curves[curves["run_id"] == rows["run_id"].iloc[0]].assign(run_id="bad")
    worse["loss"] *= 2
    both = measure_sample_efficiency(pd.concat([rows, pd.DataFrame([bad])]), pd.concat([curves, worse]), [3.5])
    assert both.reaches[0].runs == 2
    assert "bad" not in both.reaches[0].run_ids


def test_one_seed_has_no_interval_and_says_so(swept):
    rows, curves = swept
    found = measure_sample_efficiency(rows[rows["seed"] == 0], curves, [3.5])
    assert math.isnan(found.reaches[0].tokens.ci[0])
    assert any("no interval" in w for w in found.warnings)
    assert measure_sample_efficiency(rows, curves.iloc[:0], [3.5]).status is Status.NEEDS_CURVES
    with pytest.raises(InputError, match="not all positive"):
        measure_sample_efficiency(rows, curves, [-1.0])


def test_seeds_of_sizes_that_reach_no_target_still_give_the_noise(swept):
    """Small sizes with seeds and one large without: the large one's tokens have an interval."""
    rows, curves = swept
    alone = rows[(rows["params_non_embedding"] != max(SIZES)) | (rows["seed"] == 0)]
    found = measure_sample_efficiency(alone, curves, [1.9])
    large = found.reaches[-1]
    assert [r.censored for r in found.reaches] == [True] * (len(SIZES) - 1) + [False]
    assert large.runs == 1
    assert found.noise.dof == len(SIZES) - 1
    assert large.tokens.ci[0] < large.tokens.value < large.tokens.ci[1]


def test_a_loss_passed_before_the_first_point_is_a_bound_from_above(swept):
    """The largest size below the target at its first point: no estimate, the ratio bounded, the order still told."""
    rows, curves = swept
    largest = set(rows["run_id"][rows["params_non_embedding"] == max(SIZES)])
    late = curves[~curves["run_id"].isin(largest) | (curves["loss"] < 2.8)]
    found = measure_sample_efficiency(rows, late, [3.0])
    large, (summary,) = found.reaches[-1], found.summaries
    assert large.early
    assert not large.censored
    assert not large.tokens.known
    assert large.at_most > tokens_to(2.8, large.params) * 0.9
    assert summary.first == max(SIZES)
    assert summary.status is Status.NOT_RESOLVED
    assert summary.ratio_at_least == pytest.approx(found.reaches[0].tokens.value / large.at_most)
    assert "first point" in summary.reason
    assert summary.sizes == len(SIZES) - 1


def test_tokens_fall_as_a_power_of_size_with_the_surface_s_exponent(swept):
    found = measure_sample_efficiency(*swept, [3.5])
    (summary,) = found.summaries
    ends = [math.log(tokens_to(3.5, n)) for n in (min(SIZES), max(SIZES))]
    slope = (ends[1] - ends[0]) / math.log(max(SIZES) / min(SIZES))
    assert summary.exponent.value == pytest.approx(slope, abs=0.05)
    assert summary.exponent.ci[0] < slope < summary.exponent.ci[1]


def test_default_targets_lie_where_three_sizes_pass(swept):
    found = measure_sample_efficiency(*swept)
    assert len(found.summaries) == 6
    assert all(s.sizes >= 3 for s in found.summaries)
    assert len({r.target for r in found.reaches}) == 6
