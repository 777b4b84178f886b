"""Weights of the models in `transformers`, by the names of ours; every weight random, so that none can be left out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

LAYER_NORM = {"gain": "weight", "bias": "bias"}


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in float64 without dropout, gains about 1 and all else N(0, .2²)."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            if parameter.ndim == 1:
                parameter.add_(0.7)
    return model


def norm(state: Mapping[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    """A layer norm's gain and bias."""
    return {f"{ours}.{new}": state[f"{theirs}.{old}"] for new, old in LAYER_NORM.items()}


def dense(state: Mapping[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    """A linear layer's matrix and bias."""
    return {ours: state[f"{theirs}.weight"], f"{ours}_bias": state[f"{theirs}.bias"]}


def stacked(state: Mapping[str, Tensor], theirs: list[str], ours: str) -> dict[str, Tensor]:
    """Several linear layers as one."""
    return {
        ours: torch.cat([state[f"{name}.weight"] for name in theirs]),
        f"{ours}_bias": torch.cat([state[f"{name}.bias"] for name in theirs]),
    }


def gpt2(state: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """GPT-2's matrices lie transposed in theirs."""
    state = {name: value.t() if ".c_" in name else value for name, value in state.items()}
    found = {"token_embedding": state["transformer.wte.weight"], "position_embedding": state["transformer.wpe.weight"]}
    found |= norm(state, "transformer.ln_f", "final_norm")
    for layer in range(layers):
        theirs, ours = f"transformer.h.{layer}", f"blocks.{layer}"
        found |= norm(state, f"{theirs}.ln_1", f"{ours}.attention_norm")
        found |= norm(state, f"{theirs}.ln_2", f"{ours}.ff_norm")
        found |= dense(state, f"{theirs}.attn.c_attn", f"{ours}.qkv")
        found |= dense(state, f"{theirs}.attn.c_proj", f"{ours}.attention_out")
        found |= dense(state, f"{theirs}.mlp.c_fc", f"{ours}.ff_in")
        found |= dense(state, f"{theirs}.mlp.c_proj", f"{ours}.ff_out")
    return found


def bert_embeddings(state: Mapping[str, Tensor], theirs: str) -> dict[str, Tensor]:
    """Of BERT, ALBERT and ELECTRA; `theirs` is the body's name."""
    names = {"token": "word", "position": "position", "segment": "token_type"}
    tables = {f"{new}_embedding": state[f"{theirs}.embeddings.{old}_embeddings.weight"] for new, old in names.items()}
    return tables | norm(state, f"{theirs}.embeddings.LayerNorm", "embedding_norm")


def bert_blocks(state: Mapping[str, Tensor], theirs: str, layers: int) -> dict[str, Tensor]:
    """Of BERT and ELECTRA."""
    found: dict[str, Tensor] = {}
    for layer in range(layers):
        their, ours = f"{theirs}.encoder.layer.{layer}", f"blocks.{layer}"
        found |= stacked(state, [f"{their}.attention.self.{part}" for part in ("query", "key", "value")], f"{ours}.qkv")
        found |= dense(state, f"{their}.attention.output.dense", f"{ours}.attention_out")
        found |= norm(state, f"{their}.attention.output.LayerNorm", f"{ours}.attention_norm")
        found |= dense(state, f"{their}.intermediate.dense", f"{ours}.ff_in")
        found |= dense(state, f"{their}.output.dense", f"{ours}.ff_out")
        found |= norm(state, f"{their}.output.LayerNorm", f"{ours}.ff_norm")
    return found


def albert_block(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The one block that all layers of ALBERT share."""
    theirs, ours = "albert.encoder.albert_layer_groups.0.albert_layers.0", "blocks.0"
    found = stacked(state, [f"{theirs}.attention.{part}" for part in ("query", "key", "value")], f"{ours}.qkv")
    found |= dense(state, f"{theirs}.attention.dense", f"{ours}.attention_out")
    found |= norm(state, f"{theirs}.attention.LayerNorm", f"{ours}.attention_norm")
    found |= dense(state, f"{theirs}.ffn", f"{ours}.ff_in") | dense(state, f"{theirs}.ffn_output", f"{ours}.ff_out")
    return found | norm(state, f"{theirs}.full_layer_layer_norm", f"{ours}.ff_norm")


def head(state: Mapping[str, Tensor], theirs: str, output_bias: str) -> dict[str, Tensor]:
    """Dense layer, norm and output bias of a masked language model."""
    found = dense(state, f"{theirs}.dense", "head_dense") | norm(state, f"{theirs}.LayerNorm", "head_norm")
    return found | {"head_bias": state[output_bias]}


def load(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Our model with these weights, all of them, in float64."""
    model = model.double().eval()
    model.compute_dtype = torch.float64
    model.load_state_dict(dict(weights), strict=True)
    return model
