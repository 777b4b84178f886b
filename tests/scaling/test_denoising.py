"""BART's noises: shares, span lengths, and that permuted and rotated text is the text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from scaling.architectures.encoder_decoder import EncoderDecoder
from scaling.architectures.prefix_decoder import PrefixDecoder
from scaling.objectives.base import Vocabulary
from scaling.objectives.denoising import Denoising, infilled, permuted, poisson_spans, rotated
from scaling.tokenizers.byte import ByteEncoder

PLAIN = Vocabulary(size=256, n_ordinary=250, separator_id=255, mask_id=254)
TEXT = b"One sentence. Two 3.14 words! \xffA third? Yes. And the end"
SENTENCES = [b"One sentence.", b" Two 3.14 words!", b" \xff", b"A third?", b" Yes.", b" And the end"]


def classed() -> Vocabulary:
    """Bytes, and what is known of their text."""
    from scaling.objectives.word_units import classes_of

    encoder = ByteEncoder()
    return encoder.vocabulary._replace(classes=classes_of(encoder.pieces()))


def text(seq_len: int, windows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, (windows, seq_len)).astype(np.uint8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    "noises", [["permutation"], ["masking"], ["deletion"], ["infilling"], ["rotation"], ["permutation", "infilling"]]
)
def test_the_decoder_writes_the_original(noises: list[str]) -> None:
    objective = Denoising.model_validate({"noises": noises})
    words = text(100, 20)
    batch = objective.train_batch(words, classed(), rng())
    np.testing.assert_array_equal(batch.targets, words)
    np.testing.assert_array_equal(batch.extra["decoder_inputs"][:, 1:], words[:, :-1])
    assert (batch.extra["decoder_inputs"][:, 0] == 255).all()
    assert batch.inputs.shape == (20, objective.sizes(100)[0])
    assert objective.predicted_per_window(100) == 100


def test_masking_hides_the_stated_share_and_nothing_else() -> None:
    words = text(100, 2000)
    batch = Denoising(noises=("masking",)).train_batch(words, PLAIN, rng(1))
    hidden = batch.inputs == PLAIN.mask_id
    assert (hidden.sum(axis=1) == 30).all()
    np.testing.assert_array_equal(batch.inputs[~hidden], words[~hidden])
    counts = hidden.sum(axis=0)
    low, high = stats.binom.interval(1 - 1e-5, 2000, 0.3)
    assert (low <= counts).all()
    assert (counts <= high).all()


def test_deletion_leaves_a_subsequence_of_the_stated_length() -> None:
    words = np.tile(np.arange(100), (500, 1))
    batch = Denoising(noises=("deletion",)).train_batch(words, PLAIN, rng(2))
    assert batch.inputs.shape == (500, 70)
    assert (np.diff(batch.inputs, axis=1) > 0).all()
    low, high = stats.binom.interval(1 - 1e-5, 500, 0.7)
    kept = np.bincount(batch.inputs.ravel(), minlength=100)
    assert (low <= kept).all()
    assert (kept <= high).all()


def test_span_lengths_are_poisson_zero_included() -> None:
    """All but the last of each window, which is cut to fit, against the Poisson law itself."""
    spans = poisson_spans(4000, 300, 3.0, rng(3))
    np.testing.assert_array_equal(spans.clip(0).sum(axis=1), 300)
    last = (spans >= 0).cumsum(axis=1).argmax(axis=1)
    spans[np.arange(4000), last] = -1
    # The first fifty of each: the sum that ends a window favours none of them.
    counts = np.bincount(spans[:, :50].ravel(), minlength=12)
    expected = stats.poisson.pmf(np.arange(10), 3.0)
    found, law = np.append(counts[:10], counts[10:].sum()), np.append(expected, 1 - expected.sum())
    assert (spans[:, :50] >= 0).all()
    assert stats.chisquare(found, law * found.sum()).pvalue > 1e-4


@given(st.integers(1, 60), st.floats(1.0, 20.0), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_infilled_text_is_the_text_with_spans_for_masks(total: int, mean: float, seed: int) -> None:
    """Each mask stands for its span; read against the text it leaves no other way, since tokens are in order."""
    words = np.tile(np.arange(64), (6, 1))
    spans = poisson_spans(6, total, mean, rng(seed))
    vocab = Vocabulary(size=300, n_ordinary=250, separator_id=298, mask_id=299)
    shown, lengths = infilled(words, spans, vocab, rng(seed))
    for row, length, drawn in zip(shown, lengths, spans, strict=True):
        inside = row[:length]
        masks, kept = inside == 299, inside[inside != 299]
        assert masks.sum() == (drawn >= 0).sum()
        assert length == 64 - total + masks.sum() <= 64
        assert len(kept) == 64 - total
        assert (np.diff(kept) > 0).all()
        assert (row[length:] == 298).all()
        # Between kept tokens, what is missing is the sum of the spans of the masks that stand there.
        edges = np.concatenate([[-1], kept, [64]])
        gaps = np.diff(edges) - 1
        between = np.bincount(np.cumsum(~masks)[masks], minlength=len(gaps))
        assert ((gaps == 0) | (between > 0)).all()
        assert sorted(g for g in drawn.tolist() if g > 0) == sorted(gaps[gaps > 0]) or (between > 1).any()


def test_permutation_keeps_sentences_whole_and_orders_them_evenly() -> None:
    words = np.tile(np.frombuffer(TEXT, np.uint8), (3000, 1))
    shown = permuted(words, classed(), rng(4))
    firsts = dict.fromkeys(SENTENCES, 0)
    for row in shown:
        left, order = row.astype(np.uint8).tobytes(), []
        while left:
            (sentence,) = [s for s in SENTENCES if left.startswith(s) and s not in order]
            order.append(sentence)
            left = left[len(sentence) :]
        assert sorted(order) == sorted(SENTENCES)
        firsts[order[0]] += 1
    assert stats.chisquare(list(firsts.values())).pvalue > 1e-4
    np.testing.assert_array_equal(permuted(words[:3] % 32, PLAIN, rng(5)), words[:3] % 32)


def test_rotation_turns_the_text_and_not_what_fills_it_up() -> None:
    words = np.tile(np.arange(40), (4000, 1))
    lengths = np.full(4000, 25)
    shown = rotated(words, lengths, rng(6))
    np.testing.assert_array_equal(shown[:, 25:], words[:, 25:])
    turned = shown[:, :25]
    np.testing.assert_array_equal((turned - turned[:, :1]) % 25, words[:, :25])
    assert stats.chisquare(np.bincount(turned[:, 0], minlength=25)).pvalue > 1e-4


def test_all_noises_together() -> None:
    objective = Denoising(noises=("permutation", "masking", "deletion", "infilling", "rotation"))
    words = text(128, 50)
    batch = objective.train_batch(words, classed(), rng(7))
    assert batch.inputs.shape == (50, 90)
    for row, length in zip(batch.inputs, batch.extra["lengths"], strict=True):
        assert 1 <= length <= 90
        assert (row[length:] == 255).all()
    assert batch.extra["lengths"].std() > 0


def test_heldout_noise_is_one_draw_for_all_trials() -> None:
    words = text(64, 9)
    (first,), (again,) = (Denoising().heldout_batches(words, classed(), rng(8)) for _ in range(2))
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert Denoising().heldout_passes(64) == 1


def test_what_it_cannot_train_is_refused_with_a_reason() -> None:
    small: dict[str, Any] = {"n_layer": 1, "d_model": 16, "n_head": 2}
    assert Denoising().serves(EncoderDecoder(**small)) is None
    assert "encoder_decoder" in str(Denoising().serves(PrefixDecoder(**small)))
    assert "less than one span" in str(Denoising().serves(EncoderDecoder(**small, seq_len=8)))
    tiny = EncoderDecoder(**small, seq_len=4)
    assert "nothing to corrupt" in str(Denoising(noises=("masking",), noise_rate=0.1).serves(tiny))
    assert "nothing of" in str(Denoising(noises=("deletion",), noise_rate=0.95).serves(tiny))


@pytest.mark.parametrize("fields", [{"noises": []}, {"noises": ["masking", "masking"]}, {"noises": ["blur"]}])
def test_impossible_noises_are_refused(fields: dict[str, list[str]]) -> None:
    with pytest.raises(ValidationError):
        Denoising.model_validate(fields)
