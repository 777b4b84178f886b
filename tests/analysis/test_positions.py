"""Loss by position: power laws and gaps of two architectures, simulated ones and none."""

import json
import math

import pytest
from kaplan_results import position_sweep

from analysis.positions import SEPARATED, TOGETHER, measure_positions
from analysis.types import Status
from scaling.errors import InputError, TableError


def test_power_laws_by_architecture_and_size_are_recovered():
    found = measure_positions(*position_sweep(), bootstrap=50)
    decoders = [f for f in found.fits if f.architecture == "decoder"]
    assert [f.params for f in decoders] == [5e4, 2e5]
    for f in decoders:
        scale = (f.params / 5e4) ** -0.05
        assert f.with_floor
        assert f.fit.params["E"].value == pytest.approx(1.2 * scale, rel=0.02)
        assert f.fit.params["alpha"].value == pytest.approx(0.5, rel=0.05)
    assert json.dumps(found.to_json(), allow_nan=False)


def test_a_gap_late_in_the_context_is_found_where_it_is():
    found = measure_positions(*position_sweep(), bootstrap=0)
    assert found.verdict == SEPARATED
    assert [c.first for c in found.comparisons] == ["lstm", "lstm"]
    for c in found.comparisons:
        assert c.pairs == 3
        assert c.late.value == pytest.approx(7.0, abs=1.0)
        assert abs(c.early.value) < 1.0
        assert c.widening.ci[0] > 5.0
        assert c.bins[0].status is Status.NOT_RESOLVED
        assert c.bins[-1].status is Status.CONVERGED
        assert c.bins[0].low == 1.0
        assert c.bins[-1].high == 512.0


def test_without_a_gap_none_is_visible():
    wrong = 0
    for seed in range(10):
        found = measure_positions(*position_sweep(late=0.0, seed=seed), bootstrap=0)
        wrong += found.verdict == SEPARATED
    assert wrong <= 4
    assert found.verdict in (SEPARATED, TOGETHER)


def test_one_run_a_size_is_judged_by_the_texts_error():
    rows, positions = position_sweep(seeds=1)
    found = measure_positions(rows, positions, bootstrap=0)
    assert all(math.isfinite(c.late.ci[0]) for c in found.comparisons)
    bare = measure_positions(rows, positions.drop(columns="se"), bootstrap=0)
    assert bare.verdict == TOGETHER
    assert "nothing to tell a gap by" in bare.reason


def test_sizes_too_far_apart_are_not_compared():
    rows, positions = position_sweep()
    far = rows["architecture"] == "lstm"
    rows.loc[far, "params_non_embedding"] *= 1.6
    found = measure_positions(rows, positions, bootstrap=0)
    assert found.comparisons == ()
    assert found.verdict == TOGETHER
    assert "no size of lstm" in found.reason


def test_wrong_input_is_one_clear_error():
    rows, positions = position_sweep(seeds=1)
    with pytest.raises(InputError, match="architectures"):
        measure_positions(rows[rows["architecture"] == "lstm"], positions)
    with pytest.raises(TableError, match="value"):
        measure_positions(rows, positions.drop(columns="value"))
    with pytest.raises(InputError, match="bins is 2"):
        measure_positions(rows, positions, bins=2)
    assert measure_positions(rows, positions.iloc[:0], bootstrap=0).status is Status.NEEDS_CURVES
