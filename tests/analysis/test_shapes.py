"""Effects of shape: simulated ones are found, null ones are not, and rates at an edge are not mistaken for shapes."""

import json

import numpy as np
import pandas as pd
import pytest
from kaplan_results import shape_sweep

from analysis.shapes import Shape, measure_shapes
from analysis.types import Estimate, Status
from scaling.errors import InputError, TableError

REFERENCE = {"n_layer": 4, "d_model": 64, "d_ff": 256, "n_head": 4}


def test_simulated_effects_are_resolved_and_null_ones_are_not():
    found = measure_shapes(shape_sweep(), slope=0.1, reference=REFERENCE)
    assert found.status is Status.CONVERGED
    by_shape = {e.shape: e for e in found.effects}
    for shape in (Shape(1, 128, 512, 8), Shape(4, 90, 90, 5)):
        assert by_shape[shape].effect_percent.value == pytest.approx(3.0, abs=0.8)
        assert by_shape[shape].status is Status.CONVERGED
    assert by_shape[Shape(4, 64, 256, 16)].status is Status.NOT_RESOLVED
    assert "the seeds resolve" in by_shape[Shape(4, 64, 256, 16)].reason
    assert found.noise.dof == 9 * 3 * 2
    assert found.noise.sd == pytest.approx(0.004, rel=0.3)
    assert json.dumps(found.to_json(), allow_nan=False)


def test_families_are_told_by_what_differs():
    found = measure_shapes(shape_sweep(), slope=0.1, reference=REFERENCE)
    assert [e.ratio for e in found.family("aspect_ratio")] == [2.0, 5.5, 16.0, 45.0, 128.0]
    assert [e.ratio for e in found.family("feed_forward_ratio")] == [1.0, 4.0, 8.0]
    assert [e.ratio for e in found.family("head_width")] == [4.0, 16.0, 64.0]
    assert all(sum(e.is_reference for e in found.family(f)) == 1 for f in ("aspect_ratio", "head_width"))


def test_size_is_corrected_for_and_the_slopes_doubt_widens_the_interval():
    exact = shape_sweep(worse=0.0, sigma=0.0)
    for e in measure_shapes(exact, slope=0.1, reference=REFERENCE).effects:
        assert e.effect_percent.value == pytest.approx(0.0, abs=1e-9)
    sure = measure_shapes(shape_sweep(), slope=0.1, reference=REFERENCE)
    unsure = measure_shapes(shape_sweep(), slope=Estimate(0.1, (-0.2, 0.4), 0.9), reference=REFERENCE)
    i = [e.shape for e in sure.effects].index(Shape(4, 90, 90, 5))
    widths = [f.effects[i].effect_percent.ci[1] - f.effects[i].effect_percent.ci[0] for f in (sure, unsure)]
    away = abs(np.log(sure.effects[i].params / sure.reference_params))
    assert widths[1] == pytest.approx(np.hypot(widths[0], 200 * 0.3 * away))


def test_null_effects_are_called_resolved_no_more_often_than_the_level_says():
    false = families = 0
    for seed in range(25):
        found = measure_shapes(shape_sweep(worse=0.0, seed=seed), slope=0.1, reference=REFERENCE)
        for name in ("aspect_ratio", "feed_forward_ratio", "head_width"):
            families += 1
            false += any(e.status is Status.CONVERGED for e in found.family(name) if not e.is_reference)
    assert false / families <= 0.2


def test_a_best_rate_at_the_edge_is_no_effect_of_shape():
    rows = shape_sweep()
    one = (rows["d_ff"] == 90) & (rows["lr"] > 0.003)
    found = measure_shapes(rows[(rows["d_ff"] != 90) | one], slope=0.1, reference=REFERENCE)
    effect = next(e for e in found.effects if e.shape == Shape(4, 90, 90, 5))
    assert effect.status is Status.NON_INTERIOR
    assert "lowest tried" in effect.reason


def test_the_best_shape_is_the_reference_where_none_is_given():
    rows = shape_sweep(sigma=0.0)
    rows.loc[rows["n_head"] == 16, "loss"] *= 0.98
    found = measure_shapes(rows, slope=0.1)
    assert found.reference == Shape(4, 64, 256, 16)
    assert all(e.effect_percent.value >= -1e-9 for e in found.effects)


def test_one_seed_and_wrong_references_say_so():
    rows = shape_sweep(seeds=1)
    found = measure_shapes(rows, slope=0.1, reference=REFERENCE)
    assert found.status is Status.UNIDENTIFIED
    assert all(e.status is not Status.CONVERGED for e in found.effects if not e.is_reference)
    with pytest.raises(InputError, match="not among the shapes"):
        measure_shapes(rows, slope=0.1, reference={**REFERENCE, "n_layer": 5})
    with pytest.raises(TableError, match="n_head"):
        measure_shapes(pd.DataFrame(rows).drop(columns="n_head"), slope=0.1)
