"""Equality with `transformers`: generator and discriminator of ELECTRA together give the loss of theirs.

Models are made from configurations in code with random weights; nothing is fetched.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference_weights as weights
import torch
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

from scaling.architectures.transformer import Encoder
from scaling.models.norms import NORM_EPS
from scaling.models.replaced_token import drawn
from scaling.objectives.base import Vocabulary
from scaling.objectives.replaced_token import ReplacedToken

VOCAB, LAYERS, WIDTH, HEADS, LENGTH, FF, EMBEDDING = 37, 2, 24, 3, 20, 48, 12
SHARED = ("word_embeddings", "position_embeddings")


def config(width: int, heads: int) -> ElectraConfig:
    return ElectraConfig(
        vocab_size=VOCAB, embedding_size=EMBEDDING, hidden_size=width, num_hidden_layers=LAYERS,
        num_attention_heads=heads, intermediate_size=FF * width // WIDTH, max_position_embeddings=LENGTH,
        layer_norm_eps=NORM_EPS,
    )  # fmt: skip


def body(state: Any) -> dict[str, torch.Tensor]:
    found = weights.bert_embeddings(state, "electra") | weights.bert_blocks(state, "electra", LAYERS)
    return found | weights.dense(state, "electra.embeddings_project", "token_projection")


@pytest.mark.parametrize("over", ["all", "masked"])
def test_electras_pretraining_loss(over: Any) -> None:
    judge = weights.randomised(ElectraForPreTraining(config(WIDTH, HEADS)), 0)
    guesser = weights.randomised(ElectraForMaskedLM(config(8, 1)), 1)
    theirs, small = judge.state_dict(), guesser.state_dict()
    for name in SHARED:
        small[f"electra.embeddings.{name}.weight"].copy_(theirs[f"electra.embeddings.{name}.weight"])

    shape = Encoder(
        n_layer=LAYERS, d_model=WIDTH, n_head=HEADS, seq_len=LENGTH, d_ff=FF, embedding_size=EMBEDDING,
        positions="learned", norm="layer", norm_placement="post", bias=True, embedding_norm=True, segments=2,
        activation="gelu_exact",
    )  # fmt: skip
    objective = ReplacedToken(generator_width=1 / 3, over=over)
    found = {f"discriminator.{n}": w for n, w in body(theirs).items()}
    own = body(small) | weights.head(small, "generator_predictions", "generator_lm_head.bias")
    found |= {f"generator.{n}": w for n, w in own.items()}
    found |= weights.dense(theirs, "discriminator_predictions.dense", "head_dense")
    found |= weights.dense(theirs, "discriminator_predictions.dense_prediction", "head_out")
    model = weights.load(objective.build(shape, VOCAB, 0), found)

    text = np.random.default_rng(0).integers(0, 35, (6, LENGTH))
    batch = objective.train_batch(text, Vocabulary(VOCAB, 35, 35, 36), np.random.default_rng(1))
    named = {name: torch.from_numpy(array) for name, array in batch.named().items()}
    inputs, positions, original = named["inputs"], named["positions"], named["original"]

    labels = torch.full_like(original, -100).scatter(1, positions, original.gather(1, positions))
    guessed = guesser(inputs, labels=labels)
    at_masked = guessed.logits.gather(1, positions.unsqueeze(-1).expand(-1, -1, VOCAB))
    corrupted = original.scatter(1, positions, drawn(at_masked, named["uniform"]))
    replaced = (corrupted != original).long()
    assert int(replaced.sum()) > 0
    judged = torch.ones_like(original) if over == "all" else torch.zeros_like(original).scatter(1, positions, 1)
    found_loss = judge(corrupted, attention_mask=None, labels=replaced)
    logits = found_loss.logits[judged == 1]
    nats = torch.nn.functional.binary_cross_entropy_with_logits(logits, replaced[judged == 1].double())
    if over == "all":
        torch.testing.assert_close(nats.float(), found_loss.loss.float())

    ours = model.train()(named.pop("inputs"), named.pop("positions"), named.pop("targets"), **named)
    n = 6 * objective.predicted_per_window(LENGTH)
    torch.testing.assert_close(ours.sum() / n, guessed.loss + 50 * nats)
