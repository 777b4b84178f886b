"""Encoder–decoder and prefix decoder: the built modules against their accounting, and what each position sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from scaling.accounting import PARAM_GROUPS, training_flops
from scaling.architectures.encoder_decoder import EncoderDecoder
from scaling.architectures.prefix_decoder import PrefixDecoder
from scaling.models.attention import available
from scaling.objectives.base import Objective, Vocabulary
from scaling.objectives.denoising import Denoising
from scaling.objectives.prefix import Prefix
from scaling.objectives.span_corruption import SpanCorruption

VOCAB = 40
OBJECTIVES: list[Objective] = [
    SpanCorruption(),
    SpanCorruption(noise_density=0.4, mean_span=2.0),
    Denoising(),
    Denoising(noises=("deletion", "rotation")),
    Denoising(noises=("masking",)),
]
PREFIXES: list[Objective] = [SpanCorruption(), Prefix(), Prefix(prefix_share=0.3)]


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    n_head = draw(st.integers(1, 3))
    return {
        "n_layer": draw(st.integers(1, 3)),
        "d_model": 2 * n_head * draw(st.integers(1, 5)),
        "n_head": n_head,
        "d_ff": draw(st.one_of(st.none(), st.integers(1, 30))),
        "seq_len": draw(st.integers(20, 40)),
        "positions": draw(st.sampled_from(["rotary", "learned", "sinusoidal", "alibi", "t5", "none"])),
        "tied": draw(st.booleans()),
        "activation": draw(st.sampled_from(["gelu", "gelu_exact", "relu", "swiglu"])),
        "norm": draw(st.sampled_from(["rms", "layer"])),
        "norm_placement": draw(st.sampled_from(["pre", "post"])),
        "bias": draw(st.booleans()),
        "embedding_norm": draw(st.booleans()),
        "embedding_size": draw(st.one_of(st.none(), st.integers(1, 8))),
        "share": draw(st.sampled_from(["none", "all", "attention", "feed_forward"])),
    }


@st.composite
def pairs(draw: st.DrawFn) -> EncoderDecoder:
    return EncoderDecoder(
        **draw(fields()),
        decoder_layers=draw(st.one_of(st.none(), st.integers(1, 3))),
        shared_embeddings=draw(st.booleans()),
        local_window=draw(st.one_of(st.none(), st.integers(1, 50))),
    )


def group_of(name: str) -> str:
    """The group of a parameter, by the last part of its name."""
    last = name.rsplit(".", 1)[-1]
    if last.startswith(("token_", "position_", "relative_", "head")) or last in ("gain", "bias"):
        return "norm" if last in ("gain", "bias") else last.split("_")[0]
    if last.endswith("bias"):
        return "norm"
    return "feed_forward" if last.startswith("ff_") else "attention"


GROUPS = {
    "token": "token_embedding",
    "position": "position_embedding",
    "relative": "position_embedding",
    "head": "head",
    "norm": "norm",
    "feed_forward": "feed_forward",
    "attention": "attention",
}


def agrees(shape: EncoderDecoder | PrefixDecoder, objective: Objective) -> nn.Module:
    """Builds the model and checks its parameters by group against the accounting."""
    model = objective.build(shape, VOCAB, 0)
    counted: dict[str, int] = dict.fromkeys(PARAM_GROUPS, 0)
    for name, parameter in model.named_parameters():
        counted[GROUPS[group_of(name)]] += parameter.numel()
    stated = objective.params(shape, VOCAB)
    assert counted == dict(stated.groups)
    return model


def ids(windows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCAB, (windows, length), generator=torch.Generator().manual_seed(seed))


@given(pairs(), st.sampled_from(OBJECTIVES), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_pair_accounting_equals_the_module(shape: EncoderDecoder, objective: Objective, windows: int) -> None:
    """Parameters by group, FLOPs by torch's counter, forward and backward; and every parameter has a gradient."""
    assert objective.serves(shape) is None
    model = agrees(shape, objective)
    assert isinstance(objective, SpanCorruption | Denoising)
    source, target = objective.sizes(shape.seq_len)
    lengths = {"lengths": torch.full((windows,), source)} if objective == Denoising() else {}
    with FlopCounterMode(display=False) as counter:
        targets = ids(windows, target)
        loss = model(ids(windows, source), None, targets, decoder_inputs=targets, **lengths)
        assert loss.shape == (windows, target)
        loss.sum().backward()
    stated = training_flops(objective.forward_flops(shape, VOCAB, windows))
    assert counter.get_total_flops() == sum(stated.values())
    assert all(p.grad is not None for p in model.parameters())


@given(fields(), st.sampled_from(PREFIXES), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_prefix_accounting_equals_the_module(shape: dict[str, Any], objective: Objective, windows: int) -> None:
    decoder = PrefixDecoder(**shape)
    model = agrees(decoder, objective)
    with FlopCounterMode(display=False) as counter:
        if isinstance(objective, SpanCorruption):
            source, target = objective.sizes(decoder.seq_len)
            targets = ids(windows, target)
            loss = model(ids(windows, source), None, targets, decoder_inputs=targets)
        else:
            assert isinstance(objective, Prefix)
            words = ids(windows, decoder.seq_len + 1).numpy()
            batch = objective.train_batch(words, Vocabulary(VOCAB, VOCAB, 0, 1), np.random.default_rng(0))
            named = {name: torch.from_numpy(array) for name, array in batch.named().items()}
            loss = model(named.pop("inputs"), named.pop("positions", None), named.pop("targets"), **named)
        loss.sum().backward()
    stated = training_flops(objective.forward_flops(decoder, VOCAB, windows))
    assert counter.get_total_flops() == sum(stated.values())


def needs_kernel(attention: str, head_width: int) -> None:
    if attention == "native" and not available(head_width):
        pytest.skip("no C++ compiler on this machine")


def seen_by(output: Tensor, inputs: Tensor) -> Tensor:
    """(U, S) bool: which rows of `inputs` (1, S, D) have any gradient in each row of `output` (1, U, D)."""
    rows = []
    for t in range(output.shape[1]):
        (gradient,) = torch.autograd.grad(output[0, t].square().sum(), inputs, retain_graph=True)
        rows.append(gradient[0].abs().sum(-1) > 0)
    return torch.stack(rows)


@pytest.mark.parametrize("attention", ["manual", "sdpa", "native"])
@pytest.mark.parametrize(("positions", "length"), [("rotary", None), ("learned", 4), ("t5", 4)])
def test_the_target_sees_its_past_and_all_of_the_source(attention: str, positions: str, length: int | None) -> None:
    """Gradients by what may not be seen, the padding of a source among it, are exactly zero."""
    needs_kernel(attention, 8)
    shape = EncoderDecoder(n_layer=2, d_model=8, n_head=1, positions=positions)  # type: ignore[arg-type]
    dtype = torch.float32 if attention == "native" else torch.float64
    model: Any = shape.build(VOCAB, 1, (6, 5)).to(dtype)
    model.compute_dtype, model.attention = dtype, attention
    lengths = None if length is None else torch.tensor([length])
    leaves: dict[str, Tensor] = {}

    def leaf(stack: Any, name: str) -> None:
        embedded = stack.embedded

        def kept(inputs: Tensor, *rest: Any) -> Tensor:
            leaves[name] = embedded(inputs, *rest).detach().requires_grad_()
            return leaves[name]

        stack.embedded = kept

    leaf(model.encoder, "source")
    leaf(model.decoder, "target")
    memory = model.encoder.hidden(ids(1, 6), lengths=lengths)
    written = model.decoder.decode(ids(1, 5), memory, lengths)
    whole = length or 6
    read = torch.arange(6) < whole
    assert torch.equal(seen_by(written, leaves["source"]), read.expand(5, -1))
    assert torch.equal(seen_by(written, leaves["target"]), torch.ones(5, 5, dtype=torch.bool).tril())
    assert torch.equal(seen_by(memory, leaves["source"])[:whole], read.expand(whole, -1))


@pytest.mark.parametrize("attention", ["manual", "sdpa", "native"])
@pytest.mark.parametrize("positions", ["rotary", "t5"])
def test_a_prefix_is_seen_from_both_sides(attention: str, positions: str) -> None:
    needs_kernel(attention, 8)
    shape = PrefixDecoder(n_layer=2, d_model=8, n_head=1, seq_len=7, positions=positions)  # type: ignore[arg-type]
    dtype = torch.float32 if attention == "native" else torch.float64
    model: Any = shape.build(VOCAB, 1).to(dtype)
    model.compute_dtype, model.attention = dtype, attention
    leaf = model.embedded(ids(1, 7)).detach().requires_grad_()
    model.embedded = lambda *rest: leaf
    seen = seen_by(model.hidden(ids(1, 7), prefix=torch.tensor([3])), leaf)
    place = torch.arange(7)
    assert torch.equal(seen, (place <= place[:, None]) | (place < 3))


@pytest.mark.parametrize("attention", ["sdpa", "native"])
def test_attention_paths_agree(attention: str) -> None:
    needs_kernel(attention, 8)
    shape = EncoderDecoder(n_layer=2, d_model=16, n_head=2, positions="t5", bias=True, norm="layer")
    dtype = torch.float32 if attention == "native" else torch.float64
    model: Any = shape.build(VOCAB, 2, (21, 13)).to(dtype)
    model.compute_dtype = dtype
    lengths = torch.tensor([21, 5, 12])
    plain = model.logits(ids(3, 21), ids(3, 13), lengths)
    model.attention = attention
    tight = 2e-5 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(model.logits(ids(3, 21), ids(3, 13), lengths), plain, rtol=tight, atol=tight)


def test_padding_changes_nothing() -> None:
    """A padded source gives the logits of the source without padding."""
    shape = EncoderDecoder(n_layer=2, d_model=16, n_head=2)
    model: Any = shape.build(VOCAB, 2, (21, 13)).double()
    model.compute_dtype = torch.float64
    short: Any = shape.build(VOCAB, 2, (8, 13)).double()
    short.compute_dtype = torch.float64
    padded = model.logits(ids(2, 21), ids(2, 13), torch.tensor([8, 8]))
    torch.testing.assert_close(short.logits(ids(2, 21)[:, :8], ids(2, 13)), padded)


def test_several_models_side_by_side_are_each_alone() -> None:
    shape = EncoderDecoder(n_layer=2, d_model=16, n_head=2, positions="t5", bias=True, share="attention")
    model: Any = shape.build(VOCAB, 0, (10, 9)).double()
    model.compute_dtype = torch.float64
    seeds = [dict(shape.build(VOCAB, s, (10, 9)).double().named_parameters()) for s in range(3)]
    inputs, targets, written = (torch.stack([ids(2, n, s) for s in range(3)]) for n in (10, 9, 9))
    lengths = torch.tensor([[10, 3], [4, 10], [8, 8]])
    extra = {"decoder_inputs": written, "lengths": lengths}
    weights = {name: torch.stack([s[name].detach() for s in seeds]) for name in seeds[0]}
    together = torch.func.functional_call(model, weights, (inputs, None, targets), extra)
    for i, own in enumerate(seeds):
        alone = torch.func.functional_call(
            model, own, (inputs[i], None, targets[i]), {"decoder_inputs": written[i], "lengths": lengths[i]}
        )
        torch.testing.assert_close(together[i], alone)


def test_shared_embeddings_are_one_table() -> None:
    shape = EncoderDecoder(n_layer=1, d_model=16, n_head=2, tied=True)
    names = {name for name, _ in shape.build(VOCAB, 0).named_parameters()}
    assert sum("token_embedding" in name for name in names) == 1
    apart: Any = shape.model_copy(update={"shared_embeddings": False}).build(VOCAB, 0)
    assert not torch.equal(apart.encoder.token_embedding, apart.decoder.token_embedding)
    a, b, c = (shape.build(VOCAB, seed) for seed in (3, 3, 4))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not any(torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters(), strict=True) if x.ndim > 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segments": 2}, "segments belong to an encoder"),
        ({"positions": "t5", "relative_buckets": 2}, "relative_buckets 2 must be even, and at least 4"),
        ({"n_head": 3}, "n_head 3 does not divide"),
    ],
)
def test_impossible_shapes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EncoderDecoder(**{"n_layer": 1, "d_model": 16, "n_head": 2, **options})
