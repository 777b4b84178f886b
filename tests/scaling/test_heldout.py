import numpy as np
import pytest

from scaling.corpora import heldout
from scaling.errors import CorpusError

SEPARATOR = 255


def stream(lengths: list[int]) -> np.ndarray:
    rng = np.random.default_rng(1)
    documents = [np.append(rng.integers(0, 200, n), SEPARATOR) for n in lengths]
    return np.concatenate(documents).astype(np.uint8)


def byte_sizes() -> np.ndarray:
    sizes = np.ones(256, np.int64)
    sizes[SEPARATOR] = 0
    return sizes


def full(lengths: list[int], seq_len: int = 128) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tokens = stream(lengths)
    return tokens, *heldout.choose(tokens, SEPARATOR, seq_len, byte_sizes(), "seed")


def test_many_documents_give_two_to_the_twenty_bytes_and_a_nested_quarter() -> None:
    lengths = np.random.default_rng(0).integers(1_100, 4_000, 1_200).tolist()
    tokens, starts, document = full(lengths)
    assert len(starts) * 128 == 1 << 20
    per_document = np.bincount(document)
    assert per_document.max() == 8
    assert np.count_nonzero(per_document) >= 1_000
    nested = heldout.cut(tokens, starts, document, window=129, seq_len=128, token_bytes=byte_sizes(), nested=True)
    assert nested.bytes_per_window.sum() == 1 << 18
    assert nested.n_documents >= 1_000
    np.testing.assert_array_equal(nested.starts, starts[: len(nested.starts)])


@pytest.mark.parametrize("seq_len", [16, 128, 1024])
def test_windows_stay_inside_one_document_and_never_overlap(seq_len: int) -> None:
    lengths = np.random.default_rng(2).integers(20, 5_000, 300).tolist()
    tokens, starts, document = full(lengths, seq_len)
    ends = np.flatnonzero(tokens == SEPARATOR)
    begins = np.concatenate([[0], ends[:-1] + 1])
    assert (starts >= begins[document]).all()
    assert (starts + seq_len + 1 <= ends[document]).all()
    assert (np.diff(np.sort(starts)) >= seq_len + 1).all()


def test_short_documents_come_in_only_where_long_ones_do_not_suffice() -> None:
    lengths = [1_100] * 1_024 + [140] * 2_000
    _, starts, document = full(lengths)
    assert len(starts) == 8_192
    assert document.max() < 1_024
    _, starts, document = full([1_100] * 600 + [140] * 2_000)
    assert np.bincount(document).max() == 8
    assert len(starts) == 600 * 8 + 2_000


def test_few_documents_give_more_windows_each_rather_than_few_bytes() -> None:
    _, starts, document = full([20_000] * 10)
    assert len(np.unique(document)) == 10
    assert len(starts) == 10 * (20_000 // 129)


def test_causal_and_masked_windows_start_together() -> None:
    tokens, starts, document = full([3_000] * 50)
    causal, masked = (
        heldout.cut(tokens, starts, document, window=w, seq_len=128, token_bytes=byte_sizes(), nested=False)
        for w in (129, 128)
    )
    np.testing.assert_array_equal(causal.windows[:, :128], masked.windows)
    assert set(causal.bytes_per_window.tolist()) == set(masked.bytes_per_window.tolist()) == {128}
    assert causal.windows.dtype == np.uint8


def test_positions_are_spread_evenly_over_a_document() -> None:
    _, starts, _ = full([100_000] * 2, seq_len=8)
    first = starts[starts < 100_000]
    assert abs(first.mean() / 100_000 - 0.5) < 0.02


def test_fewer_than_two_long_documents_are_refused() -> None:
    with pytest.raises(CorpusError, match="shorter seq_len than 128"):
        full([128, 128, 500])
