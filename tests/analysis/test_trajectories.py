"""Curves of runs: where they reach a loss, which of their losses is read, and the targets that most of them reach."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.trajectories import targets_between, trajectories
from scaling.errors import TableError


def curve(run_id: str, loss: list[float], *, column: str = "loss") -> pd.DataFrame:
    steps = 100 * 2 ** np.arange(len(loss))
    return pd.DataFrame({"run_id": run_id, "step": steps, "tokens": 512.0 * steps, column: loss})


def test_a_loss_is_reached_between_points_linearly_in_log_tokens():
    (path,) = trajectories(curve("a", [4.0, 3.0, 2.0, 1.5]), ["a"])[0].values()
    assert path.reaches(2.5) == pytest.approx(512 * 200 * 2**0.5)
    assert path.reaches(3.0) == pytest.approx(512 * 200)
    assert path.reaches(1.4) == math.inf
    assert math.isnan(path.reaches(4.5))


def test_a_curve_that_rises_again_counts_where_it_first_got_there():
    (path,) = trajectories(curve("a", [4.0, 2.0, 3.0, 2.5]), ["a"])[0].values()
    assert path.reaches(2.0) == pytest.approx(512 * 200)


def test_held_out_losses_come_before_training_losses_and_too_short_curves_are_named():
    both = curve("a", [4.0, 3.0, 2.0, 1.5]).assign(train_loss=9.0)
    flat = curve("b", [3.0] * 30, column="train_loss")
    found, dropped = trajectories(pd.concat([both, flat, curve("c", [3.0, 2.0])]), ["a", "b", "c", "d"])
    assert found["a"].measured
    assert found["a"].loss.tolist() == [4.0, 3.0, 2.0, 1.5]
    assert not found["b"].measured
    np.testing.assert_allclose(found["b"].loss, 3.0)
    assert [d.row for d in dropped] == ["c", "d"]


def test_thinned_keeps_the_ends_and_after_cuts_the_warmup():
    (path,) = trajectories(curve("a", list(np.linspace(5, 1, 12))), ["a"])[0].values()
    assert path.thinned(5).steps[[0, -1]].tolist() == path.steps[[0, -1]].tolist()
    assert path.thinned(5).steps.size == 5
    assert path.after(350.0).steps[0] == 400


def test_targets_lie_where_most_groups_pass():
    paths = trajectories(pd.concat([curve("a", [5.0, 4.0, 3.0, 2.0]), curve("b", [4.5, 4.0, 3.0, 2.6])]), "ab")[0]
    targets = targets_between([[paths["a"]], [paths["b"]]], 4)
    assert len(targets) == 4
    assert max(targets) < 4.5
    assert min(targets) == pytest.approx(2.3, abs=0.001)
    assert targets_between([], 4) == ()


def test_missing_columns_are_named():
    with pytest.raises(TableError, match="step, tokens"):
        trajectories(pd.DataFrame({"run_id": ["a"], "loss": [1.0]}), ["a"])
