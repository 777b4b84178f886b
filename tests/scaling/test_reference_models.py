"""Equality with `transformers`: the same weights and inputs give the same loss, for GPT-2, BERT, ALBERT and ELECTRA.

Models are made from configurations in code with random weights; nothing is fetched.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
import reference_weights as weights
import torch
from torch import Tensor
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
)

from scaling.architectures.transformer import Decoder, Encoder
from scaling.models.norms import NORM_EPS
from scaling.models.positions import relative_buckets

VOCAB, LAYERS, WIDTH, HEADS, LENGTH, FF = 37, 3, 24, 3, 11, 40
SHAPE: dict[str, Any] = {"n_layer": LAYERS, "d_model": WIDTH, "n_head": HEADS, "seq_len": LENGTH, "d_ff": FF}
BERT: dict[str, Any] = {
    **SHAPE,
    "positions": "learned",
    "norm": "layer",
    "norm_placement": "post",
    "bias": True,
    "embedding_norm": True,
    "segments": 2,
    "head_transform": True,
    "tied": True,
}
THEIRS: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": FF,
    "max_position_embeddings": LENGTH,
    "layer_norm_eps": NORM_EPS,
}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a test of equality touched the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def sample() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs and segments (B, T), four predicted positions of each window and their targets (B, 4)."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randint(VOCAB, (5, LENGTH), generator=generator)
    segments = (torch.arange(LENGTH) >= torch.tensor([[3], [5], [7], [11], [0]])).long()
    positions = torch.argsort(torch.rand(5, LENGTH, generator=generator), dim=1)[:, :4].sort(dim=1).values
    return inputs, segments, positions, torch.randint(VOCAB, (5, 4), generator=generator)


def labels(positions: Tensor, targets: Tensor) -> Tensor:
    """Targets as `transformers` wants them: at their positions, -100 elsewhere."""
    return torch.full((positions.shape[0], LENGTH), -100).scatter(1, positions, targets)


def test_gpt2() -> None:
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=LENGTH, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_inner=FF,
        layer_norm_epsilon=NORM_EPS, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    theirs = weights.randomised(GPT2LMHeadModel(config))
    shape = Decoder(**SHAPE, positions="learned", norm="layer", bias=True, tied=True)
    ours = weights.load(shape.build(VOCAB, 0), weights.gpt2(theirs.state_dict(), LAYERS))
    inputs = sample()[0]
    expected = theirs(input_ids=inputs, labels=inputs)
    torch.testing.assert_close(ours.logits(inputs, None), expected.logits, rtol=1e-11, atol=1e-11)
    found = ours(inputs, None, torch.cat([inputs[:, 1:], torch.full((5, 1), -1)], dim=1))
    assert (found[:, -1] == 0).all()
    mean = found.sum().item() / (5 * (LENGTH - 1))
    assert mean == pytest.approx(expected.loss.item(), rel=1e-6)  # theirs takes float32 logits


def test_bert() -> None:
    theirs = weights.randomised(BertForMaskedLM(BertConfig(**THEIRS)))
    state = theirs.state_dict()
    found = weights.bert_embeddings(state, "bert") | weights.bert_blocks(state, "bert", LAYERS)
    found |= weights.head(state, "cls.predictions.transform", "cls.predictions.bias")
    ours = weights.load(Encoder(**BERT, activation="gelu_exact").build(VOCAB, 0), found)
    inputs, segments, positions, targets = sample()
    expected = theirs(input_ids=inputs, token_type_ids=segments, labels=labels(positions, targets)).loss
    assert ours(inputs, positions, targets, segments=segments).mean().item() == pytest.approx(
        expected.item(), rel=1e-12
    )
    alone = theirs(input_ids=inputs, labels=labels(positions, targets)).loss
    assert ours(inputs, positions, targets).mean().item() == pytest.approx(alone.item(), rel=1e-12)
    assert alone.item() != pytest.approx(expected.item(), rel=1e-6)


def test_bert_with_padding() -> None:
    """Keys from a window's length on are seen by none, so that its loss is that of the shorter text."""
    theirs = weights.randomised(BertForMaskedLM(BertConfig(**THEIRS)))
    state = theirs.state_dict()
    found = weights.bert_embeddings(state, "bert") | weights.bert_blocks(state, "bert", LAYERS)
    found |= weights.head(state, "cls.predictions.transform", "cls.predictions.bias")
    ours = weights.load(Encoder(**BERT, activation="gelu_exact").build(VOCAB, 0), found)
    inputs, _, _, targets = sample()
    lengths = torch.tensor([11, 4, 7, 5, 9])
    mask = (torch.arange(LENGTH) < lengths[:, None]).long()
    positions = torch.tensor([[0, 1, 2, 3]]).expand(5, -1)
    expected = theirs(input_ids=inputs, attention_mask=mask, labels=labels(positions, targets)).loss
    for attention in ("manual", "sdpa"):
        ours.attention = attention
        loss = ours(inputs, positions, targets, lengths=lengths).mean().item()
        assert loss == pytest.approx(expected.item(), rel=1e-12)


def test_albert() -> None:
    """One block for all layers, embeddings of 10 numbers, GELU in its tanh form."""
    theirs = weights.randomised(AlbertForMaskedLM(AlbertConfig(**THEIRS, embedding_size=10)))
    state = theirs.state_dict()
    found = weights.bert_embeddings(state, "albert") | weights.albert_block(state)
    found |= weights.dense(state, "albert.encoder.embedding_hidden_mapping_in", "token_projection")
    found |= weights.head(state, "predictions", "predictions.bias")
    shape = Encoder(**BERT, embedding_size=10, share="all", activation="gelu")
    ours = weights.load(shape.build(VOCAB, 0), found)
    inputs, segments, positions, targets = sample()
    expected = theirs(input_ids=inputs, token_type_ids=segments, labels=labels(positions, targets)).loss
    assert ours(inputs, positions, targets, segments=segments).mean().item() == pytest.approx(
        expected.item(), rel=1e-12
    )
    trained = sum(p.numel() for p in theirs.parameters())
    assert shape.params(VOCAB).total == trained


def test_electra_generator_and_body() -> None:
    theirs = weights.randomised(ElectraForMaskedLM(ElectraConfig(**THEIRS, embedding_size=10)))
    state = theirs.state_dict()
    found = weights.bert_embeddings(state, "electra") | weights.bert_blocks(state, "electra", LAYERS)
    found |= weights.dense(state, "electra.embeddings_project", "token_projection")
    found |= weights.head(state, "generator_predictions", "generator_lm_head.bias")
    shape = Encoder(**BERT, embedding_size=10, activation="gelu_exact")
    ours = weights.load(shape.build(VOCAB, 0), found)
    inputs, segments, positions, targets = sample()
    expected = theirs(input_ids=inputs, token_type_ids=segments, labels=labels(positions, targets)).loss
    assert ours(inputs, positions, targets, segments=segments).mean().item() == pytest.approx(
        expected.item(), rel=1e-12
    )
    body = theirs.electra(input_ids=inputs, token_type_ids=segments).last_hidden_state
    torch.testing.assert_close(ours.hidden(inputs, segments=segments), body, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (8, 20), (64, 200)])
def test_t5_buckets(bidirectional: bool, buckets: int, furthest: int) -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(-400, 401)
    expected = T5Attention._relative_position_bucket(-distance, bidirectional, buckets, furthest)
    assert torch.equal(relative_buckets(distance, buckets, furthest, bidirectional), expected)
