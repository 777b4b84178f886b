"""The model against its own accounting, against torch's FLOP counter, and what each position may see."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from scaling.accounting import COUNTS, PARAM_GROUPS, training_flops
from scaling.architectures.transformer import Decoder, Encoder, Transformer
from scaling.models.attention import available
from scaling.models.transformer import Context

VOCAB = 50


@st.composite
def shapes(draw: st.DrawFn) -> Transformer:
    """Any shape, every option of it."""
    n_head = draw(st.integers(1, 4))
    cls = draw(st.sampled_from([Decoder, Encoder]))
    activation = draw(st.sampled_from(["gelu", "gelu_exact", "relu", "swiglu"]))
    return cls(
        n_layer=draw(st.integers(1, 3)),
        d_model=2 * n_head * draw(st.integers(1, 6)),
        n_head=n_head,
        d_ff=draw(st.one_of(st.none(), st.integers(1, 40))),
        seq_len=draw(st.integers(2, 24)),
        positions=draw(st.sampled_from(["rotary", "learned", "sinusoidal", "alibi", "t5", "none"])),
        tied=draw(st.booleans()),
        activation=activation,
        init=draw(st.sampled_from(["fan_in", "gpt2"])),
        norm=draw(st.sampled_from(["rms", "layer"])),
        norm_placement=draw(st.sampled_from(["pre", "post"])),
        bias=draw(st.booleans()),
        embedding_norm=draw(st.booleans()),
        embedding_size=draw(st.one_of(st.none(), st.integers(1, 20))),
        share=draw(st.sampled_from(["none", "all", "attention", "feed_forward"])),
        local_window=draw(st.one_of(st.none(), st.integers(1, 12))),
        relative_buckets=draw(st.sampled_from([8, 32])),
        segments=draw(st.integers(0, 3)),
        head_transform=activation != "swiglu" and draw(st.booleans()),
    )


def group_of(name: str) -> str:
    """The accounting's group of a parameter: biases of the blocks lie with the norms, all of the head with the head."""
    if name.startswith("head"):
        return "head"
    if name.startswith("token_"):
        return "token_embedding"
    if name in ("position_embedding", "segment_embedding", "relative_embedding"):
        return "position_embedding"
    if "norm" in name or name.endswith("bias"):
        return "norm"
    return "feed_forward" if ".ff_" in name else "attention"


@given(shapes())
@settings(max_examples=120, deadline=None)
def test_parameters_by_group_equal_the_accounting(shape: Transformer) -> None:
    counted = dict.fromkeys(PARAM_GROUPS, 0)
    for name, parameter in shape.build(VOCAB, 0).named_parameters():
        counted[group_of(name)] += parameter.numel()
    stated = shape.params(VOCAB)
    assert counted == dict(stated.groups)
    assert stated.total == sum(counted.values())
    dense = shape.d_model * shape.embedding_width if shape.has_head_dense else 0
    assert stated.non_embedding_head == stated.non_embedding + VOCAB * shape.embedding_width + dense
    assert {c: stated.by_name(c) for c in COUNTS} == {
        "total": stated.total,
        "non_embedding": stated.non_embedding,
        "non_embedding_head": stated.non_embedding_head,
    }


@given(shapes(), st.integers(1, 3), st.integers(1, 24))
@settings(max_examples=60, deadline=None)
def test_flops_equal_torchs_counter(shape: Transformer, windows: int, predicted: int) -> None:
    """Forward and backward, with the head at `predicted` positions of each window."""
    predicted = min(predicted, shape.seq_len)
    model = shape.build(VOCAB, 0)
    inputs = torch.zeros(windows, shape.seq_len, dtype=torch.long)
    positions = torch.arange(predicted).expand(windows, -1).contiguous()
    with FlopCounterMode(display=False) as counter:
        model(inputs, positions, torch.zeros(windows, predicted, dtype=torch.long)).sum().backward()
    stated = training_flops(shape.forward_flops(VOCAB, windows * shape.seq_len, windows * predicted))
    assert counter.get_total_flops() == sum(stated.values())


def needs_kernel(attention: str, head_width: int) -> None:
    if attention == "native" and not available(head_width):
        pytest.skip("no C++ compiler on this machine")


@pytest.mark.parametrize("cls", [Decoder, Encoder])
@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("attention", ["manual", "sdpa", "native"])
def test_a_position_sees_what_its_mask_allows(cls: type[Transformer], positions: str, attention: str) -> None:
    shape = cls(n_layer=2, d_model=16, n_head=2, seq_len=24, positions=positions)  # type: ignore[arg-type]
    needs_kernel(attention, 8)
    dtype = torch.float32 if attention == "native" else torch.float64
    model = shape.build(VOCAB, 1).to(dtype)
    embedded = model.token_embedding.detach()[torch.arange(24) % VOCAB].unsqueeze(0).requires_grad_()
    x = embedded if model.position_embedding is None else embedded + model.position_embedding
    rotary = None if model.position_embedding is not None else (model.cos, model.sin)
    for block in model.blocks:
        x = block(x, Context(model.bias, rotary, attention, dtype, False))  # type: ignore[arg-type]
    for t in range(24):
        (gradient,) = torch.autograd.grad(x[0, t].sum(), embedded, retain_graph=True)
        seen = gradient[0].abs().sum(-1) > 0
        expected = torch.arange(24) <= t if cls is Decoder else torch.ones(24, dtype=torch.bool)
        assert torch.equal(seen, expected)


@pytest.mark.parametrize("cls", [Decoder, Encoder])
@pytest.mark.parametrize("attention", ["sdpa", "native"])
def test_attention_paths_agree(cls: type[Transformer], attention: str) -> None:
    shape = cls(n_layer=2, d_model=48, n_head=2, seq_len=21)
    needs_kernel(attention, 24)
    dtype = torch.float32 if attention == "native" else torch.float64
    model = shape.build(VOCAB, 2).to(dtype)
    model.compute_dtype = dtype
    inputs = torch.randint(VOCAB, (3, 21), generator=torch.Generator().manual_seed(0))
    plain = model.logits(inputs, None)
    model.attention = attention
    tight = 2e-5 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(model.logits(inputs, None), plain, rtol=tight, atol=tight)


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    from scaling.models.transformer import rotary_table, rotate

    cos, sin = rotary_table(12, 8)
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(8, generator=generator).expand(12, 8) for _ in range(2))
    score = rotate(q, cos, sin) @ rotate(k, cos, sin).T
    for distance in range(-11, 12):
        diagonal = torch.diagonal(score, distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)


def test_positions_gather_equals_slicing() -> None:
    shape = Encoder(n_layer=1, d_model=16, n_head=2, seq_len=8)
    model = shape.build(VOCAB, 0)
    inputs = torch.arange(16).view(2, 8)
    positions = torch.tensor([[1, 5], [0, 7]])
    everywhere = model.logits(inputs, None)
    torch.testing.assert_close(model.logits(inputs, positions)[1], everywhere[1, [0, 7]])


def test_fan_in_initialisation_keeps_the_variance_of_activations() -> None:
    """The residual stream grows by at most the blocks' unit variance, and the loss starts near ln V + 1/2."""
    shape = Decoder(n_layer=4, d_model=128, n_head=8, seq_len=32)
    model = shape.build(256, 0)
    generator = torch.Generator().manual_seed(1)
    inputs, targets = (torch.randint(256, (8, 32), generator=generator) for _ in range(2))
    with torch.no_grad():
        loss = float(model(inputs, None, targets).mean())
    assert loss == pytest.approx(math.log(256) + 0.5, abs=0.15)
    gpt2 = Decoder(n_layer=4, d_model=128, n_head=8, seq_len=32, init="gpt2").build(256, 0)
    assert float(gpt2.token_embedding.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert float(gpt2.blocks[0].ff_out.detach().std()) == pytest.approx(0.02 / math.sqrt(8), rel=0.05)


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    shape = Decoder(n_layer=1, d_model=16, n_head=2)
    a, b, c = shape.build(VOCAB, 3), shape.build(VOCAB, 3), shape.build(VOCAB, 4)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.token_embedding, c.token_embedding)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"d_model": 30, "n_head": 4}, "n_head 4 does not divide d_model 30"),
        ({"d_model": 12, "n_head": 4}, "even head width"),
        ({"d_model": -8, "n_head": 1}, "greater than 0"),
        ({"d_model": 16, "n_head": 2, "depth": 3}, "Extra inputs"),
    ],
)
def test_impossible_shapes_are_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Decoder(n_layer=1, **fields)  # type: ignore[arg-type]
