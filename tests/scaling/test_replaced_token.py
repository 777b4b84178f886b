"""Replaced-token detection: its labels, what flows where, its accounting, and the exact loss of an i.i.d. source."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from trial_world import finish, ready

from scaling.accounting import PARAM_GROUPS, training_flops
from scaling.architectures.transformer import Decoder, Encoder
from scaling.execution import can_compile
from scaling.job import Execution, Job, Planned
from scaling.models.replaced_token import ReplacedTokenModel, drawn
from scaling.objectives.base import Batch, Vocabulary
from scaling.objectives.masking import IGNORED
from scaling.objectives.replaced_token import ReplacedToken
from scaling.step import StepFunction
from scaling.store import Store
from scaling.trial import Trial

VOCAB = Vocabulary(size=40, n_ordinary=36, separator_id=38, mask_id=39)
SHAPE = Encoder(n_layer=2, d_model=32, n_head=4, seq_len=20)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "train-cache"))


def windows(count: int, seed: int = 0, seq_len: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCAB.n_ordinary, (count, seq_len)).astype(np.uint8)


def batch_of(objective: ReplacedToken, count: int = 3) -> Batch:
    return objective.train_batch(windows(count), VOCAB, np.random.default_rng(1))


def called(model: torch.nn.Module, batch: Batch) -> Tensor:
    named = {name: torch.from_numpy(array) for name, array in batch.named().items()}
    found: Tensor = model(named.pop("inputs"), named.pop("positions"), named.pop("targets"), **named)
    return found


def built(objective: ReplacedToken, shape: Encoder = SHAPE, seed: int = 0) -> ReplacedTokenModel:
    model = objective.build(shape, VOCAB.size, seed)
    assert isinstance(model, ReplacedTokenModel)
    return model


@pytest.mark.parametrize("over", ["all", "masked"])
def test_a_batch_holds_the_masked_text_the_text_and_the_noise(over: Any) -> None:
    objective = ReplacedToken(over=over)
    text = windows(200)
    batch = objective.train_batch(text, VOCAB, np.random.default_rng(1))
    assert batch.positions is not None
    assert batch.positions.shape == (200, 3)
    np.testing.assert_array_equal(batch.extra["original"], text)
    shown = np.take_along_axis(batch.inputs, batch.positions, 1)
    assert (shown == VOCAB.mask_id).all()
    hidden = np.zeros(text.shape, dtype=bool)
    np.put_along_axis(hidden, batch.positions, True, axis=1)
    np.testing.assert_array_equal(batch.inputs[~hidden], text[~hidden])
    judged = text if over == "all" else np.take_along_axis(text, batch.positions, 1)
    np.testing.assert_array_equal(batch.targets[:, : judged.shape[1]], judged)
    np.testing.assert_array_equal(batch.targets[:, judged.shape[1] :], np.take_along_axis(text, batch.positions, 1))
    assert judged.shape[1] == objective.predicted_per_window(20)
    assert objective.auxiliary(20) == {"generator": 3}
    noise = batch.extra["uniform"]
    assert noise.dtype == np.float32
    assert 0.0 <= noise.min() < 0.01 < 0.99 < noise.max() < 1.0


@pytest.mark.parametrize("over", ["all", "masked"])
def test_heldout_batches_judge_every_position_once(over: Any) -> None:
    objective = ReplacedToken(over=over)
    text = windows(7)
    batches = objective.heldout_batches(text, VOCAB, np.random.default_rng(2))
    assert len(batches) == objective.heldout_passes(20)
    counts = np.zeros(text.shape, dtype=int)
    for batch in batches:
        assert batch.positions is not None
        n = objective.predicted_per_window(20)
        places = np.broadcast_to(np.arange(20), text.shape) if over == "all" else batch.positions
        scored = batch.targets[:, :n] != IGNORED
        np.add.at(counts, (np.nonzero(scored)[0], places[scored]), 1)
    assert (counts == 1).all()


def test_draws_follow_the_softmax() -> None:
    """The inverse distribution function over an even grid of noise gives each token its share, to within one draw."""
    logits = torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    n = 10_000
    grid = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    counts = torch.bincount(drawn(logits.expand(n, -1), grid), minlength=7)
    torch.testing.assert_close(counts.double() / n, torch.softmax(logits, 0), rtol=0, atol=1.01 / n)
    never = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0]])
    last = torch.tensor([np.nextafter(np.float32(1), np.float32(0))])
    assert drawn(never, torch.tensor([0.0])).item() == 1
    assert drawn(never, last).item() == 3


def test_a_drawn_original_is_labelled_original() -> None:
    """A generator made to write one token: positions that held it count as original, the other masked ones do not."""
    objective = ReplacedToken(mask_rate=0.5)
    model = built(objective).double().eval()
    model.compute_dtype = torch.float64
    always = 5
    with torch.no_grad():
        model.generator.head_bias[always] = 1e4
    text = windows(40)
    text[0] = always
    text[:, ::2] = np.where(np.arange(10) % 2, always, text[:, ::2])
    batch = objective.train_batch(text, VOCAB, np.random.default_rng(3))
    assert batch.positions is not None
    corrupted = text.astype(np.int64)
    np.put_along_axis(corrupted, batch.positions, always, axis=1)
    replaced = torch.from_numpy(corrupted != text)
    masked = np.zeros(text.shape, dtype=bool)
    np.put_along_axis(masked, batch.positions, True, axis=1)
    assert 0 < int(replaced.sum()) < masked.sum()
    logits = model.judge(torch.from_numpy(corrupted), None)
    expected = torch.where(replaced, F.softplus(-logits), F.softplus(logits))
    torch.testing.assert_close(called(model, batch)[:, :20], expected)
    assert not replaced[0].any()


def gradients(loss: Tensor, model: torch.nn.Module) -> dict[str, float]:
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {n: 0.0 if g is None else float(g.abs().sum()) for n, g in zip(named, found, strict=True)}


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_each_loss_reaches_its_own_model_and_the_shared_embeddings(positions: Any) -> None:
    objective = ReplacedToken()
    model = built(objective, SHAPE.model_copy(update={"positions": positions}))
    losses = called(model, batch_of(objective))
    judging, guessing = gradients(losses[:, :20].sum(), model), gradients(losses[:, 20:].sum(), model)
    shared = {n for n in judging if n.endswith(("token_embedding", "position_embedding"))}
    assert len(shared) == (2 if positions == "learned" else 1)
    for name in judging:
        own = name.startswith("generator.")
        assert (judging[name] > 0) == (name in shared or not own), name
        assert (guessing[name] > 0) == (name in shared or own), name


@pytest.mark.parametrize("over", ["all", "masked"])
def test_the_training_loss_is_the_papers_sum(over: Any) -> None:
    objective = ReplacedToken(over=over, discriminator_weight=7.0)
    model, batch = built(objective), batch_of(objective)
    n = objective.predicted_per_window(20)
    trained = called(model, batch).sum() / (3 * n)
    nats = called(model.eval(), batch)
    assert float(trained.detach()) == pytest.approx(float((nats[:, n:].mean() + 7.0 * nats[:, :n].mean()).detach()))
    ignored = batch._replace(targets=np.full_like(batch.targets, IGNORED))
    assert not called(model, ignored).any()


def test_the_guesses_loss_is_the_generators_own_masked_model() -> None:
    objective = ReplacedToken()
    model, batch = built(objective).eval(), batch_of(objective)
    assert batch.positions is not None
    inputs, positions = torch.from_numpy(batch.inputs), torch.from_numpy(batch.positions)
    alone = model.generator(inputs, positions, torch.from_numpy(batch.targets[:, 20:]))
    torch.testing.assert_close(called(model, batch)[:, 20:], alone)


@st.composite
def shapes(draw: st.DrawFn) -> Encoder:
    n_head = draw(st.integers(1, 4))
    return Encoder(
        n_layer=draw(st.integers(1, 3)),
        d_model=2 * n_head * draw(st.integers(1, 6)),
        n_head=n_head,
        d_ff=draw(st.one_of(st.none(), st.integers(1, 40))),
        seq_len=draw(st.integers(4, 16)),
        positions=draw(st.sampled_from(["rotary", "learned", "t5"])),
        tied=draw(st.booleans()),
        activation=draw(st.sampled_from(["gelu", "swiglu", "gelu_exact"])),
        norm=draw(st.sampled_from(["rms", "layer"])),
        norm_placement=draw(st.sampled_from(["pre", "post"])),
        bias=draw(st.booleans()),
        embedding_size=draw(st.one_of(st.none(), st.integers(1, 24))),
        share=draw(st.sampled_from(["none", "all", "attention", "feed_forward"])),
    )


def group_of(name: str) -> str:
    part, _, rest = name.partition(".")
    if part.startswith("head") or (part == "generator" and "embedding" not in rest):
        return "head"
    if rest.startswith("token_"):
        return "head" if part == "generator" else "token_embedding"
    if "position_embedding" in rest or "relative_embedding" in rest:
        return "head" if part == "generator" else "position_embedding"
    return "discriminator"


@given(shapes(), st.sampled_from([0.1, 0.25, 0.5, 1.0]), st.sampled_from(["all", "masked"]))
@settings(max_examples=60, deadline=None)
def test_accounting_equals_the_model(shape: Encoder, width: float, over: Any) -> None:
    """Sizes by what is kept and what is not; FLOPs, forward and backward, as torch counts them."""
    objective = ReplacedToken(generator_width=width, over=over, mask_rate=0.3)
    model, stated = built(objective, shape), objective.params(shape, VOCAB.size)
    counted: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        counted[group_of(name)] = counted.get(group_of(name), 0) + parameter.numel()
    groups = stated.groups
    assert set(groups) == set(PARAM_GROUPS)
    assert stated.total == sum(counted.values())
    assert groups["head"] == counted["head"]
    assert groups["token_embedding"] == counted["token_embedding"]
    assert groups["position_embedding"] == counted.get("position_embedding", 0)
    assert groups["attention"] + groups["feed_forward"] + groups["norm"] == counted["discriminator"]
    assert stated.non_embedding == shape.params(VOCAB.size).non_embedding
    batch = objective.train_batch(windows(2, seq_len=shape.seq_len), VOCAB, np.random.default_rng(0))
    with FlopCounterMode(display=False) as counter:
        called(model, batch).sum().backward()
    assert counter.get_total_flops() == sum(training_flops(objective.forward_flops(shape, VOCAB.size, 2)).values())


def test_sizes_count_the_discriminator_alone_or_both() -> None:
    """`non_embedding_head` counts each matrix that multiplies, of discriminator, head and generator."""
    objective, d, e = ReplacedToken(), 32, 8
    stated = objective.params(SHAPE, 40)
    body, small = 2 * (4 * d * d + 8 * d * d), 2 * (4 * e * e + 8 * e * e)
    assert stated.non_embedding == body
    assert stated.non_embedding_head == body + (d * d + d) + small + (d * e + e * d + 40 * d)


@pytest.mark.parametrize(
    ("d_model", "n_head", "share", "width", "heads"),
    [
        (256, 4, 0.25, 64, 1),
        (768, 12, 1 / 3, 256, 4),
        (1024, 16, 0.25, 256, 4),
        (32, 2, 0.25, 8, 1),
        (64, 4, 1.0, 64, 4),
    ],
)
def test_generators_have_the_published_widths(d_model: int, n_head: int, share: float, width: int, heads: int) -> None:
    """Small, base and large of the paper's table 6: a quarter, a third and a quarter of the width."""
    shape = Encoder(n_layer=1, d_model=d_model, n_head=n_head, embedding_size=128 if d_model == 256 else None)
    found = ReplacedToken(generator_width=share).generator(shape)
    assert (found.d_model, found.n_head, found.ff) == (width, heads, 4 * width)
    assert found.embedding_width == shape.embedding_width


def test_what_cannot_be_trained_is_refused() -> None:
    objective = ReplacedToken()
    assert objective.serves(SHAPE) is None
    assert "encoder" in str(objective.serves(Decoder(n_layer=1, d_model=16, n_head=2)))
    assert "nothing to replace" in str(objective.serves(SHAPE.model_copy(update={"seq_len": 3})))


def planned(execution: Execution, **changes: Any) -> Planned:
    spec = {
        "architecture": {"type": "encoder", "n_layer": 1, "d_model": 32, "n_head": 2, "seq_len": 16},
        "objective": {"type": "replaced_token", "mask_rate": 0.25},
        "corpus": {
            "type": "markov",
            "order": 1,
            "symbols": 4,
            "tail": 1.0,
            "sharpness": 0.0,
            "n_documents": 4096,
            "document_length": 512,
        },
        "optimizer": {"type": "adamw", "lr": 0.01},
        "batch_tokens": 512,
        "steps": 300,
        "heldout": "nested",
        "precision": "fp32",
        **changes,
    }
    trial = Trial.model_validate_json(json.dumps(spec))
    return ready(trial, execution)


def run(plans: list[Planned], folder: Path) -> Store:
    return finish(folder, Job(planned=tuple(plans)))


def test_an_iid_source_leaves_the_label_entropy(tmp_path: Path) -> None:
    """Draws of a perfect generator look like the text: the loss is sum_x p(x) H(r (1 - p(x))), r the masked share.

    A token x is a replacement with probability r (1 - p(x)) whatever stands around it. The generator's own loss, kept
    beside it, is the entropy of a symbol.
    """
    plan = planned(Execution(micro_batch_tokens=512))
    store = run([plan], tmp_path / "s")
    row = store.rows().iloc[0]
    p = 1.0 / np.arange(1, 5)
    p /= p.sum()
    symbol, label = -float(p @ np.log(p)), 0.25 * (1 - p)
    entropy = float(-(p * (label * np.log(label) + (1 - label) * np.log(1 - label))).sum())
    assert row.status == "finished"
    assert abs(row.loss - entropy) < max(0.01, 4 * row.loss_se)
    assert row.train_loss == pytest.approx(50 * entropy + symbol, rel=0.03)
    own = store.evals([plan.run_id], "heldout_nats_generator")
    assert len(own) == 1
    assert abs(float(own["value"].iloc[0]) - symbol) < max(0.02, 4 * float(own["se"].iloc[0]))


def test_a_pack_equals_its_trials_run_alone() -> None:
    plans = [planned(Execution(), seed=seed) for seed in (0, 1)]
    trials, vocab_size = [p.trial for p in plans], plans[0].vocab_size
    batches = [
        t.objective.train_batch(windows(4, seed, 16) % 4, Vocabulary(vocab_size, 4, 5, 6), np.random.default_rng(seed))
        for seed, t in enumerate(trials)
    ]
    scale = torch.tensor(1.0)
    packed = StepFunction(trials[0], vocab_size, Execution(pack=2))
    theta = packed.initial(trials, vocab_size)
    together = packed.step(theta, packed.to_device(batches), scale)
    nats = packed.losses(theta, packed.to_device(batches))
    alone = StepFunction(trials[0], vocab_size, Execution())
    for index, batch in enumerate(batches):
        own = alone.initial([trials[index]], vocab_size)
        step = alone.step(own, alone.to_device([batch]), scale)
        torch.testing.assert_close(together.loss[index], step.loss, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(together.grad[index], step.grad, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(nats[index], alone.losses(own, alone.to_device([batch])), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(can_compile() is not None, reason=str(can_compile()))
def test_the_compiled_step_agrees_with_eager() -> None:
    plan = planned(Execution())
    objective, vocab_size = plan.trial.objective, plan.vocab_size
    batch = objective.train_batch(windows(4, 0, 16) % 4, Vocabulary(vocab_size, 4, 5, 6), np.random.default_rng(0))
    found = []
    for compiled in (False, True):
        function = StepFunction.of(plan.trial, vocab_size, Execution(compiled=compiled, attention="native"))
        theta = function.initial([plan.trial], vocab_size)
        found.append(function.step(theta, function.to_device([batch]), torch.tensor(1 / 64)))
    assert float(found[1].loss) == pytest.approx(float(found[0].loss), rel=1e-5)
    assert float((found[1].grad - found[0].grad).norm() / found[0].grad.norm()) < 1e-4
    assert math.isfinite(float(found[0].loss))
