from types import SimpleNamespace

import numpy as np
import pytest

from scaling.corpora.order import WindowOrder, check_supply, gather, permute
from scaling.errors import CorpusError


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 17, 100, 1_000, 99_991])
def test_permute_is_a_permutation(n: int) -> None:
    assert sorted(permute(np.arange(n), n, 7).tolist()) == list(range(n))


def test_permutations_of_small_sets_are_not_always_the_same() -> None:
    assert len({tuple(permute(np.arange(5), 5, key).tolist()) for key in range(500)}) > 50


def test_neighbours_are_unrelated() -> None:
    n = 50_000
    images = permute(np.arange(n), n, 3)
    for lag in (1, 2, int(np.sqrt(n)), int(np.sqrt(n)) + 1):
        assert abs(np.corrcoef(images[lag:], images[:-lag])[0, 1]) < 5 / np.sqrt(n)
    assert abs(np.corrcoef(np.arange(n), images)[0, 1]) < 5 / np.sqrt(n)


def test_each_epoch_visits_every_window_once_at_its_own_phase() -> None:
    order = WindowOrder(n_tokens=10_000, window=17, seq_len=16, seed=5)
    n = order.windows_per_epoch
    assert n == (10_000 - 17 + 1) // 16
    starts = np.concatenate([order.starts(step, 8) for step in range(3 * n // 8 + 1)])
    phases = []
    for epoch in range(3):
        seen = np.sort(starts[epoch * n : (epoch + 1) * n])
        assert (np.diff(seen) == 16).all()
        assert seen[0] < 16
        assert seen[-1] + 17 <= 10_000
        phases.append(int(seen[0]))
    assert len(set(phases)) > 1


def test_starts_are_a_pure_function_of_seed_and_step() -> None:
    make = lambda seed: WindowOrder(1_000_000, 129, 128, seed)
    forward = make(1)
    walked = {step: forward.starts(step, 48).tolist() for step in range(400)}
    for step in (399, 0, 162, 163, 85, 86):
        assert make(1).starts(step, 48).tolist() == walked[step]
    joined = [start for step in range(4) for start in walked[step]]
    assert make(1).starts(0, 192).tolist() == joined
    assert make(2).starts(0, 48).tolist() != walked[0]
    assert len(make(1).starts(0, 10_000)) == 10_000


def test_objectives_see_the_same_text() -> None:
    causal, masked = WindowOrder(128 * 50, 129, 128, 0), WindowOrder(128 * 50, 128, 128, 0)
    assert causal.starts(3, 20).tolist() == masked.starts(3, 20).tolist()


def test_gather_cuts_windows() -> None:
    tokens = np.arange(100, dtype=np.uint16)
    out = gather(tokens, np.array([3, 90]), 10)
    np.testing.assert_array_equal(out, [range(3, 13), range(90, 100)])
    assert out.dtype == np.uint16


def test_a_stream_shorter_than_two_windows_is_refused() -> None:
    with pytest.raises(CorpusError, match="200 training tokens do not hold two windows of 128"):
        WindowOrder(200, 129, 128, 0)


def test_supply_names_what_is_asked_what_there_is_and_the_mend() -> None:
    corpus = SimpleNamespace(spec={"corpus": {"type": "local"}}, n_train=1_000)
    assert check_supply(1_000, corpus, None, False) == 1_000  # type: ignore[arg-type]
    assert check_supply(9_000, corpus, 500, True) == 500  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match=r"local: .* 1,001 training tokens, 1,000 are available; set repeat: true"):
        check_supply(1_001, corpus, None, False)  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="600 are available"):
        check_supply(800, corpus, 600, False)  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="unique_tokens asks for 2,000 tokens, its training part holds 1,000"):
        check_supply(10, corpus, 2_000, True)  # type: ignore[arg-type]
