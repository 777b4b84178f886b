"""Training end to end on sources whose truth is known: bits on resume, the entropy bound, divergence, failure."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from trial_world import finish, ready

from scaling.corpora.markov import Markov
from scaling.corpora.prepare import prepare
from scaling.errors import CorpusError
from scaling.evaluate import DOCUMENT_METRIC, HeldOutLoss, clustered, paired_difference
from scaling.execution import can_compile
from scaling.job import Execution, Job, Planned
from scaling.job_runner import JobRunner
from scaling.store import Store
from scaling.trial import Trial

SOURCE = {"type": "markov", "order": 1, "symbols": 8, "n_documents": 2048, "document_length": 1024}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "train-cache"))


def planned(execution: Execution | None = None, **changes: Any) -> Planned:
    spec = {
        "architecture": {"type": "decoder", "n_layer": 1, "d_model": 16, "n_head": 2, "seq_len": 32},
        "objective": "causal",
        "corpus": SOURCE,
        "optimizer": {"type": "adamw", "lr": 0.01},
        "batch_tokens": 128,
        "steps": 60,
        "heldout": "nested",
        "precision": "fp32",
        **changes,
    }
    trial = Trial.model_validate_json(json.dumps(spec))
    return ready(trial, execution or Execution(micro_batch_tokens=128))


def run(plan: Planned, folder: Path) -> tuple[dict[str, Any], Store]:
    store = finish(folder, plan)
    rows = store.rows()
    return rows[rows.run_id == plan.run_id].iloc[0].to_dict(), store


def interrupted(plan: Planned, folder: Path, stops: list[int]) -> tuple[dict[str, Any], Store]:
    """Runs to each of `stops`, checkpoints, and starts again with a new runner, as after a kill."""
    store = Store.create(folder)
    for stop in stops:
        runner = JobRunner(Job(planned=(plan,)), store)
        runner.advance(0.0)
        assert runner.run is not None
        held = runner.run
        held.advance(lambda held=held, stop=stop: held.step >= stop)
        runner.checkpoint()
    return run(plan, folder)


DROPOUT = {"type": "decoder", "n_layer": 2, "d_model": 16, "n_head": 2, "seq_len": 32, "dropout": 0.2}
ENCODER = {"type": "encoder", "n_layer": 1, "d_model": 16, "n_head": 2, "seq_len": 32}


@pytest.mark.parametrize(
    ("changes", "draws"),
    [
        ({}, None),
        ({"precision": "bf16"}, None),
        ({"architecture": DROPOUT}, None),
        ({"architecture": DROPOUT}, "ahead"),
        ({"architecture": ENCODER, "objective": "masked"}, None),
    ],
    ids=["plain", "bf16", "dropout", "dropout ahead", "masked"],
)
def test_resumed_equals_uninterrupted(changes: dict[str, Any], draws: Literal["ahead"] | None, tmp_path: Path) -> None:
    plan = planned(Execution(micro_batch_tokens=64, dropout=draws), **changes)
    straight, first = run(plan, tmp_path / "a")
    resumed, second = interrupted(plan, tmp_path / "b", [7, 20, 59])
    assert straight["loss"] == resumed["loss"]
    assert straight["train_loss"] == resumed["train_loss"]
    a, b = (s.curves([plan.run_id]).drop(columns="elapsed_s") for s in (first, second))
    assert a.equals(b)
    assert second.load_checkpoint(plan.run_id) is None


def test_a_stop_during_evaluation_keeps_the_weights(tmp_path: Path) -> None:
    """Evaluation is left at once, nothing is published, and the rerun only evaluates."""
    plan = planned()
    straight, _ = run(plan, tmp_path / "a")
    store = Store.create(tmp_path / "b")
    runner = JobRunner(Job(planned=(plan,)), store)
    runner.advance(0.0)
    assert runner.run is not None
    runner.run.advance(lambda: False)
    assert runner.run.ended
    assert runner.advance(60.0, lambda: True).done is False
    assert store.done() == {}
    again, _ = run(plan, tmp_path / "b")
    assert again["loss"] == straight["loss"]


@pytest.mark.skipif(can_compile() is not None, reason=str(can_compile()))
def test_compiled_agrees_with_eager_and_resumes_to_the_bit(tmp_path: Path) -> None:
    eager, _ = run(planned(), tmp_path / "eager")
    execution = Execution(compiled=True, micro_batch_tokens=128)
    straight, _ = run(planned(execution), tmp_path / "a")
    resumed, _ = interrupted(planned(execution), tmp_path / "b", [20])
    assert straight["loss"] == resumed["loss"]
    assert straight["loss"] == pytest.approx(eager["loss"], abs=2e-3)


def test_micro_batches_add_up_to_the_batch(tmp_path: Path) -> None:
    whole, _ = run(planned(precision="fp64"), tmp_path / "whole")
    parts, _ = run(planned(Execution(micro_batch_tokens=32), precision="fp64"), tmp_path / "parts")
    assert parts["loss"] == pytest.approx(whole["loss"], abs=1e-9)


def document_losses(store: Store, run_id: str) -> HeldOutLoss:
    table = store.evals([run_id], DOCUMENT_METRIC).sort_values("x")
    return clustered(table.x.to_numpy(), table.value.to_numpy(), table.n.to_numpy())


def test_no_model_beats_the_true_source_and_a_trained_one_approaches_it(tmp_path: Path) -> None:
    """Paired by document on the same tokens, against the exact −log p of the source seeing the same window."""
    changes = {
        "architecture": {"type": "decoder", "n_layer": 2, "d_model": 32, "n_head": 2, "seq_len": 32},
        "batch_tokens": 1024,
        "steps": 900,
    }
    plan = planned(Execution(micro_batch_tokens=1024), **changes)
    row, store = run(plan, tmp_path / "store")
    assert isinstance(plan.trial.corpus, Markov)
    held = prepare(plan.trial.corpus, plan.trial.tokenizer).heldout(33, 32, "nested")
    truth = plan.trial.corpus.surprisal(np.asarray(held.windows))
    true = clustered(held.document, truth.sum(1), np.full(len(truth), 32.0))
    excess, se = paired_difference(document_losses(store, plan.run_id), true)
    assert row["loss"] == pytest.approx(true.loss + excess, abs=1e-6)
    assert excess > -3 * se
    assert excess < 0.02
    assert math.log(8) - true.loss > 0.3


def test_row_states_every_convention(tmp_path: Path) -> None:
    plan = planned()
    row, store = run(plan, tmp_path / "store")
    assert row["status"] == "finished"
    assert row["flops_exact"] == sum(v for k, v in row.items() if k.startswith("flops_exact_"))
    assert row["params_total"] == 256 * 16 * 2 + 12 * 16**2 + 3 * 16
    assert row["flops_6nd_total"] == 6 * row["params_total"] * row["tokens"]
    assert (row["tokens"], row["tokens_predicted"], row["steps"]) == (7680, 7680, 60)
    assert row["bits_per_byte"] == pytest.approx(row["loss"] / math.log(2))
    assert document_losses(store, plan.run_id).se == pytest.approx(row["loss_se"])
    assert store.curves([plan.run_id]).step.iloc[-1] == 60


def test_masked_rows_claim_no_bits_per_byte(tmp_path: Path) -> None:
    shape = {"type": "encoder", "n_layer": 1, "d_model": 16, "n_head": 2, "seq_len": 32}
    row, _ = run(planned(architecture=shape, objective="masked"), tmp_path / "store")
    assert math.isnan(row["bits_per_byte"])
    assert row["tokens_predicted"] == row["tokens"] // 32 * round(0.15 * 32)


def test_divergence_ends_a_trial_and_is_recorded(tmp_path: Path) -> None:
    row, _ = run(planned(optimizer={"type": "adamw", "lr": 1e6, "clip": None}), tmp_path / "store")
    assert row["status"] == "diverged"
    assert "step" in row["reason"]
    assert math.isnan(row["loss"])


def test_a_changed_corpus_fails_the_trial_by_name(tmp_path: Path) -> None:
    plan = planned().model_copy(update={"data_digest": "0" * 16})
    store = Store.create(tmp_path / "store")
    runner = JobRunner(Job(planned=(plan,)), store)
    assert runner.advance(1.0).statuses == {plan.run_id: "failed"}
    assert "changed under the sweep" in store.failed()[plan.run_id]
    assert store.done() == {}


def test_too_short_a_corpus_is_an_error_unless_repeated(tmp_path: Path) -> None:
    from scaling.corpora.order import check_supply

    short = planned(corpus={**SOURCE, "unique_tokens": 2000})
    with pytest.raises(CorpusError, match="2,000 are available"):
        check_supply(short.trial.tokens, prepare(short.trial.corpus, short.trial.tokenizer), 2000, False)
    row, _ = run(planned(corpus={**SOURCE, "unique_tokens": 2000}, repeat=True), tmp_path / "store")
    assert row["tokens_unique"] == 2000
    assert row["epochs"] == pytest.approx(7680 / 2000)
