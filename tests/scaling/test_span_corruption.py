"""Span corruption: sentinels reconstruct the text, counts and span lengths are those of the T5 authors' code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scaling.architectures.encoder_decoder import EncoderDecoder
from scaling.architectures.prefix_decoder import PrefixDecoder
from scaling.architectures.transformer import Decoder, Encoder
from scaling.objectives.base import Vocabulary
from scaling.objectives.span_corruption import SpanCorruption, noise_mask

VOCAB = Vocabulary(size=256, n_ordinary=250, separator_id=255, mask_id=254)


def shape(seq_len: int) -> EncoderDecoder:
    return EncoderDecoder(n_layer=1, d_model=16, n_head=2, seq_len=seq_len)


def text(seq_len: int, windows: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, (windows, seq_len)).astype(np.uint8)


def reconstructed(inputs: np.ndarray, targets: np.ndarray) -> list[int]:
    """The text: each sentinel of the input replaced by what follows it in the target."""
    spans: dict[int, list[int]] = {}
    for token in targets.tolist():
        if token >= VOCAB.size:
            spans[token] = current = []
        else:
            current.append(token)
    found: list[int] = []
    for token in inputs.tolist():
        found += spans[token] if token >= VOCAB.size else [token]
    return found


@given(st.integers(20, 200), st.sampled_from([0.15, 0.3, 0.5]), st.sampled_from([1.5, 3.0, 8.0]), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_sentinels_reconstruct_the_text(seq_len: int, density: float, mean_span: float, seed: int) -> None:
    objective = SpanCorruption(noise_density=density, mean_span=mean_span)
    if objective.serves(shape(seq_len)) is not None:
        return
    windows = text(seq_len, seed=seed)
    batch = objective.train_batch(windows, VOCAB, np.random.default_rng(seed))
    source, target = objective.sizes(seq_len)
    assert batch.inputs.shape == (5, source)
    assert batch.targets.shape == batch.extra["decoder_inputs"].shape == (5, target)
    _, spans = objective.noise(seq_len)
    for row in range(5):
        assert reconstructed(batch.inputs[row], batch.targets[row]) == windows[row].tolist()
        assert batch.inputs[row][batch.inputs[row] >= 256].tolist() == list(range(256, 256 + spans))
        assert batch.targets[row][batch.targets[row] >= 256].tolist() == list(range(256, 257 + spans))
        assert batch.targets[row, -1] == 256 + objective.extra_tokens(seq_len) - 1
    np.testing.assert_array_equal(batch.extra["decoder_inputs"][:, 1:], batch.targets[:, :-1])
    assert (batch.extra["decoder_inputs"][:, 0] == VOCAB.separator_id).all()


def test_counts_are_those_of_the_t5_code() -> None:
    """512 tokens at 15 % in spans of 3: 77 corrupted tokens in 26 spans; the others round half to even, too."""
    assert SpanCorruption().noise(512) == (77, 26)
    assert SpanCorruption().sizes(512) == (512 - 77 + 26, 77 + 26 + 1)
    assert SpanCorruption().noise(30) == (4, 1)
    assert SpanCorruption(noise_density=0.5).noise(5) == (2, 1)


def test_span_lengths_are_uniform_compositions() -> None:
    """12 tokens in 4 spans: a span's length k has probability C(11−k, 2)/C(11, 3)."""
    mask = noise_mask(20_000, 80, 12, 4, np.random.default_rng(1))
    assert (mask.sum(axis=1) == 12).all()
    assert not mask[:, 0].any()
    assert mask[:, -1].all()
    ends = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(int), axis=1)
    begins, stops = np.nonzero(ends == 1)[1].reshape(-1, 4), np.nonzero(ends == -1)[1].reshape(-1, 4)
    lengths = stops - begins
    expected = np.array([(11 - k) * (10 - k) / 2 for k in range(1, 10)]) / 165
    for span in range(4):
        counts = np.bincount(lengths[:, span], minlength=10)[1:]
        assert stats.chisquare(counts, expected * 20_000).pvalue > 1e-4


def test_heldout_corruptions_cover_a_text_once_on_average() -> None:
    objective = SpanCorruption()
    windows = text(128, 50)
    batches = objective.heldout_batches(windows, VOCAB, np.random.default_rng(2))
    assert len(batches) == objective.heldout_passes(128) == 7
    again = objective.heldout_batches(windows, VOCAB, np.random.default_rng(2))
    assert all(np.array_equal(a.inputs, b.inputs) for a, b in zip(batches, again, strict=True))
    assert not np.array_equal(batches[0].inputs, batches[1].inputs)


def test_what_it_cannot_train_is_refused_with_a_reason() -> None:
    small: dict[str, Any] = {"n_layer": 1, "d_model": 16, "n_head": 2}
    assert SpanCorruption().serves(EncoderDecoder(**small)) is None
    assert SpanCorruption().serves(PrefixDecoder(**small)) is None
    for cls in (Decoder, Encoder):
        assert "use architecture encoder_decoder" in str(SpanCorruption().serves(cls(**small)))
    assert "less than one span" in str(SpanCorruption().serves(shape(16)))
    assert "too little between" in str(SpanCorruption(noise_density=0.8, mean_span=1.0).serves(shape(64)))


@pytest.mark.parametrize("windows", [1, 4])
def test_a_text_of_one_repeated_token_is_no_trap(windows: int) -> None:
    batch = SpanCorruption().train_batch(np.zeros((windows, 64), np.int64), VOCAB, np.random.default_rng(0))
    assert batch.inputs.shape[0] == batch.targets.shape[0] == windows
