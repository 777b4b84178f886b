"""Encoder–decoders and prefix decoders end to end: on local text the loss falls, resumes to the bit, packs alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trial_world import finish, ready

from scaling.corpora.markov import Markov
from scaling.corpora.prepare import prepare
from scaling.cost import trial_flops
from scaling.course import Course
from scaling.evaluate import DOCUMENT_METRIC, clustered, heldout_loss, paired_difference
from scaling.job import Execution, Job, Planned
from scaling.job_runner import JobRunner
from scaling.objectives.base import Batch
from scaling.step import StepFunction
from scaling.store import Store
from scaling.trial import Trial

WORDS = ["the", "cat", "sat", "on", "a", "mat", "while", "some", "dog", "ran", "after", "it", "and", "then", "all"]
PAIR = {"type": "encoder_decoder", "n_layer": 1, "d_model": 16, "n_head": 2, "seq_len": 32}
PREFIX = {**PAIR, "type": "prefix_decoder"}
RECIPES: dict[str, tuple[dict[str, Any], Any]] = {
    "t5": ({**PAIR, "positions": "t5", "relative_buckets": 8, "relative_distance": 16}, "span_corruption"),
    "t5-prefix": (PREFIX, "span_corruption"),
    "bart": ({**PAIR, "positions": "learned", "norm": "layer", "bias": True, "tied": True}, "denoising"),
    "bart-deletion": (PAIR, {"type": "denoising", "noises": ["deletion", "rotation"]}),
    "prefix": (PREFIX, "prefix"),
    "prefix-share": (PREFIX, {"type": "prefix", "prefix_share": 0.25}),
}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "train-cache"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A small folder of sentences."""
    folder = tmp_path_factory.mktemp("text")
    rng = np.random.default_rng(0)
    for number in range(400):
        sentences = (" ".join(rng.choice(WORDS, 7)).capitalize() + "." for _ in range(24))
        (folder / f"{number:03}.txt").write_text(f"{number} " + " ".join(sentences))
    return {"type": "local", "path": str(folder)}


def planned(recipe: str, corpus: dict[str, Any], execution: Execution | None = None, **changes: Any) -> Planned:
    architecture, objective = RECIPES[recipe]
    spec = {
        "architecture": architecture,
        "objective": objective,
        "corpus": corpus,
        "optimizer": {"type": "adamw", "lr": 0.01},
        "batch_tokens": 256,
        "steps": 40,
        "heldout": "nested",
        "precision": "fp32",
        **changes,
    }
    trial = Trial.model_validate_json(json.dumps(spec))
    return ready(trial, execution or Execution(micro_batch_tokens=128))


def run(plans: list[Planned], folder: Path) -> tuple[Any, Store]:
    store = finish(folder, Job(planned=tuple(plans)))
    return store.rows().set_index("run_id"), store


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_lowers_the_loss_and_resumes_to_the_bit(recipe: str, corpus: dict[str, Any], tmp_path: Path) -> None:
    plan = planned(recipe, corpus)
    rows, store = run([plan], tmp_path / "a")
    row = rows.loc[plan.run_id]
    assert row.status == "finished", row.reason
    curve = store.curves([plan.run_id])
    first, last = curve.train_loss.iloc[0], curve.train_loss.iloc[-5:].mean()
    assert last < first - 0.8
    assert abs(row.loss - last) < 0.4
    assert np.isnan(row.bits_per_byte)
    assert row.tokens == 40 * 256
    assert row.tokens_predicted == 40 * 8 * plan.trial.objective.predicted_per_window(32)
    assert row.flops_exact == sum(trial_flops(plan.trial, plan.vocab_size).values())
    other = Store.create(tmp_path / "b")
    runner = JobRunner(Job(planned=(plan,)), other)
    runner.advance(0.0)
    assert runner.run is not None
    held = runner.run
    held.advance(lambda: held.step >= 17)
    runner.checkpoint()
    again, _ = run([plan], tmp_path / "b")
    assert again.loc[plan.run_id].loss == row.loss
    assert again.loc[plan.run_id].train_loss == row.train_loss


def test_prefix_decoders_approach_a_source_of_known_entropy(tmp_path: Path) -> None:
    """Against the exact −log p of the scored tokens; of a chain of order 1 the prefix tells no more than its end."""
    source = {"type": "markov", "order": 1, "symbols": 8, "n_documents": 2048, "document_length": 1024}
    changes = {"architecture": {**PREFIX, "n_layer": 2, "d_model": 32}, "batch_tokens": 512, "steps": 500}
    plan = planned("prefix", source, Execution(micro_batch_tokens=512), **changes)
    trial = plan.trial
    rows, store = run([plan], tmp_path)
    assert isinstance(trial.corpus, Markov)
    corpus = prepare(trial.corpus, trial.tokenizer)
    held = corpus.heldout(33, 32, "nested")

    def surprisal(batch: Batch) -> np.ndarray:
        assert isinstance(trial.corpus, Markov)
        return trial.corpus.surprisal(np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1))

    true = heldout_loss(surprisal, trial.objective, corpus.vocabulary, held.windows, held.document, 64)
    assert true is not None
    table = store.evals([plan.run_id], DOCUMENT_METRIC).sort_values("x")
    found = clustered(table.x.to_numpy(), table.value.to_numpy(), table.n.to_numpy())
    excess, se = paired_difference(found, true)
    assert rows.loc[plan.run_id].loss == pytest.approx(true.loss + excess, abs=1e-6)
    assert -3 * se < excess < 0.04


@pytest.mark.parametrize("recipe", ["t5", "bart", "prefix", "t5-prefix"])
def test_a_pack_gives_the_rows_of_its_trials_run_alone(recipe: str, corpus: dict[str, Any], tmp_path: Path) -> None:
    def plans(pack: int) -> list[Planned]:
        execution = Execution(micro_batch_tokens=128, pack=pack)
        return [planned(recipe, corpus, execution, seed=1), planned(recipe, corpus, execution, seed=2, steps=30)]

    packed, _ = run(plans(2), tmp_path / "pack")
    alone, _ = run(plans(1), tmp_path / "alone")
    assert set(packed.index) == set(alone.index)
    for run_id in alone.index:
        assert packed.loc[run_id].loss == pytest.approx(alone.loc[run_id].loss, rel=2e-4)
        assert packed.loc[run_id].flops_exact == alone.loc[run_id].flops_exact


def test_a_graph_agrees_with_eager(corpus: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and gradient of a batch with sources of unequal length; the graph is run as traced, not compiled."""
    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", lambda graph, arguments: graph)
    plan = planned("bart", corpus)
    trial, size = plan.trial, plan.vocab_size
    batch = Course(plan).batch(0)
    assert len(set(batch.extra["lengths"])) > 1
    found = []
    for compiled in (False, True):
        function = StepFunction(trial, size, Execution(compiled=compiled))
        found.append(function.step(function.initial([trial], size), function.to_device([batch]), torch.ones(())))
    (loss, grad), (loss_c, grad_c) = found
    assert float(loss_c) == pytest.approx(float(loss), rel=1e-5)
    assert float((grad_c - grad).norm() / grad.norm()) < 1e-4


@pytest.mark.parametrize(
    ("architecture", "objective", "message"),
    [
        (PREFIX, "denoising", "objective denoising cannot train prefix_decoder: .* use architecture encoder_decoder"),
        (PAIR, "causal", "objective causal cannot train encoder_decoder: .* use architecture decoder"),
        (PAIR, "prefix", "use architecture prefix_decoder"),
        ({**PAIR, "seq_len": 16}, "span_corruption", "less than one span of mean_span 3 tokens; lengthen the window"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(
    architecture: dict[str, Any], objective: str, message: str, corpus: dict[str, Any]
) -> None:
    spec = {
        "architecture": architecture,
        "objective": objective,
        "corpus": corpus,
        "optimizer": {"type": "adamw", "lr": 0.01},
        "batch_tokens": 256,
        "steps": 40,
    }
    with pytest.raises(ValueError, match=message):
        Trial.model_validate_json(json.dumps(spec))
