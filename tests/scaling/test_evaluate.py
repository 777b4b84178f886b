"""Clustered errors against a simulation, pairing, and that every window is scored once."""

import numpy as np
import pytest

from scaling.evaluate import clustered, heldout_loss, paired_difference
from scaling.objectives.base import Batch, Vocabulary
from scaling.objectives.causal import Causal
from scaling.objectives.masked import Masked

VOCAB = Vocabulary(256, 250, 255, 254)


def test_clustered_error_is_the_spread_over_repeated_corpora() -> None:
    rng = np.random.default_rng(0)
    means, errors = [], []
    for _ in range(2000):
        sizes = rng.integers(1, 9, 60)
        document = np.repeat(np.arange(60), sizes)
        level = rng.normal(1.5, 0.4, 60)[document]
        counts = np.full(len(document), 128.0)
        held = clustered(document, 128 * (level + rng.normal(0, 0.1, len(document))), counts)
        means.append(held.loss)
        errors.append(held.se)
    assert np.mean(means) == pytest.approx(1.5, abs=0.01)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.06)


def test_paired_differences_drop_what_documents_share() -> None:
    rng = np.random.default_rng(1)
    document = np.repeat(np.arange(500), 2)
    counts = np.full(1000, 128.0)
    hard = 128 * rng.normal(1.5, 0.5, 500)[document]
    a = clustered(document, hard + 128 * rng.normal(0.02, 0.02, 1000), counts)
    b = clustered(document, hard, counts)
    difference, se = paired_difference(a, b)
    assert difference == pytest.approx(0.02, abs=4 * se)
    assert se < a.se / 10


def test_pairing_refuses_other_windows() -> None:
    a = clustered(np.arange(3), np.ones(3), np.full(3, 10.0))
    b = clustered(np.arange(3), np.ones(3), np.full(3, 11.0))
    with pytest.raises(ValueError, match="different windows"):
        paired_difference(a, b)


@pytest.mark.parametrize("objective", [Causal(), Masked(mask_rate=0.15)])
@pytest.mark.parametrize("batch_windows", [1, 4, 7, 32])
def test_every_position_is_scored_once_whatever_the_batch(objective: Causal | Masked, batch_windows: int) -> None:
    """The 'loss' of a position is its target's value, so the sum is known."""
    rng = np.random.default_rng(2)
    windows = rng.integers(0, 250, (21, objective.window(32))).astype(np.uint8)
    document = np.repeat(np.arange(7), 3)

    def losses(batch: Batch) -> np.ndarray:
        assert len(batch.inputs) == batch_windows
        return batch.targets.astype(np.float32)

    held = heldout_loss(losses, objective, VOCAB, windows, document, batch_windows)
    assert held is not None
    scored = windows[:, 1:] if isinstance(objective, Causal) else windows
    np.testing.assert_allclose(held.nats, scored.astype(float).reshape(7, -1).sum(1))
    assert held.counts.sum() == scored.size
    assert held.loss == pytest.approx(scored.mean())
