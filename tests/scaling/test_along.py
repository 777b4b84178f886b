"""What is measured along a run: when, on which documents, and whether any of it changes the run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from trial_world import finish, ready

from scaling import along, averaging
from scaling.evaluate import clustered
from scaling.job import Execution, Job, Planned
from scaling.job_runner import JobRunner
from scaling.store import Store
from scaling.train import TrialRun
from scaling.trial import Trial

SHAPE = {"type": "decoder", "n_layer": 1, "d_model": 16, "n_head": 1, "seq_len": 32}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "along-cache"))


def trial(**changes: Any) -> Trial:
    settings = {
        "architecture": SHAPE,
        "objective": "causal",
        "corpus": {"type": "markov", "order": 1, "symbols": 8, "n_documents": 2048, "document_length": 1024},
        "optimizer": {"type": "adamw", "lr": 0.01},
        "schedule": "constant",
        "heldout": "nested",
        "batch_tokens": 64,
        "steps": 400,
        "precision": "fp32",
    }
    return Trial.model_validate_json(json.dumps({**settings, **changes}))


def planned(of: Trial, **labels: Any) -> Planned:
    return ready(of, Execution(micro_batch_tokens=64), **labels)


def test_points_lie_on_one_grid_whatever_the_horizon() -> None:
    short, long = (along.steps_of(trial(evaluation_ratio=1.3, steps=n, schedule="constant")) for n in (400, 4000))
    fixed = {"type": "wsd", "warmup_steps": 50}
    a, b = (along.steps_of(trial(evaluation_ratio=1.3, steps=n, schedule=fixed)) for n in (400, 4000))
    assert a == {s for s in b if s < 400}
    assert min(a) >= 50
    assert min(short) >= 40
    assert max(long) < 4000
    assert along.steps_of(trial()) == frozenset()


def test_best_is_read_on_the_test_half_at_the_step_that_the_development_half_chose() -> None:
    points = [
        along.Point(10, 2.0, 2.0, 1.9, math.nan, math.nan),
        along.Point(20, 1.5, 1.4, 1.7, math.nan, math.nan),
        along.Point(30, 1.4, 1.5, 1.2, math.nan, math.nan),
    ]
    assert along.best(points) == 1.7
    assert math.isnan(along.best([]))
    held = clustered(np.arange(4), np.array([1.0, 2.0, 3.0, 6.0]), np.array([1, 1, 1, 2]))
    assert along.halves(held) == (2.0, 8.0 / 3.0)
    assert along.restored(along.kept(points[0]))[:4] == points[0][:4]


def test_signal_and_noise_are_unbiased() -> None:
    """Gradients of known mean and covariance: E|G_b|² = |G|² + tr Σ/b (McCandlish et al. 2018, eq. A.1)."""
    rng = np.random.default_rng(0)
    mean, sd, tokens, k, draws = np.array([0.3, -0.2, 0.1]), 2.0, 8, 16, 4000
    parts = mean + rng.normal(0.0, sd / math.sqrt(tokens), (draws, k, 3))
    found = [along.signal_and_noise((one**2).sum(-1), np.asarray((one.mean(0) ** 2).sum()), tokens) for one in parts]
    signal, noise = (np.array(x) for x in zip(*found, strict=True))
    assert signal.mean() == pytest.approx((mean**2).sum(), abs=4 * signal.std() / math.sqrt(draws))
    assert noise.mean() == pytest.approx(3 * sd**2, abs=4 * noise.std() / math.sqrt(draws))


def test_power_average_has_the_width_it_was_asked_for() -> None:
    torch = pytest.importorskip("torch")
    steps, width = 4000, 0.1
    weights = torch.eye(1, dtype=torch.float64).expand(steps, 1)
    average, seen = torch.zeros(steps, dtype=torch.float64), torch.zeros(steps, dtype=torch.float64)
    for step in range(1, steps + 1):
        seen.zero_()
        seen[step - 1] = weights[step - 1, 0]
        averaging.update(average, seen, step, width)
    share = np.arange(1, steps + 1) / steps
    profile = average.numpy()
    assert profile.sum() == pytest.approx(1.0)
    centre = (profile * share).sum()
    assert math.sqrt((profile * (share - centre) ** 2).sum()) == pytest.approx(width, rel=0.02)


def test_measuring_changes_nothing_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    bare = finish(tmp_path / "bare", planned(trial()))
    plan = planned(trial(evaluation_ratio=1.5), keep="final")
    whole = finish(tmp_path / "whole", plan)
    assert whole.rows().loss[0] == bare.rows().loss[0]
    assert math.isnan(bare.rows().loss_best[0])

    again = Store.create(tmp_path / "again")
    run = TrialRun([plan], again)
    run.advance(lambda: run.step >= 200)
    run.save()
    runner = JobRunner(Job(planned=(plan,)), again)
    while not runner.advance(60.0).done:
        pass
    keys = ["step", "train_loss", "loss"]
    assert again.curves()[keys].equals(whole.curves()[keys])
    assert again.rows().loss_best[0] == whole.rows().loss_best[0]
    measured = whole.curves().set_index("step").loss.dropna()
    assert set(measured.index) == along.steps_of(plan.trial) | {400}
    assert measured.loc[400] == whole.rows().loss[0]
    noise = whole.evals().query(f"metric == '{along.NOISE_METRIC}'")
    assert set(noise.x) == along.steps_of(plan.trial)
    assert (noise.value > 0).any()

    weights = whole.final_weights(plan.run_id)
    assert weights is not None
    assert weights[0]["model.head"].shape == (256, 16)
    assert whole.load_checkpoint(plan.run_id) is None
    assert bare.final_weights(plan.run_id) is None


def test_a_stop_during_a_measurement_leaves_it_due(tmp_path: Path) -> None:
    plan = planned(trial(evaluation_ratio=1.5))
    run = TrialRun([plan], Store.create(tmp_path / "s"))
    run.advance(lambda: False, lambda: True)
    first = min(along.steps_of(plan.trial))
    assert run.step == first
    assert run.courses[0].measured == []
    run.advance(lambda: run.step >= first + 1)
    assert [p.step for p in run.courses[0].measured] == [first]


def test_averaged_weights_are_scored_kept_and_resumed(tmp_path: Path) -> None:
    plan = planned(trial(averaging_width=0.1, evaluation_ratio=2.0), keep="final")
    whole = finish(tmp_path / "whole", plan)
    raw = finish(tmp_path / "raw", planned(trial()))
    assert whole.rows().loss[0] < raw.rows().loss[0]  # a constant rate's own noise is averaged away
    again = Store.create(tmp_path / "again")
    run = TrialRun([plan], again)
    run.advance(lambda: run.step >= 150)
    run.save()
    resumed = finish(tmp_path / "again", plan)
    assert resumed.rows().loss[0] == whole.rows().loss[0]
    kept, again_kept = whole.final_weights(plan.run_id), resumed.final_weights(plan.run_id)
    assert kept is not None
    assert again_kept is not None
    assert all(bool((kept[0][name] == again_kept[0][name]).all()) for name in kept[0])


def test_another_trainer_refuses_what_only_ours_measures() -> None:
    with pytest.raises(ValidationError, match="evaluation_ratio and averaging_width are for"):
        trial(evaluation_ratio=1.5, trainer={"target": "json:loads"})
