import numpy as np
import pytest

from scaling.corpora import split
from scaling.corpora.hashing import draws
from scaling.corpora.split import Pieces
from scaling.errors import CorpusError


def hashes(n: int) -> np.ndarray:
    return draws(3, np.arange(n))


@pytest.mark.parametrize("n", [20, 100, 3_000, 7_000, 100_000])
def test_documents_fall_in_exactly_one_part(n: int) -> None:
    parts = split.split_documents(hashes(n), np.full(n, 5_000))
    together = np.concatenate(list(parts.values()))
    assert sorted(together.tolist()) == list(range(n))
    assert min(len(parts["test"]), len(parts["dev"])) >= 2
    assert len(parts["train"]) >= 0.65 * n


def test_a_large_corpus_holds_out_what_a_thousand_documents_need() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(200, 20_000, 7_500)
    parts = split.split_documents(hashes(7_500), sizes)
    held = sizes[parts["test"]]
    assert (held >= 1024).sum() >= 1024
    assert np.minimum(held // 129, 8).sum() >= 8192
    assert len(parts["train"]) > 0.78 * 7_500


def test_the_part_follows_the_content_not_the_order() -> None:
    h = hashes(500)
    sizes = np.full(500, 2_000)
    shuffled = np.random.default_rng(0).permutation(500)
    one = set(h[split.split_documents(h, sizes)["test"]].tolist())
    two = set(h[shuffled][split.split_documents(h[shuffled], sizes)["test"]].tolist())
    assert one == two


def test_blocks_cover_the_text_once_and_keep_characters_whole() -> None:
    text = ("é" * 30_000 + "x").encode()
    data = np.frombuffer(text, np.uint8)
    pieces = split.blocks(data, Pieces(np.array([0]), np.array([len(text)]), np.array([0])))
    assert pieces.begins[0] == 0
    assert pieces.ends[-1] == len(text)
    np.testing.assert_array_equal(pieces.begins[1:], pieces.ends[:-1])
    for begin, end in zip(pieces.begins, pieces.ends, strict=True):
        text[begin:end].decode()


def test_a_text_too_short_to_hold_out_is_refused() -> None:
    data = np.zeros(6_000, np.uint8)
    with pytest.raises(CorpusError, match=r"6000 bytes of distinct text.*20 documents or 10240 bytes"):
        split.blocks(data, Pieces(np.array([0]), np.array([6_000]), np.array([0])))


@pytest.mark.parametrize("n", [20, 39, 40, 272, 5_000])
def test_no_training_block_touches_a_held_out_one(n: int) -> None:
    parts, dropped = split.split_blocks(hashes(n), n, np.arange(n))
    held = set(parts["test"].tolist()) | set(parts["dev"].tolist())
    assert not any(i + 1 in held or i - 1 in held for i in parts["train"].tolist())
    assert sum(len(part) for part in parts.values()) + dropped == n
    assert len(parts["test"]) >= 2
    assert len(parts["train"]) >= 0.5 * n


def test_duplicates_are_all_but_the_first() -> None:
    assert split.first_occurrences(np.array([5, 3, 5, 3, 4], np.uint64)).tolist() == [True, True, False, False, True]
