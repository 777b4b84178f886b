"""Equality with `transformers`: the same weights and inputs give the same loss, for T5 and BART.

Models are made from configurations in code with random weights; nothing is fetched.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping
from typing import Any

import pytest
import reference_weights as weights
import torch
from torch import Tensor, nn
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from scaling.architectures.encoder_decoder import EncoderDecoder
from scaling.models.norms import NORM_EPS

VOCAB, LAYERS, WIDTH, HEADS, SOURCE, TARGET, FF = 37, 2, 24, 3, 19, 13, 40
SHAPE: dict[str, Any] = {"n_layer": LAYERS, "decoder_layers": LAYERS + 1, "d_model": WIDTH, "n_head": HEADS, "d_ff": FF}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a test of equality touched the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def t5_stack(state: Mapping[str, Tensor], stack: str, layers: int) -> dict[str, Tensor]:
    """T5 does not divide scores by √K, so its queries are √K times ours."""
    scale = math.sqrt(WIDTH // HEADS)
    found = {
        f"{stack}.final_norm.gain": state[f"{stack}.final_layer_norm.weight"],
        f"{stack}.relative_embedding": state[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"],
    }
    for layer in range(layers):
        theirs, ours = f"{stack}.block.{layer}.layer", f"{stack}.blocks.{layer}"
        own = {part: state[f"{theirs}.0.SelfAttention.{part}.weight"] for part in "qkvo"}
        found |= {
            f"{ours}.qkv": torch.cat([own["q"] * scale, own["k"], own["v"]]),
            f"{ours}.attention_out": own["o"],
            f"{ours}.attention_norm.gain": state[f"{theirs}.0.layer_norm.weight"],
        }
        feed = 1
        if stack == "decoder":
            feed = 2
            cross = {part: state[f"{theirs}.1.EncDecAttention.{part}.weight"] for part in "qkvo"}
            found |= {
                f"{ours}.cross_query": cross["q"] * scale,
                f"{ours}.cross_source": torch.cat([cross["k"], cross["v"]]),
                f"{ours}.cross_attention_out": cross["o"],
                f"{ours}.cross_norm.gain": state[f"{theirs}.1.layer_norm.weight"],
            }
        found |= {
            f"{ours}.ff_in": state[f"{theirs}.{feed}.DenseReluDense.wi.weight"],
            f"{ours}.ff_out": state[f"{theirs}.{feed}.DenseReluDense.wo.weight"],
            f"{ours}.ff_norm.gain": state[f"{theirs}.{feed}.layer_norm.weight"],
        }
    return found


def bart_stack(state: Mapping[str, Tensor], stack: str, layers: int) -> dict[str, Tensor]:
    """BART's first two positions are no positions."""
    found = {f"{stack}.position_embedding": state[f"model.{stack}.embed_positions.weight"][2:]}
    found |= weights.norm(state, f"model.{stack}.layernorm_embedding", f"{stack}.embedding_norm")
    for layer in range(layers):
        theirs, ours = f"model.{stack}.layers.{layer}", f"{stack}.blocks.{layer}"
        parts = [f"{theirs}.self_attn.{part}_proj" for part in "qkv"]
        found |= weights.stacked(state, parts, f"{ours}.qkv")
        found |= weights.dense(state, f"{theirs}.self_attn.out_proj", f"{ours}.attention_out")
        found |= weights.norm(state, f"{theirs}.self_attn_layer_norm", f"{ours}.attention_norm")
        if stack == "decoder":
            cross = f"{theirs}.encoder_attn"
            found |= weights.dense(state, f"{cross}.q_proj", f"{ours}.cross_query")
            found |= weights.stacked(state, [f"{cross}.k_proj", f"{cross}.v_proj"], f"{ours}.cross_source")
            found |= weights.dense(state, f"{cross}.out_proj", f"{ours}.cross_attention_out")
            found |= weights.norm(state, f"{cross}_layer_norm", f"{ours}.cross_norm")
        found |= weights.dense(state, f"{theirs}.fc1", f"{ours}.ff_in")
        found |= weights.dense(state, f"{theirs}.fc2", f"{ours}.ff_out")
        found |= weights.norm(state, f"{theirs}.final_layer_norm", f"{ours}.ff_norm")
    return found


def agree(theirs: nn.Module, shape: EncoderDecoder, ours: dict[str, Tensor], tight: float) -> None:
    """Same loss, with a source that is padded in one window, and same gradient of the token table."""
    model: Any = shape.build(VOCAB, 0, (SOURCE, TARGET)).double()
    model.compute_dtype = torch.float64
    assert {name for name, _ in model.named_parameters()} == set(ours)
    model.load_state_dict(ours, strict=False)
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randint(3, VOCAB, (2, n), generator=generator) for n in (SOURCE, TARGET))
    written = torch.cat([torch.zeros(2, 1, dtype=torch.long), target[:, :-1]], dim=1)
    lengths = torch.tensor([SOURCE, 8])
    seen = (torch.arange(SOURCE) < lengths[:, None]).long()
    expected = theirs(input_ids=source, attention_mask=seen, decoder_input_ids=written, labels=target).loss
    found = model(source, None, target, decoder_inputs=written, lengths=lengths).mean()
    torch.testing.assert_close(found, expected, rtol=tight, atol=tight)
    (ours_grad,) = torch.autograd.grad(found, model.encoder.token_embedding)
    (their_grad,) = torch.autograd.grad(expected, theirs.get_input_embeddings().weight)  # type: ignore[operator]
    torch.testing.assert_close(ours_grad, their_grad, rtol=100 * tight, atol=tight)


def test_t5() -> None:
    """Their norms and softmax are in float32 whatever the weights are."""
    config = T5Config(
        vocab_size=VOCAB,
        d_model=WIDTH,
        d_kv=WIDTH // HEADS,
        d_ff=FF,
        num_layers=LAYERS,
        num_decoder_layers=LAYERS + 1,
        num_heads=HEADS,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=12,
        dropout_rate=0.0,
        layer_norm_epsilon=NORM_EPS,
        tie_word_embeddings=False,  # type: ignore[call-arg]
    )
    theirs = weights.randomised(T5ForConditionalGeneration(config))
    state = theirs.state_dict()
    assert theirs.lm_head.weight is theirs.shared.weight  # tied, and without the scale of T5's first version
    shape = EncoderDecoder(
        **SHAPE, positions="t5", activation="relu", relative_buckets=8, relative_distance=12, tied=True
    )
    ours = {"encoder.token_embedding": state["shared.weight"]}
    agree(theirs, shape, ours | t5_stack(state, "encoder", LAYERS) | t5_stack(state, "decoder", LAYERS + 1), 1e-6)


def test_bart() -> None:
    config = BartConfig(
        vocab_size=VOCAB,
        d_model=WIDTH,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS + 1,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=FF,
        decoder_ffn_dim=FF,
        max_position_embeddings=SOURCE,
        dropout=0.0,
        pad_token_id=1,
    )
    theirs = weights.randomised(BartForConditionalGeneration(config))
    for module in theirs.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = NORM_EPS
    state = dict(theirs.state_dict())
    state["model.decoder.embed_positions.weight"] = state["model.decoder.embed_positions.weight"][: TARGET + 2]
    shape = EncoderDecoder(
        **SHAPE,
        positions="learned",
        norm="layer",
        norm_placement="post",
        bias=True,
        embedding_norm=True,
        activation="gelu_exact",
        tied=True,
    )
    ours = {"encoder.token_embedding": state["model.shared.weight"]}
    agree(theirs, shape, ours | bart_stack(state, "encoder", LAYERS) | bart_stack(state, "decoder", LAYERS + 1), 1e-10)
