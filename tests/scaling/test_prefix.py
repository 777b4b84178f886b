"""Prefix language modelling: what is scored, and how much."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from scaling.architectures.encoder_decoder import EncoderDecoder
from scaling.architectures.prefix_decoder import PrefixDecoder
from scaling.architectures.transformer import Decoder
from scaling.objectives.base import Vocabulary
from scaling.objectives.prefix import Prefix

VOCAB = Vocabulary(size=256, n_ordinary=250, separator_id=255, mask_id=254)


def text(seq_len: int, windows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 250, (windows, seq_len + 1)).astype(np.uint8)


@pytest.mark.parametrize("seq_len", [4, 31, 32])
@pytest.mark.parametrize("windows", [1, 6, 7])
def test_every_batch_predicts_what_the_accounting_says(seq_len: int, windows: int) -> None:
    """At random points too: the scored tokens are those after the prefix, none of which the prefix shows."""
    words = text(seq_len, windows)
    batch = Prefix().train_batch(words, VOCAB, np.random.default_rng(1))
    scored = batch.targets >= 0
    assert scored.sum() == windows * Prefix().predicted_per_window(seq_len)
    for row, prefix in enumerate(batch.extra["prefix"]):
        assert 1 <= prefix <= seq_len
        assert np.flatnonzero(scored[row]).tolist() == list(range(prefix - 1, seq_len))
        np.testing.assert_array_equal(batch.targets[row, prefix - 1 :], words[row, prefix:])
    np.testing.assert_array_equal(batch.inputs, words[:, :-1])


def test_split_points_are_uniform() -> None:
    batch = Prefix().train_batch(text(16, 6000), VOCAB, np.random.default_rng(2))
    predicted = 17 - batch.extra["prefix"][::2]
    assert stats.chisquare(np.bincount(predicted, minlength=16)[1:]).pvalue > 1e-4


def test_a_fixed_share_scores_the_rest_alone() -> None:
    objective = Prefix(prefix_share=0.25)
    words = text(31, 3)
    batch = objective.train_batch(words, VOCAB, np.random.default_rng(0))
    assert objective.predicted_per_window(31) == 24
    assert batch.positions is not None
    assert batch.positions[0].tolist() == list(range(7, 31))
    np.testing.assert_array_equal(batch.targets, words[:, 8:])
    assert (batch.extra["prefix"] == 8).all()
    assert len(objective.heldout_batches(words, VOCAB, np.random.default_rng(0))) == objective.heldout_passes(31) == 1


def test_heldout_splits_pair_up() -> None:
    words = text(32, 5)
    first, second = Prefix().heldout_batches(words, VOCAB, np.random.default_rng(0))
    np.testing.assert_array_equal((first.targets >= 0).sum(1) + (second.targets >= 0).sum(1), 32)


def test_what_it_cannot_train_is_refused_with_a_reason() -> None:
    small: dict[str, Any] = {"n_layer": 1, "d_model": 16, "n_head": 2}
    assert Prefix().serves(PrefixDecoder(**small)) is None
    for cls in (Decoder, EncoderDecoder):
        assert "prefix_decoder" in str(Prefix().serves(cls(**small)))
    assert "too short" in str(Prefix().serves(PrefixDecoder(**small, seq_len=3)))
    with pytest.raises(ValueError, match="local_window hides the prefix"):
        PrefixDecoder(**small, local_window=4)
