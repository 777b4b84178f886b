"""Contrastive learning: which windows are negatives of which, that dropout alone makes the views, heads for pairs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode
from trial_world import finish, ready

from scaling.accounting import training_flops
from scaling.architectures.transformer import Decoder, Encoder
from scaling.execution import choose_execution, micro_batch
from scaling.job import Execution, Planned
from scaling.models.contrastive import ContrastiveModel, PairClassifier, cosine_loss, info_nce, pooled
from scaling.objectives.base import Vocabulary
from scaling.objectives.contrastive import Contrastive
from scaling.trial import Trial

VOCAB = Vocabulary(size=40, n_ordinary=36, separator_id=38, mask_id=39)
SHAPE = Encoder(n_layer=1, d_model=16, n_head=2, seq_len=12, dropout=0.1)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "train-cache"))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def windows(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, VOCAB.n_ordinary, (count, 12)))


def built(group: int = 4, **fields: Any) -> ContrastiveModel:
    model = Contrastive(group=group, **fields).build(SHAPE, VOCAB.size, 0)
    assert isinstance(model, ContrastiveModel)
    return model


def test_the_loss_is_a_cross_entropy_over_cosines() -> None:
    first, second = normal(6, 8), normal(6, 8, seed=1)
    cosine = torch.nn.functional.cosine_similarity(first[:, None], second[None], dim=-1)
    expected = torch.nn.functional.cross_entropy(cosine / 0.05, torch.arange(6), reduction="none")
    torch.testing.assert_close(info_nce(first, second, 0.05), expected)


def test_known_losses() -> None:
    """Views that agree among orthogonal others: ln(1 + (G − 1) e^(−1/τ)). Views that are all one: ln G."""
    eye = torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(info_nce(eye, eye, 0.5), torch.full((5,), math.log(1 + 4 * math.exp(-2))).double())
    same = torch.ones(5, 3, dtype=torch.float64)
    torch.testing.assert_close(info_nce(same, same, 0.05), torch.full((5,), math.log(5)).double())


def test_every_window_is_a_negative_of_every_other_of_its_group() -> None:
    """The loss of i depends on v_j for all j, and its push on a negative is symmetric where the views are equal."""
    first, second = normal(6, 8), normal(6, 8, seed=1).requires_grad_()
    for i, loss in enumerate(info_nce(first, second, 0.5)):
        (gradient,) = torch.autograd.grad(loss, second, retain_graph=True)
        assert (gradient.abs().sum(-1) > 0).all(), i
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    torch.testing.assert_close(info_nce(first[order], second[order], 0.5), info_nce(first, second, 0.5)[order])
    score = (torch.nn.functional.normalize(first, dim=-1) @ torch.nn.functional.normalize(first, dim=-1).T) / 0.5
    torch.testing.assert_close(score, score.T)
    swapped = info_nce(first, first.clone(), 0.5)
    torch.testing.assert_close(swapped, score.logsumexp(0) - score.diagonal())


def test_equal_texts_are_no_negatives() -> None:
    first, second = normal(4, 8), normal(4, 8, seed=1)
    alike = torch.zeros(4, 4, dtype=torch.bool)
    alike[0, 1] = alike[1, 0] = True
    found = info_nce(first, second, 0.5, alike)
    keep = torch.tensor([0, 2, 3])
    torch.testing.assert_close(found[0], info_nce(first[keep], second[keep], 0.5)[0])
    torch.testing.assert_close(found[2:], info_nce(first, second, 0.5)[2:])
    model = built(group=3)
    text = windows(3)
    text[2] = text[1]
    torch.manual_seed(0)
    two = model(text, None, torch.zeros(3, 1, dtype=torch.long))
    assert float(two[1].detach()) < math.log(3)


def test_groups_know_nothing_of_each_other() -> None:
    """A batch of two groups has the losses of the groups by themselves: micro-batches may be cut between them."""
    model = built(group=4).double()
    model.compute_dtype = torch.float64
    for module in model.encoder.modules():
        if hasattr(module, "dropout"):
            module.dropout = 0.0
    model.encoder.shape = SHAPE.model_copy(update={"dropout": 0.0})
    text, none = windows(8), torch.zeros(8, 1, dtype=torch.long)
    whole = model(text, None, none)
    parts = torch.cat([model(text[:4], None, none[:4]), model(text[4:], None, none[4:])])
    torch.testing.assert_close(whole, parts)
    changed = text.clone()
    changed[7] = windows(1, seed=5)
    after = model(changed, None, none)
    assert torch.equal(after[:4], whole[:4])
    assert (after[4:] != whole[4:]).all()


@pytest.mark.parametrize("training", [True, False])
def test_dropout_alone_makes_the_views_and_the_seed_makes_dropout(training: bool) -> None:
    model = built().train(training)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(model.views(windows(4)))
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.equal(found[0][0], found[2][0])
    first, second = found[0]
    assert not torch.equal(first, second)
    cosine = torch.nn.functional.cosine_similarity(first[:, None], second[None], dim=-1).detach()
    assert float(cosine.diagonal().mean()) > float(cosine.mean()) + 0.2


def test_pooling_reads_the_first_position_or_the_mean() -> None:
    hidden = normal(2, 3, 5, 4)
    torch.testing.assert_close(pooled(hidden, "first"), hidden[:, :, 0])
    torch.testing.assert_close(pooled(hidden, "mean"), hidden.sum(2) / 5)


@pytest.mark.parametrize("pool", ["first", "mean"])
@pytest.mark.parametrize("fields", [{}, {"embedding_size": 10, "head_transform": True}, {"positions": "learned"}])
def test_accounting_equals_the_model(pool: Any, fields: dict[str, Any]) -> None:
    shape, objective = SHAPE.model_copy(update=fields), Contrastive(group=4, pool=pool)
    model = objective.build(shape, VOCAB.size, 0)
    stated = objective.params(shape, VOCAB.size)
    assert stated.total == sum(p.numel() for p in model.parameters())
    assert stated.non_embedding == shape.params(VOCAB.size).non_embedding
    assert stated.non_embedding_head == stated.non_embedding + 16 * 16
    with FlopCounterMode(display=False) as counter:
        model(windows(8), None, torch.zeros(8, 1, dtype=torch.long)).sum().backward()
    assert counter.get_total_flops() == sum(training_flops(objective.forward_flops(shape, VOCAB.size, 8)).values())


def test_what_cannot_be_trained_is_refused() -> None:
    objective = Contrastive()
    assert objective.serves(SHAPE) is None
    assert "dropout" in str(objective.serves(SHAPE.model_copy(update={"dropout": 0.0})))
    assert "encoder" in str(objective.serves(Decoder(n_layer=1, d_model=16, n_head=2, dropout=0.1)))
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        Contrastive(group=1)
    with pytest.raises(ValidationError, match=r"12 windows, not a multiple of the 8 .* multiple of 256"):
        planned(Execution(), batch_tokens=384)


def test_micro_batches_hold_whole_groups() -> None:
    plan = planned(Execution(), batch_tokens=1024)
    assert [micro_batch(plan.trial, largest) for largest in (1, 300, 600, 10_000)] == [256, 256, 512, 1024]
    assert choose_execution(plan.trial, plan.vocab_size).micro_batch_tokens == 1024


def planned(execution: Execution, **changes: Any) -> Planned:
    spec = {
        "architecture": {"type": "encoder", "n_layer": 1, "d_model": 16, "n_head": 2, "seq_len": 32, "dropout": 0.1},
        "objective": {"type": "contrastive", "group": 8, "temperature": 0.2, "pool": "mean"},
        "corpus": {
            "type": "markov",
            "order": 1,
            "symbols": 8,
            "tail": 0.0,
            "sharpness": 0.5,
            "n_documents": 2048,
            "document_length": 512,
        },
        "optimizer": {"type": "adamw", "lr": 0.01},
        "batch_tokens": 512,
        "steps": 100,
        "heldout": "nested",
        "precision": "fp32",
        **changes,
    }
    trial = Trial.model_validate_json(json.dumps(spec))
    return ready(trial, execution)


def run(plan: Planned, folder: Path) -> Any:
    store = finish(folder, plan)
    return store.rows().iloc[0]


def test_training_lowers_the_heldout_loss_and_repeats_to_the_bit(tmp_path: Path) -> None:
    execution = Execution(micro_batch_tokens=512)
    barely = run(planned(execution, steps=1), tmp_path / "barely")
    first, again = (run(planned(execution), tmp_path / name) for name in ("a", "b"))
    assert first.status == "finished"
    assert first.loss == again.loss
    assert first.loss < barely.loss - 4 * math.hypot(first.loss_se, barely.loss_se)
    assert first.tokens_predicted == 100 * 16


def test_a_pair_classifier_sees_both_sentences_and_their_difference() -> None:
    head = PairClassifier(3, 2, seed=0).double()
    u, v = normal(4, 3), normal(4, 3, seed=1)
    weight = head.weight
    expected = u @ weight[:, :3].T + v @ weight[:, 3:6].T + (u - v).abs() @ weight[:, 6:].T
    torch.testing.assert_close(head(u, v), expected)
    with torch.no_grad():
        weight[:, :6] = 0.0
    torch.testing.assert_close(head(u, v), head(v, u))
    labels = torch.tensor([0, 1, 1, 0])
    with torch.no_grad():
        weight.zero_()
    torch.testing.assert_close(head.loss(u, v, labels), torch.full((4,), math.log(2)).double())


def test_the_cosine_loss_is_symmetric_and_zero_where_it_is_met() -> None:
    u, v = normal(5, 3), normal(5, 3, seed=1)
    target = torch.tensor([0.0, 0.2, 0.5, 0.8, 1.0], dtype=torch.float64)
    torch.testing.assert_close(cosine_loss(u, v, target), cosine_loss(v, u, target))
    torch.testing.assert_close(cosine_loss(u, 3.0 * u, target), (1.0 - target).square())
    assert not cosine_loss(u, v, torch.nn.functional.cosine_similarity(u, v)).any()
