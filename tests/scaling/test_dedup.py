import numpy as np

from scaling.corpora import dedup


def pack(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ends = np.cumsum([len(t) for t in texts])
    return np.frombuffer(b"".join(texts), np.uint8), ends - [len(t) for t in texts], ends


def noise(n: int, seed: int) -> bytes:
    return bytes(np.random.default_rng(seed).integers(97, 123, n, dtype=np.uint8))


def test_equal_shingles_hash_equally_wherever_they_stand_and_others_differ() -> None:
    inside = noise(dedup.SHINGLE_BYTES, 0)
    data = noise(131, 1) + inside + noise(77, 2) + inside + noise(50, 3)
    hashes = dedup._rolling(np.frombuffer(data, np.uint8))
    assert len(hashes) == len(data) - dedup.SHINGLE_BYTES + 1
    first = data.index(inside)
    second = data.index(inside, first + 1)
    assert hashes[first] == hashes[second]
    assert len(np.unique(hashes)) == len(hashes) - 1
    for at in range(dedup.SHINGLE_BYTES):
        changed = bytearray(inside)
        changed[at] ^= 1
        assert dedup._rolling(np.frombuffer(bytes(changed), np.uint8))[0] != hashes[first]


def test_sampling_keeps_one_shingle_in_sixteen_and_none_across_documents() -> None:
    texts = [noise(40, i) for i in range(500)]
    assert not len(dedup.shingles(*pack(texts)).hashes)
    found = dedup.shingles(*pack([noise(100_000, 7)]))
    expected = 100_000 / 16
    assert abs(len(found.hashes) - expected) < 5 * np.sqrt(expected)


def test_only_documents_that_mostly_repeat_earlier_ones_are_seen_before() -> None:
    a, b = noise(20_000, 1), noise(20_000, 2)
    mostly_a = a[:14_000] + noise(6_000, 3)
    partly_a = a[:6_000] + noise(14_000, 4)
    shares = dedup.seen_before(dedup.shingles(*pack([a, b, mostly_a, partly_a, noise(5, 5)])))
    assert shares[[0, 1, 4]].tolist() == [0, 0, 0]
    np.testing.assert_allclose(shares[2:4], [0.7, 0.3], atol=0.03)


def test_batches_do_not_change_the_shingles(monkeypatch) -> None:
    packed = pack([noise(3_000, i) for i in range(30)])
    whole = dedup.shingles(*packed)
    monkeypatch.setattr(dedup, "_BATCH_BYTES", 5_000)
    parts = dedup.shingles(*packed)
    np.testing.assert_array_equal(whole.hashes, parts.hashes)
    np.testing.assert_array_equal(whole.document, parts.document)


def test_a_selection_is_what_its_documents_alone_would_give() -> None:
    texts = [noise(3_000, i % 7) for i in range(10)]
    kept = np.array([1, 4, 8])
    chosen = dedup.shingles(*pack(texts)).of(kept)
    alone = dedup.shingles(*pack([texts[i] for i in kept]))
    np.testing.assert_array_equal(chosen.hashes, alone.hashes)
    np.testing.assert_array_equal(chosen.document, alone.document)


def test_shared_is_the_share_of_held_out_shingles_in_training() -> None:
    a = noise(50_000, 1)
    found = dedup.shingles(*pack([a, a[:12_500] + noise(37_500, 2)]))
    assert abs(dedup.shared(found, np.array([True, False]), np.array([False, True])) - 0.25) < 0.02
    assert dedup.shared(found, np.array([False, False]), np.array([False, True])) == 0.0
