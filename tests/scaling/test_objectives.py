"""The defining property of each objective."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from scaling.architectures.transformer import Decoder, Encoder
from scaling.objectives.base import Vocabulary
from scaling.objectives.causal import Causal
from scaling.objectives.masked import IGNORED, Masked

VOCAB = Vocabulary(size=256, n_ordinary=250, separator_id=255, mask_id=254)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_causal_targets_are_the_next_tokens() -> None:
    windows = np.arange(20, dtype=np.uint8).reshape(2, 10)
    batch = Causal().train_batch(windows, VOCAB, rng())
    assert batch.positions is None
    np.testing.assert_array_equal(batch.inputs, windows[:, :-1])
    np.testing.assert_array_equal(batch.targets, windows[:, 1:])


@pytest.mark.parametrize("rate", [0.15, 0.3, 0.4])
def test_masking_rates_are_berts(rate: float) -> None:
    """80/10/10 within 99.9 % binomial bounds; a random token may by chance be the original."""
    windows = rng(1).integers(0, 250, (400, 128)).astype(np.uint8)
    batch = Masked(mask_rate=rate).train_batch(windows, VOCAB, rng(2))
    assert batch.positions is not None
    n = round(rate * 128)
    assert batch.positions.shape == (400, n)
    assert all(len(set(row)) == n for row in batch.positions.tolist())
    np.testing.assert_array_equal(np.take_along_axis(windows, batch.positions, 1), batch.targets)
    shown = np.take_along_axis(batch.inputs, batch.positions, 1)
    total = shown.size
    for share, count in [
        (0.8, (shown == VOCAB.mask_id).sum()),
        (0.1 + 0.1 / 250, ((shown == batch.targets) & (shown != VOCAB.mask_id)).sum()),
        (0.1 - 0.1 / 250, ((shown != batch.targets) & (shown != VOCAB.mask_id)).sum()),
    ]:
        low, high = stats.binom.interval(0.999, total, share)
        assert low <= count <= high
    untouched = np.ones_like(windows, dtype=bool)
    np.put_along_axis(untouched, batch.positions, False, axis=1)
    np.testing.assert_array_equal(batch.inputs[untouched], windows[untouched])


def test_masking_is_dynamic_and_uniform_over_positions() -> None:
    windows = np.zeros((4000, 32), dtype=np.uint8)
    batch = Masked(mask_rate=0.25).train_batch(windows, VOCAB, rng(3))
    assert batch.positions is not None
    counts = np.bincount(batch.positions.ravel(), minlength=32)
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(("rate", "seq_len"), [(0.15, 128), (0.3, 128), (0.15, 100), (0.5, 16)])
def test_heldout_masks_cover_every_position_once(rate: float, seq_len: int) -> None:
    windows = rng(4).integers(0, 250, (7, seq_len)).astype(np.uint8)
    batches = Masked(mask_rate=rate).heldout_batches(windows, VOCAB, rng(5))
    assert len({b.inputs.shape for b in batches}) == len({b.targets.shape for b in batches}) == 1
    covered = np.zeros(windows.shape, dtype=int)
    for batch in batches:
        assert batch.positions is not None
        scored = batch.targets != IGNORED
        np.add.at(covered, (np.nonzero(scored)[0], batch.positions[scored]), 1)
        np.testing.assert_array_equal(np.take_along_axis(windows, batch.positions, 1)[scored], batch.targets[scored])
    assert (covered == 1).all()


def test_objectives_refuse_the_wrong_attention() -> None:
    decoder, encoder = Decoder(n_layer=1, d_model=16, n_head=2), Encoder(n_layer=1, d_model=16, n_head=2)
    assert Causal().serves(decoder) is None
    assert Masked().serves(encoder) is None
    assert "decoder" in str(Causal().serves(encoder))
    assert "encoder" in str(Masked().serves(decoder))
    tiny = Encoder(n_layer=1, d_model=16, n_head=2, seq_len=4)
    assert "nothing to predict" in str(Masked(mask_rate=0.1).serves(tiny))


@pytest.mark.parametrize("fields", [{"mask_rate": 0.0}, {"mask_rate": 1.0}, {"mask_share": 0.9, "random_share": 0.2}])
def test_impossible_rates_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Masked(**fields)
