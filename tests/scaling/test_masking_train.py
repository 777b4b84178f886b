"""Masked objectives end to end, against the exact posterior of a Markov source given what a mask leaves visible."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trial_world import WORDS, finish, ready

from scaling.corpora.markov import ALPHABET, Markov
from scaling.corpora.prepare import prepare
from scaling.course import Course
from scaling.evaluate import DOCUMENT_METRIC, MASK_SEED, HeldOutLoss, clustered, paired_difference
from scaling.job import Execution, Job, Planned
from scaling.objectives.masking import IGNORED
from scaling.step import StepFunction
from scaling.store import Store
from scaling.trial import Trial

SOURCE = {"type": "markov", "order": 1, "symbols": 8, "n_documents": 200, "document_length": 1024}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "train-cache"))


def planned(objective: dict[str, Any], execution: Execution | None = None, **changes: Any) -> Planned:
    spec = {
        "architecture": {"type": "encoder", "n_layer": 1, "d_model": 16, "n_head": 2, "seq_len": 32},
        "objective": objective,
        "corpus": SOURCE,
        "optimizer": {"type": "adamw", "lr": 0.01},
        "batch_tokens": 512,
        "steps": 100,
        "heldout": "nested",
        "precision": "fp32",
        **changes,
    }
    trial = Trial.model_validate_json(json.dumps(spec))
    return ready(trial, execution or Execution(micro_batch_tokens=trial.batch_tokens))


def run(folder: Path, *plans: Planned) -> tuple[list[dict[str, Any]], Store]:
    store = finish(folder, Job(planned=plans))
    rows = store.rows().set_index("run_id")
    return [{str(name): value for name, value in rows.loc[p.run_id].items()} for p in plans], store


def posterior_surprisal(source: Markov, windows: np.ndarray, inputs: np.ndarray, mask_id: int) -> np.ndarray:
    """(W, T) exact −log p(x_t | all visible tokens) in nats at masked positions, 0 elsewhere; masks show nothing.

    Given its nearest visible neighbours at distances i and j, p(b) ∝ P^i(a, b) P^j(b, c); the stationary law stands in
    where there is none to the left, and 1 where there is none to the right.
    """
    chain, n = source.chain(), source.symbols
    lookup = np.full(256, -1, np.int64)
    lookup[np.frombuffer(ALPHABET[:n].encode(), np.uint8)] = np.arange(n)
    length = windows.shape[1]
    powers = np.stack([np.linalg.matrix_power(chain.table, k) for k in range(length + 1)])
    symbols, visible = lookup[windows], inputs != mask_id
    assert (symbols >= 0).all()
    place = np.arange(length)
    left = np.maximum.accumulate(np.where(visible, place, -1), axis=1)
    right = np.minimum.accumulate(np.where(visible, place, length)[:, ::-1], axis=1)[:, ::-1]
    out = np.zeros(windows.shape)
    for w, t in np.argwhere(~visible):
        i, j = left[w, t], right[w, t]
        before = chain.stationary if i < 0 else powers[t - i][symbols[w, i]]
        after = np.ones(n) if j == length else powers[j - t][:, symbols[w, j]]
        weight = before * after
        out[w, t] = math.log(weight.sum() / weight[symbols[w, t]])
    return out


def document_losses(store: Store, run_id: str) -> HeldOutLoss:
    table = store.evals([run_id], DOCUMENT_METRIC).sort_values("x")
    return clustered(table.x.to_numpy(), table.value.to_numpy(), table.n.to_numpy())


@pytest.mark.parametrize(
    ("name", "steps", "within"),
    [("masked", 500, 0.1), ("span_boundary", 100, 0.6)],
)
def test_no_model_beats_the_exact_posterior_and_a_trained_one_approaches_it(
    name: str, steps: int, within: float, tmp_path: Path
) -> None:
    """On the same masked tokens, paired by document; and the posterior itself exceeds H(x_t | x_{t−1}, x_{t+1})."""
    shape = {"type": "encoder", "n_layer": 2, "d_model": 32, "n_head": 2, "seq_len": 32}
    objective = {"type": name, "mask_rate": 0.3, "mask_share": 1.0, "random_share": 0.0}
    corpus = {**SOURCE, "n_documents": 700}
    plan = planned(objective, architecture=shape, corpus=corpus, batch_tokens=1024, steps=steps, heldout="full")
    (row,), store = run(tmp_path / "store", plan)
    source = plan.trial.corpus
    assert isinstance(source, Markov)
    found = prepare(source, plan.trial.tokenizer)
    held = found.heldout(32, 32)
    rng = np.random.Generator(np.random.Philox(key=np.array([MASK_SEED, 0], dtype=np.uint64)))
    windows, mask_id = np.asarray(held.windows), found.vocabulary.mask_id
    size = plan.trial.objective.predicted_per_window(32)
    true = np.zeros(len(windows))
    for batch in plan.trial.objective.heldout_batches(windows, found.vocabulary, rng):
        assert batch.positions is not None
        exact = posterior_surprisal(source, windows, batch.inputs, mask_id)
        scored = batch.targets[:, :size] != IGNORED
        true += np.where(scored, np.take_along_axis(exact, batch.positions, 1), 0.0).sum(axis=1)
    truth = clustered(held.document, true, np.full(len(true), 32.0))
    excess, se = paired_difference(document_losses(store, plan.run_id), truth)
    assert row["loss"] == pytest.approx(truth.loss + excess, abs=1e-6)
    assert -3 * se < excess < within
    table, law = source.chain().table, source.chain().stationary
    # H(b | a, c) of a, b, c in a row: joint π(a) P(a, b) P(b, c) over its sum over b.
    joint = law[:, None, None] * table[:, :, None] * table[None]
    neighbours = float(-(joint * np.log(joint / joint.sum(axis=1, keepdims=True))).sum())
    assert truth.loss > neighbours - 3 * truth.se
    assert row["loss"] > neighbours - 3 * truth.se
    assert math.log(8) - truth.loss > 0.2


@pytest.mark.parametrize(
    ("objective", "beside"),
    [
        ({"type": "masked", "unit": "whole_word"}, {}),
        ({"type": "masked", "unit": "span", "mask_rate": 0.4}, {}),
        ({"type": "masked_pairs", "pair": "nsp"}, {"nsp": 0.75}),
        ({"type": "masked_pairs", "pair": "sop"}, {"sop": 0.75}),
        ({"type": "masked_pairs", "pair": "none"}, {}),
        ({"type": "span_boundary"}, {"span_boundary": 5.6}),
    ],
    ids=lambda o: "-".join(str(v) for v in o.values()),
)
def test_a_tiny_run_learns(objective: dict[str, Any], beside: dict[str, float], tmp_path: Path) -> None:
    """From ln 256 nats toward the source's; what a run predicts beside its loss is measured apart."""
    plan = planned(objective)
    (row,), store = run(tmp_path / "store", plan)
    curve = store.curves([plan.run_id])
    assert row["status"] == "finished"
    assert row["loss"] < 3.0
    assert curve.train_loss.iloc[-1] < 0.6 * curve.train_loss.iloc[0]
    assert math.isnan(row["bits_per_byte"])
    size = plan.trial.objective.predicted_per_window(32)
    assert row["tokens_predicted"] == row["tokens"] // 32 * size
    for name, most in beside.items():
        found = store.evals([plan.run_id], f"heldout_nats_{name}")
        assert len(found) == 1
        assert 0.0 < found.value.iloc[0] < most


def test_translation_is_learned_on_parallel_text_and_plain_masking_reads_it_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, rng.integers(2, 6))) + f" {i}" for i in range(600)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    (tmp_path / "b.txt").write_text("\n".join(lines).upper())
    corpus = {"type": "parallel", "first": str(tmp_path / "a.txt"), "second": str(tmp_path / "b.txt")}
    shape = {"type": "encoder", "n_layer": 1, "d_model": 16, "n_head": 2, "seq_len": 48, "positions": "learned"}
    changes: dict[str, Any] = {"corpus": corpus, "architecture": shape, "batch_tokens": 480, "repeat": True}
    plans = [planned({"type": name}, **changes) for name in ("translation_masked", "masked")]
    for plan in plans:
        (row,), store = run(tmp_path / plan.trial.objective.type, plan)
        assert row["status"] == "finished"
        assert row["loss"] < 4.0
        assert row["train_loss"] == pytest.approx(row["loss"], abs=0.3)
        assert store.curves([plan.run_id]).train_loss.iloc[0] > 5.0


@pytest.mark.parametrize("name", ["masked_pairs", "span_boundary", "translation_masked"])
def test_models_side_by_side_give_the_losses_and_gradients_of_each_alone(name: str, tmp_path: Path) -> None:
    lines = "\n".join(f"{a} {b} {a}" for a in WORDS for b in WORDS)
    for side in ("a.txt", "b.txt"):
        (tmp_path / side).write_text(lines if side == "a.txt" else lines.upper())
    parallel = {"type": "parallel", "first": str(tmp_path / "a.txt"), "second": str(tmp_path / "b.txt")}
    corpus = parallel if name == "translation_masked" else SOURCE
    shape = {"type": "encoder", "n_layer": 1, "d_model": 16, "n_head": 2, "seq_len": 32, "positions": "learned"}
    changes: dict[str, Any] = {"corpus": corpus, "architecture": shape, "batch_tokens": 128, "repeat": True}
    trials = [planned({"type": name}, seed=seed, **changes).trial for seed in (1, 2)]
    courses = [Course(planned({"type": name}, seed=seed, **changes)) for seed in (1, 2)]
    batches, scale = [course.batch(3) for course in courses], torch.tensor(1 / 16)
    size = courses[0].vocab.size
    together = StepFunction(trials[0], size, Execution(micro_batch_tokens=128, pack=2))
    theta = together.initial(trials, size)
    packed = together.step(theta, together.to_device(batches), scale)
    scored = together.losses(theta, together.to_device(batches))
    for index, (trial, batch) in enumerate(zip(trials, batches, strict=True)):
        alone = StepFunction(trial, size, Execution(micro_batch_tokens=128))
        single = alone.step(theta[index], alone.to_device([batch]), scale)
        torch.testing.assert_close(packed.loss[index], single.loss)
        torch.testing.assert_close(packed.grad[index], single.grad, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(scored[index], alone.losses(theta[index], alone.to_device([batch])))
