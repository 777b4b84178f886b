"""The training step: compiled against eager, flat updates against torch's AdamW, packs against trials run alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trial_world import finish, ready

from scaling.execution import can_compile, choose_execution
from scaling.job import Execution, Job, Planned
from scaling.job_runner import JobRunner
from scaling.optimizers.adamw import AdamW
from scaling.optimizers.base import Settings, Stretch
from scaling.step import Layout, StepFunction
from scaling.store import Store
from scaling.trial import Trial

SOURCE = {"type": "markov", "order": 1, "symbols": 8, "n_documents": 2048, "document_length": 1024}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "train-cache"))


def trial(objective: str = "causal", **changes: Any) -> Trial:
    """A small trial on a Markov source."""
    kind = "decoder" if objective == "causal" else "encoder"
    spec = {
        "architecture": {"type": kind, "n_layer": 2, "d_model": 16, "n_head": 2, "seq_len": 32},
        "objective": objective,
        "corpus": SOURCE,
        "optimizer": {"type": "adamw", "lr": 0.01},
        "batch_tokens": 128,
        "steps": 60,
        "heldout": "nested",
        "precision": "fp32",
        **changes,
    }
    return Trial.model_validate_json(json.dumps(spec))


def planned(of: Trial, execution: Execution) -> Planned:
    """The trial, ready to run."""
    return ready(of, execution)


def run(job: Job, folder: Path) -> Any:
    """The rows of a job by run id."""
    store = finish(folder, job)
    return store.rows().set_index("run_id"), store


def test_layout_views_and_flattens_without_loss() -> None:
    of = trial()
    model = of.architecture.build(50, 0)
    layout = Layout(model, of.optimizer, of.architecture)
    flat = torch.arange(float(layout.size))
    assert torch.equal(layout.flatten(layout.views(flat)), flat)
    several = torch.stack([flat, flat + 0.5])
    assert torch.equal(layout.flatten(layout.views(several)), several)
    assert {s.settings.weight_decay for s in layout.stretches} == {0.0, 0.1}
    assert layout.stretches[0].stop == layout.stretches[1].start
    assert layout.stretches[-1].stop == layout.size == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("objective", "attention", "precision"),
    [("causal", "native", "bf16"), ("masked", "native", "fp32"), ("causal", "manual", "fp32")],
)
def test_compiled_losses_and_gradients_agree_with_eager(objective: str, attention: str, precision: str) -> None:
    if can_compile() is not None:
        pytest.skip("no C++ compiler on this machine")
    of = trial(objective, precision=precision)
    lead = planned(of, Execution())
    rng = np.random.default_rng(0)
    windows = rng.integers(0, 8, (4, of.objective.window(32)))
    from scaling.objectives.base import Vocabulary

    batch = of.objective.train_batch(windows, Vocabulary(lead.vocab_size, 8, 9, 10), rng)
    found = []
    for compiled in (False, True):
        execution = Execution(compiled=compiled, attention=attention, micro_batch_tokens=128)
        function = StepFunction.of(of, lead.vocab_size, execution)
        theta = function.initial([of], lead.vocab_size)
        tensors = function.to_device([batch])
        loss, grad = function.step(theta, tensors, torch.tensor(1 / 128))
        found.append((loss, grad, function.losses(theta, tensors).sum() / 128))
    (loss, grad, scored), (loss_c, grad_c, scored_c) = found
    tight = 1e-5 if precision == "fp32" else 2e-2
    assert float(loss_c) == pytest.approx(float(loss), rel=tight)
    assert float(scored) == pytest.approx(float(loss), rel=tight)
    assert float(scored_c) == pytest.approx(float(loss), rel=tight)
    assert float((grad_c - grad).norm() / grad.norm()) < tight


@pytest.mark.parametrize("models", [1, 3])
def test_update_equals_torch_adamw(models: int) -> None:
    torch.manual_seed(0)
    rule = AdamW(lr=1.0, weight_decay=0.3, beta1=0.8, beta2=0.95)
    stretches = [Stretch(0, 40, Settings(weight_decay=0.3)), Stretch(40, 64, Settings(lr_scale=0.5))]
    start = torch.randn(models, 64)
    theta = start.clone() if models > 1 else start[0].clone()
    state = rule.state(theta)
    rates = torch.tensor([0.1, 0.02, 0.0])[:models]
    theirs = [[torch.nn.Parameter(row[:40].clone()), torch.nn.Parameter(row[40:].clone())] for row in start]
    optimizers = [
        torch.optim.AdamW(
            [{"params": [a], "weight_decay": 0.3}, {"params": [b], "weight_decay": 0.0}], betas=(0.8, 0.95)
        )
        for a, b in theirs
    ]
    for step in range(1, 6):
        grad = torch.randn(models, 64)
        for row, (parts, optimizer) in enumerate(zip(theirs, optimizers, strict=True)):
            parts[0].grad, parts[1].grad = grad[row, :40].clone(), grad[row, 40:].clone()
            optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = (
                float(rates[row]),
                0.5 * float(rates[row]),
            )
            optimizer.step()
        one = models == 1
        rule.update(theta, grad[0] if one else grad, state, stretches, step, rates[0] if one else rates)
    expected = torch.stack([torch.cat([a.detach(), b.detach()]) for a, b in theirs])
    torch.testing.assert_close(theta.view(models, 64), expected, rtol=1e-5, atol=1e-6)
    if models == 3:
        assert torch.equal(theta[2], start[2])


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_a_pack_gives_the_rows_of_its_trials_run_alone(objective: str, tmp_path: Path) -> None:
    """Different seeds, rates, horizons and data orders side by side; each row as if alone, within rounding."""
    base = trial(objective).optimizer
    trials = [
        trial(objective, seed=1),
        trial(objective, seed=2, steps=40),
        trial(objective, seed=1, optimizer={**base.model_dump(), "lr": 0.003}),
        trial(objective, seed=3, steps=75, optimizer={**base.model_dump(), "lr": 50.0}),
    ]
    packed = tuple(planned(t, Execution(micro_batch_tokens=128, pack=4)) for t in trials)
    rows, store = run(Job(planned=packed), tmp_path / "pack")
    alone, single = run(
        Job(planned=tuple(planned(t, Execution(micro_batch_tokens=128)) for t in trials)), tmp_path / "a"
    )
    assert set(rows.index) == set(alone.index)
    for p in packed:
        ours, theirs = rows.loc[p.run_id], alone.loc[p.run_id]
        assert ours.status == theirs.status
        if ours.status == "finished":
            assert ours.loss == pytest.approx(theirs.loss, rel=2e-4)
        for column in ("steps", "tokens", "flops_exact", "flops_marginal", "tokens_unique"):
            assert ours[column] == theirs[column]
        a, b = (s.curves([p.run_id]).set_index("step") for s in (store, single))
        assert list(a.index) == list(b.index)
        if ours.status == "finished":
            np.testing.assert_allclose(a.train_loss, b.train_loss, rtol=1e-3)
    assert alone.loc[packed[3].run_id].status == "diverged"


def test_an_interrupted_pack_resumes_to_the_bit(tmp_path: Path) -> None:
    trials = [trial(seed=1), trial(seed=2, steps=40)]
    job = Job(planned=tuple(planned(t, Execution(micro_batch_tokens=128, pack=2)) for t in trials))
    whole, _ = run(job, tmp_path / "whole")
    store = Store.create(tmp_path / "cut")
    runner = JobRunner(job, store)
    runner.advance(0.0)
    assert runner.run is not None
    held = runner.run
    held.advance(lambda: held.step >= 25)
    runner.checkpoint()
    again, _ = run(job, tmp_path / "cut")
    for run_id in whole.index:
        assert again.loc[run_id].loss == whole.loc[run_id].loss


def trunk(steps: int) -> Trial:
    """A run of a warmup-stable-decay trunk."""
    return trial(steps=steps, schedule={"type": "wsd", "warmup_steps": 5, "decay_fraction": 0.25})


def branch(steps: int) -> int:
    """Steps that a run of the trunk shares with longer ones: all but its last quarter, the first rate of it whole."""
    at = trunk(steps).schedule.branch_step(steps)
    assert at is not None
    assert 0 <= at - 0.75 * steps <= 1
    return at


def test_runs_of_a_trunk_share_it_and_equal_runs_alone(tmp_path: Path) -> None:
    plan = [planned(trunk(s), Execution(micro_batch_tokens=128)) for s in (40, 60, 100)]
    assert len({p.lineage for p in plan}) == 1
    job = Job(planned=tuple(plan))
    shared, _ = run(job, tmp_path / "shared")
    marginal = job.flops_marginal
    for p in plan:
        alone, _ = run(Job(planned=(p,)), tmp_path / p.run_id)
        ours, theirs = shared.loc[p.run_id], alone.loc[p.run_id]
        assert ours.loss == theirs.loss
        assert ours.train_loss == theirs.train_loss
        assert ours.flops_exact == theirs.flops_exact == theirs.flops_marginal
        assert ours.flops_marginal == marginal[p.run_id]
    first, second, third = (shared.loc[p.run_id] for p in plan)
    assert first.flops_marginal == first.flops_exact
    kept = [branch(40), branch(60)]
    assert second.flops_marginal / second.flops_exact == pytest.approx((60 - kept[0]) / 60)
    assert third.flops_marginal / third.flops_exact == pytest.approx((100 - kept[1]) / 100)


def test_a_new_horizon_trains_only_what_is_missing(tmp_path: Path) -> None:
    first, second = (planned(trunk(s), Execution(micro_batch_tokens=128)) for s in (60, 100))
    run(Job(planned=(first,)), tmp_path / "s")
    rows, _ = run(Job(planned=(second,)), tmp_path / "s")
    row = rows.loc[second.run_id]
    assert json.loads(row.provenance)["branched_at"] == branch(60)
    assert row.flops_marginal / row.flops_exact == pytest.approx(1 - branch(60) / 100)
    alone, _ = run(Job(planned=(second,)), tmp_path / "alone")
    assert row.loss == alone.loc[second.run_id].loss


def test_an_interrupted_branch_still_costs_its_own_part_alone(tmp_path: Path) -> None:
    first, second = (planned(trunk(s), Execution(micro_batch_tokens=128)) for s in (60, 100))
    _, store = run(Job(planned=(first,)), tmp_path / "s")
    runner = JobRunner(Job(planned=(second,)), store)
    runner.advance(0.0)
    assert runner.run is not None
    held = runner.run
    held.advance(lambda: held.step >= 80)
    runner.checkpoint()
    rows, _ = run(Job(planned=(second,)), tmp_path / "s")
    row = rows.loc[second.run_id]
    assert row.flops_marginal / row.flops_exact == pytest.approx(1 - branch(60) / 100)


def test_the_kernel_is_chosen_where_it_serves_and_not_elsewhere() -> None:
    shape = {"type": "decoder", "n_layer": 1, "d_model": 16, "n_head": 2, "seq_len": 32}
    attention = [
        choose_execution(trial(**changes), 50).attention
        for changes in (
            {},
            {"precision": "fp64"},
            {"architecture": {**shape, "dropout": 0.1}},
            {"architecture": {**shape, "seq_len": 2048}, "batch_tokens": 2048},
        )
    ]
    native = "native" if can_compile() is None else "manual"
    assert attention == [native, "manual", native, "sdpa"]


@pytest.mark.parametrize(
    ("own", "precision", "computed"), [(False, "bf16", "fp32"), (True, "bf16", "bf16"), (False, "fp64", "fp64")]
)
def test_bf16_is_computed_in_float32_where_the_processor_has_none(
    own: bool, precision: str, computed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scaling.execution.multiplies_bf16", lambda: own)
    of = trial(precision=precision)
    execution = choose_execution(of, 50, compile_trials=False)
    assert (execution.compute or of.precision) == computed
    dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}
    assert StepFunction(of, 50, execution).model.compute_dtype == dtypes[computed]
    assert of.run_id("digest") == trial(precision=precision).run_id("digest")


def test_float32_in_place_of_bf16_has_the_bits_of_float32(tmp_path: Path) -> None:
    there, _ = run(Job(planned=(planned(trial(precision="fp32"), Execution()),)), tmp_path / "a")
    here, _ = run(Job(planned=(planned(trial(precision="bf16"), Execution(compute="fp32")),)), tmp_path / "b")
    assert list(there.loss) == list(here.loss)
    assert json.loads(here.execution.iloc[0])["compute"] == "fp32"
    assert json.loads(here.spec.iloc[0]).get("precision", "bf16") == "bf16"
