"""The noise budget: covariances that are known, spreads that are known, and what is not known said so."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sweeps_by_law import SURFACES, isoflop

from analysis import frontier, read_table
from analysis.checks import Subject
from analysis.checks.evaluation import evaluation_covariance
from analysis.checks.noise_budget import noise_budget
from analysis.checks.refits import moved_frontier, moved_values, spread

BUDGETS = np.geomspace(1e17, 1e19, 5)
SURFACE = SURFACES["symmetric"]


def subject(frame):
    return Subject(read_table(frame))


def test_moving_losses_moves_the_isoflop_exponent_as_its_algebra_says():
    base = subject(isoflop(SURFACE, BUDGETS))
    moved = np.zeros((3, 35))
    moved[1] = 0.01  # all losses by the same share
    moved[2, -7:] = np.log(base.params[-7:]) * 1e-3  # a tilt at the largest budget
    found = moved_frontier(base, base.runs, "isoflop", moved)
    values = moved_values(found, 1e19)
    assert values[0, 0] == pytest.approx(0.5, abs=1e-6)
    assert values[1, 0] == pytest.approx(0.5, abs=1e-6)
    assert values[2, 0] < 0.5 - 1e-3
    assert values[2, 1] < values[0, 1]
    assert np.isnan(spread(np.full((4, 2), np.nan))).all()


@pytest.mark.parametrize("approach", ["isoflop"])
def test_seed_noise_alone_gives_the_spread_of_simulated_sweeps(approach):
    """Known sigma in repeated cells: the budget's sd is that of the exponent over fresh sweeps."""
    sigma, twice = 0.004, []
    for seed in (0, 1):
        twice.append(isoflop(SURFACE, BUDGETS, sigma=sigma, seed=seed).assign(seed=seed))
    import pandas as pd

    table = pd.concat(twice, ignore_index=True)
    whole = subject(table)
    assert whole.seeds.dof == 35
    assert whole.seed_sigma == pytest.approx(sigma, rel=0.4)
    found = noise_budget(whole, approach, bootstrap=40)
    seeds = next(s for s in found.sources if s.name == "seeds")
    fresh = []
    for k in range(40):
        both = pd.concat([isoflop(SURFACE, BUDGETS, sigma=sigma, seed=100 + 2 * k + i) for i in (0, 1)])
        fresh.append(frontier(both, approach, bootstrap=0)[approach].N_exponent.value)
    assert seeds.exponent == pytest.approx(np.std(fresh) * whole.seed_sigma / sigma, rel=0.35)
    assert {"evaluation", "tuning"} <= set(found.missing)
    assert found.total[0] >= seeds.exponent
    assert "a lower bound" in repr(found)


def test_budget_of_a_table_without_a_frontier_says_why():
    found = noise_budget(subject(isoflop(SURFACE, BUDGETS[:1], sizes=3)), bootstrap=0)
    assert found.status == "too_few_points"
    assert found.sources == ()
    assert np.isnan(found.total).all()


def store_with_documents(path, nats, counts, losses):
    """A store whose runs scored K documents: nats (K, n), counts (K,)."""
    from scaling.store import Store
    from scaling.store.schema import ROW_COLUMNS

    blank = {c.name: "{}" if c.unit == "JSON" else "" if c.type == pa.string() else 1 for c in ROW_COLUMNS}
    blank |= {c.name: 1.0 for c in ROW_COLUMNS if c.type == pa.float64()}
    del blank["curve_sha256"], blank["evals_sha256"]
    store = Store.create(path)
    for i in range(nats.shape[1]):
        name = f"{i:016x}"
        evals = [
            {"metric": "heldout_nats_by_document", "x": float(d), "value": float(nats[d, i]), "se": None,
             "n": int(counts[d]), "eval_version": 1}
            for d in range(nats.shape[0])
        ]  # fmt: skip
        row = {**blank, "run_id": name, "lineage": name, "status": "finished", "loss": float(losses[i])}
        store.publish({**row, "objective": "causal", "data_digest": "d"}, [], evals)
    return store


def test_held_out_covariance_is_split_into_what_runs_share_and_what_tells_them_apart(tmp_path):
    rng = np.random.default_rng(0)
    k, n = 400, 3
    counts = rng.integers(50, 150, k)
    shared, own = 0.3 * rng.standard_normal(k), 0.05 * rng.standard_normal((k, n))
    mean = np.array([2.0, 2.1, 2.5])
    nats = counts[:, None] * (mean + shared[:, None] + own)
    losses = nats.sum(axis=0) / counts.sum()
    store_with_documents(tmp_path / "store", nats, counts, losses)
    covariance, origin = evaluation_covariance(read_table(tmp_path / "store"))
    assert origin == "per-document losses"
    weight = (counts**2).sum() / counts.sum() ** 2
    np.testing.assert_allclose(np.diag(covariance), (0.3**2 + 0.05**2) * weight / mean**2, rtol=0.15)
    assert covariance[0, 1] == pytest.approx(0.3**2 * weight / mean[0] / mean[1], rel=0.15)
    contrast = np.array([1.0, -mean[1] / mean[0], 0.0])  # of the losses in nats: what tells the first two apart
    in_nats = np.diag(losses) @ covariance @ np.diag(losses)
    difference = np.array([1.0, -1.0, 0.0])
    assert difference @ in_nats @ difference == pytest.approx(2 * 0.05**2 * weight, rel=0.15)
    assert contrast @ covariance @ contrast >= 0


def test_standard_errors_alone_are_an_upper_bound_and_their_absence_is_said():
    table = isoflop(SURFACE, BUDGETS)
    covariance, origin = evaluation_covariance(read_table(table.assign(loss_se=0.01)))
    np.testing.assert_allclose(np.diag(covariance), (0.01 / table["loss"]) ** 2)
    assert "upper bound" in origin
    assert evaluation_covariance(read_table(table)) == (None, "neither per-document losses nor loss_se for every row")


def test_noise_that_all_runs_share_does_not_move_the_exponent():
    base = subject(isoflop(SURFACE, BUDGETS))
    from analysis.checks.noise_budget import _Refits

    refits = _Refits(base, "isoflop", 1e19)
    shared = refits.source("evaluation", np.full((35, 35), 0.01**2), "")
    own = refits.source("evaluation", np.eye(35) * 0.01**2, "")
    assert shared.exponent < 1e-6
    assert own.exponent > 0.005
