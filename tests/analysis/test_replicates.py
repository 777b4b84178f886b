"""Seeds' pooled noise against its textbook formula, and the coverage of its intervals."""

import math

import numpy as np
import pandas as pd
import pytest
from simulated_batches import store_row

from analysis.replicates import Pooled, log_mean, pooled, recipes, student
from analysis.table import read_table


def test_pooled_standard_deviation_is_that_of_the_groups_about_their_means():
    found = pooled(["a", "a", "b", "b", "b", "c", "c"], [1.0, 3.0, 5.0, 6.0, 7.0, 9.0, math.nan])
    assert found == Pooled(pytest.approx(math.sqrt((2.0 + 2.0) / 3)), 3)
    assert pooled(["a", "b"], [1.0, 2.0]).dof == 0
    assert math.isnan(pooled(["a", "b"], [1.0, 2.0]).half_width(1.0, 0.9))


def test_students_quantiles_are_the_tabled_ones():
    assert student(5, 0.95) == pytest.approx(2.5706, abs=1e-4)
    assert student(1, 0.9) == pytest.approx(6.3138, abs=1e-4)


def test_intervals_of_geometric_means_cover():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        groups = np.repeat(np.arange(4), 2)
        logs = rng.standard_normal(8) * 0.1 + groups
        hits += log_mean(np.exp(logs[:2]), pooled(list(groups), logs), 0.9).ci[0] <= 1.0
        hits += log_mean(np.exp(logs[:2]), pooled(list(groups), logs), 0.9).ci[1] >= 1.0
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)


def test_intervals_of_standard_deviations_are_those_of_chi_squared():
    """χ² on 10 degrees of freedom has its 5 % tails beyond 3.940 and 18.307 (tabled)."""
    found = Pooled(2.0, 10).estimate(0.9)
    assert found.value == 2.0
    assert found.ci == pytest.approx((2.0 * math.sqrt(10 / 18.307), 2.0 * math.sqrt(10 / 3.940)), rel=1e-4)
    assert not Pooled(math.nan, 0).estimate(0.9).known


def test_runs_of_one_recipe_differ_by_their_seed_alone():
    rows = [store_row("a", 1e4, 1e6, 2.0, seed=0), store_row("b", 1e4, 1e6, 2.1, seed=1)]
    rows += [store_row("c", 1e4, 1e6, 2.0, lr=0.001), store_row("d", 1e4, 2e6, 2.0), store_row("e", 2e4, 1e6, 2.0)]
    keys = recipes(read_table(pd.DataFrame(rows)), "non_embedding")
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4
    assert keys[0][0] == 1e4
