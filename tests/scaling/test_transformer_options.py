"""Options of the Transformer: what each position may see, one result by every path, in packs and in compiled steps."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from scaling.architectures.banded import band, score_products
from scaling.architectures.transformer import Decoder, Encoder, Transformer
from scaling.errors import InputError
from scaling.execution import can_compile
from scaling.job import Execution
from scaling.models.attention import available
from scaling.models.positions import alibi, alibi_slopes, distances, over_keys, relative_buckets, sinusoids
from scaling.models.transformer import TransformerModel
from scaling.step import StepFunction
from scaling.trial import Trial

VOCAB, LENGTH = 50, 37
SHAPE: dict[str, Any] = {"n_layer": 2, "d_model": 24, "n_head": 3, "seq_len": LENGTH}
BERT: dict[str, Any] = {
    "positions": "learned",
    "norm": "layer",
    "norm_placement": "post",
    "bias": True,
    "embedding_norm": True,
    "segments": 2,
    "head_transform": True,
    "tied": True,
    "activation": "gelu_exact",
}
T5: dict[str, Any] = {"positions": "t5", "activation": "relu", "relative_buckets": 8, "relative_distance": 30}
OPTIONS: dict[str, dict[str, Any]] = {
    "t5": T5,
    "alibi": {"positions": "alibi"},
    "none": {"positions": "none"},
    "sinusoidal": {"positions": "sinusoidal", "norm": "layer", "norm_placement": "post"},
    "local": {"local_window": 5},
    "local t5": {**T5, "local_window": 6},
    "local wide": {"local_window": 30, "positions": "alibi"},
    "bert": BERT,
    "albert": {**BERT, "share": "all", "embedding_size": 8, "activation": "gelu"},
    "shared attention": {"share": "attention", "bias": True, "n_layer": 3},
    "shared feed-forward": {"share": "feed_forward", "activation": "swiglu", "bias": True, "n_layer": 3},
    "factorised": {"embedding_size": 6},
}
LOCAL = [name for name in OPTIONS if name.startswith("local")]


def built(cls: type[Transformer], option: str, dtype: torch.dtype = torch.float64, **more: Any) -> TransformerModel:
    """A small model whose biases and gains are random too."""
    model = cls(**{**SHAPE, **OPTIONS[option], **more}).build(VOCAB, 1)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    assert isinstance(model, TransformerModel)
    model.compute_dtype = dtype
    return model.to(dtype)


def tokens(*size: int) -> Tensor:
    return torch.randint(VOCAB, size, generator=torch.Generator().manual_seed(0))


def needs_kernel(attention: str) -> None:
    if attention == "native" and not available(8):
        pytest.skip("no C++ compiler on this machine")


def reaching(layers: list[Tensor]) -> Tensor:
    """Which inputs reach each output through layers of direct sight, each (T, T) bool."""
    reached = torch.eye(LENGTH, dtype=torch.bool)
    for direct in layers:
        reached = (direct.double() @ reached.double()) > 0
    return reached


def sensitivity(model: TransformerModel, **extra: Tensor) -> Tensor:
    """Whether the output at t has a gradient by the input at s, (T, T) bool; each position has a token of its own."""
    out = model.hidden(torch.arange(LENGTH)[None], **extra)
    assert torch.isfinite(out).all()
    rows = [
        torch.autograd.grad(out[0, t].sum(), model.token_embedding, retain_graph=True)[0][:LENGTH]
        for t in range(LENGTH)
    ]
    return torch.stack(rows).abs().sum(-1) > 0


@pytest.mark.parametrize("attention", ["manual", "sdpa", "native"])
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("cls", [Decoder, Encoder])
def test_a_position_sees_what_the_options_allow(cls: type[Transformer], option: str, attention: str) -> None:
    needs_kernel(attention)
    model = built(cls, option, torch.float32 if attention == "native" else torch.float64)
    model.attention = attention  # type: ignore[assignment]
    i, j = torch.arange(LENGTH)[:, None], torch.arange(LENGTH)
    direct = []
    for window in model.shape.local_windows():
        near = (i - j).abs() < window if window else torch.ones(LENGTH, LENGTH, dtype=torch.bool)
        direct.append(near & (j <= i) if cls is Decoder else near)
    assert torch.equal(sensitivity(model), reaching(direct))


@pytest.mark.parametrize("attention", ["manual", "sdpa", "native"])
@pytest.mark.parametrize("option", ["bert", "t5", "local", "local t5"])
def test_padding_reaches_nothing_but_itself(option: str, attention: str) -> None:
    needs_kernel(attention)
    model = built(Encoder, option, torch.float32 if attention == "native" else torch.float64)
    model.attention = attention  # type: ignore[assignment]
    found = sensitivity(model, lengths=torch.tensor([20]))
    assert found[:20, :20].diagonal().all()
    assert not found[:20, 20:].any()


@pytest.mark.parametrize("attention", ["manual", "sdpa", "native"])
@pytest.mark.parametrize("option", ["none", "t5"])
def test_a_prefix_is_seen_from_both_sides(option: str, attention: str) -> None:
    needs_kernel(attention)
    model = built(Decoder, option, torch.float32 if attention == "native" else torch.float64)
    model.attention = attention  # type: ignore[assignment]
    i, j = torch.arange(LENGTH)[:, None], torch.arange(LENGTH)
    assert torch.equal(sensitivity(model, prefix=torch.tensor([9])), reaching([(j <= i) | (j < 9)] * 2))


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("cls", [Decoder, Encoder])
def test_all_paths_give_one_result_and_one_gradient(cls: type[Transformer], option: str) -> None:
    """In float64 the fused path, in float32 the kernel, against plain products; lengths and segments given."""
    inputs, targets = tokens(3, LENGTH), tokens(3, LENGTH).flip(1)
    extra = {"lengths": torch.tensor([37, 30, 33])}
    if OPTIONS[option].get("segments"):
        extra["segments"] = (torch.arange(LENGTH) > 12).long().expand(3, -1)
    for attention, dtype, tight in (("sdpa", torch.float64, 1e-11), ("native", torch.float32, 1e-4)):
        if attention == "native" and not available(8):
            continue
        found = []
        for path in ("manual", attention):
            model = built(cls, option, dtype)
            model.attention = path
            loss = model(inputs, None, targets, **extra)[:, :30]
            grads = torch.autograd.grad(loss.sum(), list(model.parameters()))
            found.append((loss, torch.cat([g.flatten() for g in grads])))
        torch.testing.assert_close(found[1][0], found[0][0], rtol=tight, atol=tight)
        assert float((found[1][1] - found[0][1]).norm() / found[0][1].norm()) < tight


@pytest.mark.parametrize("attention", ["manual", "sdpa", "native"])
@pytest.mark.parametrize("option", OPTIONS)
def test_models_side_by_side_give_what_each_gives_alone(option: str, attention: str) -> None:
    needs_kernel(attention)
    dtype = torch.float32 if attention == "native" else torch.float64
    alone = [built(Encoder, option, dtype, n_layer=2) for _ in range(2)]
    with torch.no_grad():
        for parameter in alone[1].parameters():
            parameter.mul_(1.1)
    for model in alone:
        model.attention = attention  # type: ignore[assignment]
    inputs, targets = tokens(2, 3, LENGTH), tokens(2, 3, LENGTH).flip(2)
    extra = {"lengths": torch.tensor([[37, 20, 36], [30, 37, 35]])}
    if OPTIONS[option].get("segments"):
        extra["segments"] = tokens(2, 3, LENGTH) % 2
    expected = torch.stack(
        [m(inputs[s], None, targets[s], **{n: t[s] for n, t in extra.items()}) for s, m in enumerate(alone)]
    )
    names = [name for name, _ in alone[0].named_parameters()]
    stacked = {n: torch.stack([dict(m.named_parameters())[n].detach() for m in alone]).requires_grad_() for n in names}
    found = torch.func.functional_call(alone[0], stacked, (inputs, None, targets), extra)
    tight = 1e-4 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(found, expected, rtol=tight, atol=tight)
    grads = torch.autograd.grad(found.sum(), list(stacked.values()))
    for s, model in enumerate(alone):
        by_name = torch.autograd.grad(expected[s].sum(), list(model.parameters()), retain_graph=True)
        for ours, theirs in zip(grads, by_name, strict=True):
            torch.testing.assert_close(ours[s], theirs, rtol=10 * tight, atol=10 * tight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_trains_in_half_precision_with_dropout(option: str, dtype: torch.dtype) -> None:
    """Losses and gradients are finite, every parameter has one, and in evaluation dropout is off."""
    model = built(Decoder, option, torch.float32, dropout=0.1)
    model.compute_dtype = dtype
    torch.manual_seed(0)
    loss = model(tokens(2, LENGTH), None, tokens(2, LENGTH).flip(1))
    assert loss.dtype == torch.float32
    grads = torch.autograd.grad(loss.sum(), list(model.parameters()))
    assert all(torch.isfinite(g).all() for g in grads)
    assert all(g.abs().sum() > 0 for g in grads)
    model.eval()
    again = [model(tokens(2, LENGTH), None, tokens(2, LENGTH).flip(1)) for _ in range(2)]
    assert torch.equal(*again)


@pytest.mark.parametrize("seq_len", [1, 5, 24, 37])
@pytest.mark.parametrize("window", [1, 3, 8, 12, 40])
@pytest.mark.parametrize("cls", [Decoder, Encoder])
def test_a_band_costs_what_it_says_and_hides_what_the_mask_hides(
    cls: type[Transformer], seq_len: int, window: int
) -> None:
    """Against the same layers by masked squares, and torch's count of the products."""
    shape = cls(
        n_layer=2, d_model=8, n_head=2, seq_len=seq_len, local_window=window, positions="t5", relative_buckets=8
    )
    model = shape.build(VOCAB, 0).double()
    model.compute_dtype = torch.float64
    inputs = tokens(2, seq_len)
    banded = model.hidden(inputs)
    model.attention = "sdpa"
    torch.testing.assert_close(banded, model.hidden(inputs), rtol=1e-10, atol=1e-10)
    model.attention = "manual"
    with FlopCounterMode(display=False) as counter:
        model.hidden(inputs)
    stated = shape.forward_flops(VOCAB, 2 * seq_len, 0)
    assert counter.get_total_flops() == sum(stated.values())
    causal = cls is Decoder
    assert score_products(seq_len, window, causal) <= seq_len**2
    assert score_products(seq_len, 0, causal) == seq_len**2
    assert band(128, 16, causal) == (128, 32 if causal else 48)


def test_shared_layers_are_one_set_of_weights_run_each_time() -> None:
    """Sharing all is n_layer passes through one block, and counts its parameters once and its FLOPs each time."""
    shape = Encoder(**SHAPE, share="all")
    model = shape.build(VOCAB, 0).double()
    model.compute_dtype = torch.float64
    assert len(model.blocks) == 1
    alone = Encoder(**SHAPE).build(VOCAB, 0).double()
    alone.compute_dtype = torch.float64
    state = model.state_dict()
    alone.load_state_dict({n: state[n.replace("blocks.1", "blocks.0")] for n, _ in alone.named_parameters()})
    torch.testing.assert_close(model.hidden(tokens(2, LENGTH)), alone.hidden(tokens(2, LENGTH)), rtol=0, atol=0)
    block = sum(p.numel() for p in model.blocks[0].parameters())
    assert Encoder(**SHAPE).params(VOCAB).total - shape.params(VOCAB).total == block
    assert shape.forward_flops(VOCAB, LENGTH, 3) == Encoder(**SHAPE).forward_flops(VOCAB, LENGTH, 3)
    for share, common in (("attention", "attention"), ("feed_forward", "feed_forward")):
        groups = Encoder(**SHAPE, share=share).params(VOCAB).groups
        assert groups[common] * 2 == Encoder(**SHAPE).params(VOCAB).groups[common]


def test_a_factorised_embedding_costs_what_albert_says() -> None:
    """V·E + E·D in place of V·D (Lan et al. 2019, §3.1)."""
    plain, factorised = Encoder(**SHAPE, tied=True), Encoder(**SHAPE, tied=True, embedding_size=4)
    assert plain.params(VOCAB).groups["token_embedding"] == VOCAB * 24
    assert factorised.params(VOCAB).groups["token_embedding"] == VOCAB * 4 + 4 * 24


def test_positions_where_they_do_not_count_from_zero() -> None:
    """A window that holds a text twice, each time from position 0, embeds both alike."""
    for positions in ("learned", "sinusoidal"):
        model = Encoder(**SHAPE, positions=positions).build(VOCAB, 0)
        inputs = (torch.arange(LENGTH) % 18)[None]
        again = model.embedded(inputs, position_ids=inputs)
        assert torch.equal(again[:, :18], again[:, 18:36])
        assert torch.equal(again[:, :18], model.embedded(inputs)[:, :18])


def test_segments_need_embeddings() -> None:
    with pytest.raises(InputError, match="set its field segments to 2"):
        Encoder(**SHAPE).build(VOCAB, 0).hidden(tokens(1, LENGTH), segments=tokens(1, LENGTH))


def test_alibi_slopes_are_the_papers() -> None:
    """Press et al. 2021 §3: 1/2 … 1/256 for 8 heads; bias −slope · distance."""
    assert alibi_slopes(8).tolist() == [2.0**-h for h in range(1, 9)]
    twelve = alibi_slopes(12)
    assert twelve[:8].tolist() == alibi_slopes(8).tolist()
    torch.testing.assert_close(twelve[8:], torch.tensor([2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5], dtype=torch.float64))
    by_key = over_keys(alibi(8, 5, 5), 5)
    assert by_key[0, 4].tolist() == [-2.0, -1.5, -1.0, -0.5, 0.0]
    assert torch.equal(by_key[0], by_key[0].T)


def test_a_bias_by_distance_lies_on_diagonals() -> None:
    bias = torch.randn(2, 3, 4 + 6 - 1)
    by_key = over_keys(bias, 6)
    assert by_key.shape == (2, 3, 4, 6)
    for t in range(4):
        for s in range(6):
            assert torch.equal(by_key[..., t, s], bias[..., t - s + 5])
    assert distances(4, 6).tolist() == list(range(-5, 4))


def test_t5_buckets_are_exact_first_and_logarithmic_after() -> None:
    causal = relative_buckets(torch.arange(-5, 200), 32, 128, bidirectional=False)
    assert causal[:6].tolist() == [0] * 6
    assert causal[5:21].tolist() == list(range(16))
    assert causal[5 + 128 :].eq(31).all()
    assert causal.diff().ge(0).all()
    both = relative_buckets(torch.tensor([-200, -1, 0, 1, 200]), 32, 128, bidirectional=True)
    assert both.tolist() == [31, 17, 0, 1, 15]


def test_sinusoids_turn_by_one_angle_a_step() -> None:
    """Vaswani et al. 2017 §3.5: a shift by k is one rotation of each pair, wherever it starts."""
    table = sinusoids(30, 8).double()
    pairs = torch.view_as_complex(table.view(30, 4, 2).contiguous())
    turn = pairs[1:] / pairs[:-1]
    torch.testing.assert_close(turn, turn[:1].expand_as(turn), rtol=0, atol=1e-6)
    torch.testing.assert_close(table[7, 0], torch.tensor(7.0, dtype=torch.float64).sin(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("option", OPTIONS)
def test_initial_weights_are_a_function_of_shape_and_seed(option: str) -> None:
    shape = Encoder(**{**SHAPE, **OPTIONS[option]})
    a, b = shape.build(VOCAB, 3), shape.build(VOCAB, 3)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    for name, parameter in a.named_parameters():
        if parameter.ndim == 1:
            assert (parameter == (0.0 if name.endswith("bias") else 1.0)).all(), name


def trial(kind: str, objective: str, options: dict[str, Any], precision: str) -> Trial:
    """A small trial on a Markov source."""
    source = {"type": "markov", "order": 1, "symbols": 8, "n_documents": 64, "document_length": 256}
    spec = {
        "architecture": {"type": kind, "n_layer": 2, "d_model": 16, "n_head": 2, "seq_len": 32, **options},
        "objective": objective,
        "corpus": source,
        "optimizer": {"type": "adamw", "lr": 0.01},
        "batch_tokens": 128,
        "steps": 60,
        "precision": precision,
    }
    return Trial.model_validate_json(json.dumps(spec))


@pytest.mark.parametrize(
    ("kind", "objective", "attention", "precision", "options"),
    [
        ("decoder", "causal", "native", "bf16", {**T5, "local_window": 5, "share": "attention", "embedding_size": 8}),
        ("encoder", "masked", "manual", "fp32", {**BERT, "local_window": 6, "share": "all"}),
    ],
)
def test_compiled_steps_of_packs_agree_with_eager(
    kind: str, objective: str, attention: str, precision: str, options: dict[str, Any]
) -> None:
    if can_compile() is not None:
        pytest.skip("no C++ compiler on this machine")
    from scaling.objectives.base import Vocabulary

    of = trial(kind, objective, options, precision)
    rng = np.random.default_rng(0)
    windows = rng.integers(0, 8, (4, of.objective.window(32)))
    batch = of.objective.train_batch(windows, Vocabulary(11, 8, 9, 10), rng)
    found = []
    for compiled in (False, True):
        execution = Execution(compiled=compiled, attention=attention, micro_batch_tokens=128, pack=2)  # type: ignore[arg-type]
        function = StepFunction.of(of, 11, execution)
        theta = function.initial([of, of.model_copy(update={"seed": 1})], 11)
        tensors = function.to_device([batch, batch])
        loss, grad = function.step(theta, tensors, torch.tensor(1 / 128))
        found.append((loss, grad))
    (loss, grad), (loss_c, grad_c) = found
    tight = 1e-5 if precision == "fp32" else 2e-2
    torch.testing.assert_close(loss_c, loss, rtol=tight, atol=0)
    assert loss[0] != loss[1]
    assert float((grad_c - grad).norm() / grad.norm()) < tight


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head_transform": True, "activation": "swiglu"}, "head_transform has one matrix"),
        ({"positions": "t5", "relative_buckets": 3}, "must be even, and at least 4"),
        ({"positions": "t5", "relative_distance": 8}, "must be over 8"),
        ({"local_window": 0}, "greater than 0"),
        ({"norm": "batch"}, "'rms' or 'layer'"),
    ],
)
def test_impossible_options_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Encoder(**{**SHAPE, **fields})
