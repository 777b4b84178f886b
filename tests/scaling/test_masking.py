"""What masked objectives select: words whole, spans by their law, held-out positions once; SpanBERT's head; pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from scaling.accounting import PARAM_GROUPS, training_flops
from scaling.architectures.lstm import Lstm
from scaling.architectures.transformer import Decoder, Encoder
from scaling.evaluate import DOCUMENT_METRIC, heldout_loss
from scaling.objectives.base import Batch, Objective, Vocabulary
from scaling.objectives.masked import Masked
from scaling.objectives.masked_pairs import AS_IT_STOOD, CHANGED, MaskedPairs
from scaling.objectives.masking import IGNORED
from scaling.objectives.span_boundary import SpanBoundary
from scaling.objectives.word_units import SPAN_LAW, classes_of, newlines, runs, span_begins, word_begins
from scaling.tokenizers.bpe import Bpe
from scaling.tokenizers.byte import Byte

SENTENCE = "A whole_word is masked, or it is not; über 42 spans (of words) begin at words' beginnings.\n"
BYTES = Byte().learn([]).vocabulary
SHAPE = Encoder(n_layer=1, d_model=16, n_head=2, seq_len=32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def text_windows(n: int, length: int) -> np.ndarray:
    """(n, length) bytes of a text whose words have many lengths."""
    letters = rng(7).integers(97, 123, 4 * n * length)
    gaps = np.cumsum(rng(8).integers(1, 9, n * length))
    letters[gaps[gaps < len(letters)]] = 32
    return letters[: n * length].reshape(n, length).astype(np.uint8)


def hidden(batch: Batch, shape: tuple[int, ...]) -> np.ndarray:
    """(B, T) bool of the selected positions."""
    assert batch.positions is not None
    found = np.zeros(shape, bool)
    np.put_along_axis(found, batch.positions, True, axis=1)
    return found


def cut_units(masked: np.ndarray, begins: np.ndarray) -> int:
    """Units of which a part is masked and a part is not."""
    unit = np.cumsum(begins, axis=1) - 1
    cut = 0
    for row, units in zip(masked, unit, strict=True):
        inside = np.bincount(units, weights=row)
        cut += int(((inside > 0) & (inside < np.bincount(units))).sum())
    return cut


def test_words_of_bytes_are_runs_of_letters_digits_and_underscores() -> None:
    window = np.frombuffer(b"an_1, b\nc'd \xc3\xa9t", np.uint8)[None]
    begins = np.flatnonzero(word_begins(window, BYTES)[0]).tolist()
    assert [bytes(part) for part in np.split(window[0], begins[1:])] == [
        b"an_1", b",", b" ", b"b", b"\n", b"c", b"'", b"d", b" ", b"\xc3\xa9t",
    ]  # fmt: skip


def test_words_of_pieces_are_those_of_the_text() -> None:
    encoder = Bpe(vocab_size=300).learn([SENTENCE * 20])
    ids, pieces = encoder.encode(SENTENCE), encoder.pieces()
    assert b"".join(pieces[i] for i in ids) == SENTENCE.encode()
    begins = np.flatnonzero(word_begins(ids[None], encoder.vocabulary)[0])
    words = [b"".join(pieces[i] for i in part).decode() for part in np.split(ids, begins[1:])]
    joined = "".join(words)
    assert joined == SENTENCE
    assert [w.strip() for w in words if w.strip().replace("_", "").isalnum()] == [
        "A", "whole_word", "is", "masked", "or", "it", "is", "not", "über", "42", "spans", "of", "words", "begin", "at",
        "words", "beginnings",
    ]  # fmt: skip
    assert [pieces[i] for i in newlines(encoder.vocabulary)] == [b"\n"]
    assert encoder.vocabulary.classes[encoder.vocabulary.mask_id] == 0


def test_without_knowledge_of_the_text_every_token_is_a_word() -> None:
    assert word_begins(np.zeros((2, 5), np.uint8), Vocabulary(256, 256, 255, 254)).all()
    assert classes_of([b"", b" a", b"\n"])[0] == 0


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_whole_words_are_masked_or_left_and_the_budget_is_exact(rate: float) -> None:
    """In a window of 128 bytes; a word is cut only where none fits, which in training is rare."""
    windows = text_windows(300, 128)
    objective = Masked(mask_rate=rate, unit="whole_word")
    batch = objective.train_batch(windows, BYTES, rng(1))
    masked, begins = hidden(batch, windows.shape), word_begins(windows, BYTES)
    assert (masked.sum(axis=1) == round(rate * 128)).all()
    assert cut_units(masked, begins) <= 0.03 * (masked & begins).sum()
    token = Masked(mask_rate=rate).train_batch(windows, BYTES, rng(1))
    assert cut_units(hidden(token, windows.shape), begins) > 300


def test_long_words_are_masked_as_often_as_short_ones() -> None:
    windows = text_windows(2000, 128)
    masked = hidden(Masked(unit="whole_word").train_batch(windows, BYTES, rng(2)), windows.shape)
    begins = word_begins(windows, BYTES)
    unit = np.cumsum(begins, axis=1) - 1
    length = np.stack([np.bincount(row)[row] for row in unit])
    share = [masked[length == n].mean() for n in range(1, 8)]
    assert share == pytest.approx([round(0.15 * 128) / 128] * 7, abs=0.01)


def test_spans_follow_their_law_and_begin_at_words() -> None:
    """All spans of a tiling but the first and the last of a window, which its edges cut."""
    windows = text_windows(3000, 128)
    words = word_begins(windows, BYTES)
    spans = span_begins(words, rng(3))
    assert not (spans & ~words).any()
    assert spans[:, 0].all()
    word = np.cumsum(words, axis=1) - 1
    lengths = np.concatenate([np.diff(word[row][spans[row]])[1:] for row in range(len(windows))])
    # A long span is cut by the window's end more often, so only those that begin well before it are counted.
    early = np.concatenate([word[row][spans[row]][1:-1] + 10 < word[row][-1] for row in range(len(windows))])
    observed = np.bincount(lengths[early], minlength=11)[1:]
    assert stats.chisquare(observed, SPAN_LAW * observed.sum()).pvalue > 1e-3
    assert (SPAN_LAW * np.arange(1, 11)).sum() == pytest.approx(3.797, abs=1e-3)
    assert SPAN_LAW[1:] / SPAN_LAW[:-1] == pytest.approx(np.full(9, 0.8))
    starts = np.flatnonzero(spans[:, 1:].any(axis=0))
    assert len(starts) == 127


def test_the_phase_of_a_tiling_is_uniform() -> None:
    """Every token begins a span equally often (one in the mean length) where each token is a word."""
    spans = span_begins(np.ones((20_000, 40), bool), rng(4))[:, 1:]
    expected = 1 / (SPAN_LAW * np.arange(1, 11)).sum()
    assert np.abs(spans.mean(axis=0) - expected).max() < 5 * np.sqrt(expected / 20_000)


@pytest.mark.parametrize("objective", [Masked(unit="span", mask_rate=0.3), SpanBoundary(mask_rate=0.3)])
def test_a_span_has_one_fate(objective: Masked | SpanBoundary) -> None:
    """80/10/10 over runs of masked positions, within 99.9 % binomial bounds."""
    windows = text_windows(600, 128)
    batch = objective.train_batch(windows, BYTES, rng(5))
    assert batch.positions is not None
    positions, original = batch.positions, np.take_along_axis(windows, batch.positions, 1)
    shown = np.take_along_axis(batch.inputs, positions, 1)
    begins = positions == runs(positions)[0]
    run = np.cumsum(begins.ravel()).reshape(begins.shape) - 1
    size = np.bincount(run.ravel())
    masked = np.bincount(run.ravel(), weights=(shown == BYTES.mask_id).ravel())
    kept = np.bincount(run.ravel(), weights=(shown == original).ravel())
    long = size >= 3
    for share, count in [(0.8, (masked == size)[long].sum()), (0.1, (kept == size)[long].sum())]:
        low, high = stats.binom.interval(0.999, long.sum(), share)
        assert low <= count <= high


OBJECTIVES = [
    Masked(unit="whole_word"),
    Masked(unit="span"),
    Masked(unit="span", mask_rate=0.4),
    Masked(unit="whole_word", mask_rate=0.3),
    SpanBoundary(),
    SpanBoundary(unit="whole_word", mask_rate=0.4),
    MaskedPairs(),
    MaskedPairs(pair="sop", unit="whole_word"),
    MaskedPairs(pair="sop", unit="span", mask_rate=0.3),
    MaskedPairs(pair="none"),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: f"{o.type}-{o.unit}-{o.mask_rate}")
def test_every_heldout_position_is_scored_once(objective: Masked) -> None:
    length = objective.window(64)
    windows = text_windows(9, length)
    batches = objective.heldout_batches(windows, BYTES, rng(6))
    assert len(batches) == objective.heldout_passes(64)
    assert len({(b.inputs.shape, b.targets.shape) for b in batches}) == 1
    size, covered = objective.predicted_per_window(64), np.zeros(windows.shape, int)
    for batch in batches:
        assert batch.positions is not None
        assert batch.positions.shape == (9, size)
        assert batch.inputs.shape == (9, 64)
        scored = batch.targets[:, :size] != IGNORED
        place = batch.positions
        if isinstance(objective, MaskedPairs):
            place = place - np.where(place <= length // 2, 1, 2)
        targets = np.take_along_axis(windows, place, 1)
        np.testing.assert_array_equal(targets[scored], batch.targets[:, :size][scored])
        np.add.at(covered, (np.nonzero(scored)[0], place[scored]), 1)
    assert (covered == 1).all()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: f"{o.type}-{o.unit}-{o.mask_rate}")
def test_batches_are_pure_functions_of_their_random_numbers(objective: Masked) -> None:
    windows = text_windows(8, objective.window(64))
    one, again, other = (objective.train_batch(windows, BYTES, rng(seed)) for seed in (1, 1, 2))
    for name, array in one.named().items():
        np.testing.assert_array_equal(array, again.named()[name])
        assert array.dtype in (np.int64, np.float32)
    assert not np.array_equal(one.inputs, other.inputs)


@pytest.mark.parametrize("objective", [SpanBoundary(mask_rate=0.3), MaskedPairs(), MaskedPairs(pair="sop")])
@pytest.mark.parametrize(
    "shape",
    [
        SHAPE,
        Encoder(
            n_layer=2, d_model=12, n_head=2, seq_len=32, embedding_size=6, tied=True, segments=3, positions="learned"
        ),
    ],
    ids=["plain", "factorised"],
)
def test_accounting_equals_the_module_and_torchs_counter(objective: Objective, shape: Encoder) -> None:
    model = objective.build(shape, 256, 0)
    stated = objective.params(shape, 256)
    assert stated.total == sum(p.numel() for p in model.parameters())
    plain, extra = shape.params(256), dict.fromkeys(map(str, PARAM_GROUPS), 0)
    for name, parameter in model.named_parameters():
        if not name.startswith("encoder."):
            group = "position_embedding" if "embedding" in name else "norm" if "norm" in name else "other"
            extra[group] += parameter.numel()
    assert stated.groups["other"] == plain.groups["other"] + extra["other"]
    assert stated.groups["norm"] == plain.groups["norm"] + extra["norm"]
    batch = objective.train_batch(text_windows(6, objective.window(32)), BYTES, rng())
    given = {name: torch.from_numpy(array) for name, array in batch.named().items()}
    with FlopCounterMode(display=False) as counter:
        model(given.pop("inputs"), given.pop("positions"), given.pop("targets"), **given).sum().backward()
    assert counter.get_total_flops() == sum(training_flops(objective.forward_flops(shape, 256, 6)).values())


def test_the_boundary_head_sees_the_states_beside_a_span_and_no_other() -> None:
    objective = SpanBoundary(mask_rate=0.4)
    batch = objective.train_batch(text_windows(4, 32), BYTES, rng(9))
    model = objective.build(SHAPE, 256, 1)
    states = torch.randn(4, 32, 16, requires_grad=True)
    given = [torch.from_numpy(batch.extra[name]) for name in ("left", "right", "place")]
    out = model.boundary(states, *given)
    assert batch.positions is not None
    for window in range(4):
        masked = set(batch.positions[window].tolist())
        for i in range(out.shape[1]):
            weights = torch.linspace(1.0, 2.0, 16)  # a plain sum of a layer norm has no gradient
            (gradient,) = torch.autograd.grad((out[window, i] * weights).sum(), states, retain_graph=True)
            seen = torch.nonzero(gradient.abs().sum(-1)).tolist()
            beside = {int(batch.extra["left"][window, i]), int(batch.extra["right"][window, i])} & set(range(32))
            assert seen == [[window, t] for t in sorted(beside)]
            assert not beside & masked


def test_span_boundary_adds_its_loss_to_that_of_masked_prediction() -> None:
    objective = SpanBoundary()
    model = objective.build(SHAPE, 256, 1)
    batch = objective.train_batch(text_windows(4, 32), BYTES, rng(9))
    given = {name: torch.from_numpy(array) for name, array in batch.named().items()}
    size = objective.predicted_per_window(32)
    nats = model(given.pop("inputs"), given.pop("positions"), given.pop("targets"), **given)
    plain = SHAPE.build(256, 1)
    assert batch.positions is not None
    alone = plain(*(torch.from_numpy(a) for a in (batch.inputs, batch.positions, batch.targets[:, :size])))
    torch.testing.assert_close(nats[:, :size], alone)
    np.testing.assert_array_equal(batch.targets[:, :size], batch.targets[:, size:])
    assert objective.auxiliary(32) == {"span_boundary": size}


def sides(batch: Batch, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Both segments with their masked tokens restored."""
    assert batch.positions is not None
    restored = batch.inputs.copy()
    np.put_along_axis(restored, batch.positions, batch.targets[:, :-1], axis=1)
    return restored[:, 1 : 1 + half], restored[:, 2 + half :]


@pytest.mark.parametrize("n", [8, 101])
def test_half_of_next_sentences_are_those_of_other_windows(n: int) -> None:
    windows = text_windows(n, 62)
    batch = MaskedPairs(pair="nsp").train_batch(windows, BYTES, rng(3))
    first, second = sides(batch, 31)
    label = batch.targets[:, -1]
    assert abs(int((label == CHANGED).sum()) - n / 2) <= 0.5
    np.testing.assert_array_equal(first, windows[:, :31])
    own = (second == windows[:, 31:]).all(axis=1)
    np.testing.assert_array_equal(own, label == AS_IT_STOOD)
    others = {tuple(row) for row in windows[:, 31:].tolist()}
    assert all(tuple(row) in others for row in second.tolist())
    assert (batch.inputs[:, 0] == 256).all()
    assert (batch.inputs[:, 32] == 257).all()
    np.testing.assert_array_equal(batch.extra["segments"][0], [0] * 33 + [1] * 31)


def test_sentence_order_swaps_and_does_nothing_else() -> None:
    windows = text_windows(50, 62)
    batch = MaskedPairs(pair="sop").train_batch(windows, BYTES, rng(3))
    first, second = sides(batch, 31)
    label = batch.targets[:, -1]
    assert (label == CHANGED).sum() == 25
    text = np.concatenate([first, second], axis=1)
    swapped = np.concatenate([second, first], axis=1)
    np.testing.assert_array_equal(np.where((label == CHANGED)[:, None], swapped, text), windows)


def test_without_a_pair_objective_the_layout_and_the_scored_text_are_the_same_and_nothing_else_is() -> None:
    windows = text_windows(10, 62)
    alone, order = (MaskedPairs(pair=kind).heldout_batches(windows, BYTES, rng(3)) for kind in ("none", "sop"))
    assert len(order) == len(alone) + 2
    for own, other in zip(alone, order, strict=False):
        np.testing.assert_array_equal(own.inputs, other.inputs)
        np.testing.assert_array_equal(own.targets, other.targets[:, :-1])
    objective = MaskedPairs(pair="none")
    batch = objective.train_batch(windows, BYTES, rng(4))
    label = np.zeros((10, 1), np.int64)
    shown = np.concatenate(sides(batch._replace(targets=np.concatenate([batch.targets, label], axis=1)), 31), axis=1)
    np.testing.assert_array_equal(shown, windows)
    assert batch.targets.shape == (10, objective.predicted_per_window(64))
    assert objective.auxiliary(64) == {}
    model = objective.build(SHAPE, 256, 0)
    assert objective.params(SHAPE, 256).total == sum(p.numel() for p in model.parameters())
    batch = objective.train_batch(text_windows(6, 30), BYTES, rng())
    given = {name: torch.from_numpy(array) for name, array in batch.named().items()}
    with FlopCounterMode(display=False) as counter:
        model(given.pop("inputs"), given.pop("positions"), given.pop("targets"), **given).sum().backward()
    assert counter.get_total_flops() == sum(training_flops(objective.forward_flops(SHAPE, 256, 6)).values())


def test_heldout_pairs_are_scored_once_as_they_stood_and_once_changed() -> None:
    windows = text_windows(10, 62)
    batches = MaskedPairs().heldout_batches(windows, BYTES, rng(3))
    labels = np.stack([b.targets[:, -1] for b in batches])
    assert (labels[:-2] == IGNORED).all()
    assert (labels[-2:] == [[AS_IT_STOOD], [CHANGED]]).all()
    assert all((b.targets[:, :-1] == IGNORED).all() for b in batches[-2:])


def test_the_pair_weighs_as_much_as_all_tokens_of_its_window() -> None:
    objective = MaskedPairs(mask_rate=0.3)
    model = objective.build(SHAPE, 256, 0)
    batch = objective.train_batch(text_windows(8, 30), BYTES, rng(1))
    given = {name: torch.from_numpy(array) for name, array in batch.named().items()}
    fixed = [given.pop(name) for name in ("inputs", "positions", "targets")]
    training, size = model.train()(*fixed, **given), objective.predicted_per_window(32)
    nats = model.eval()(*fixed, **given)
    assert nats.shape == (8, size + 1)
    expected = nats[:, :size].mean() + nats[:, size].mean()
    torch.testing.assert_close(training.sum() / (8 * size), expected)


@pytest.mark.parametrize(
    ("objective", "shape", "message"),
    [
        (SpanBoundary(), Decoder(n_layer=1, d_model=16, n_head=2), "use architecture encoder"),
        (MaskedPairs(), Encoder(n_layer=1, d_model=16, n_head=2, seq_len=33), "must be even"),
        (MaskedPairs(), Lstm(n_layer=1, d_model=16), "encoder"),
        (Masked(mask_rate=0.01, unit="span"), SHAPE, "leaves nothing to predict"),
    ],
)
def test_what_cannot_be_trained_is_refused(objective: Objective, shape: Encoder, message: str) -> None:
    assert message in str(objective.serves(shape))


@pytest.mark.parametrize("batch_windows", [4, 9])
def test_what_is_predicted_beside_the_loss_is_scored_apart(batch_windows: int) -> None:
    """The 'loss' of a column is its target's value plus one, so every sum is known."""
    objective = MaskedPairs(pair="sop")
    windows, document = text_windows(9, 62), np.repeat(np.arange(3), 3)

    def losses(batch: Batch) -> np.ndarray:
        return batch.targets + 1.0

    held = heldout_loss(losses, objective, BYTES, windows, document, batch_windows, auxiliary=objective.auxiliary(64))
    assert held is not None
    assert held.counts.tolist() == [3 * 62] * 3
    assert held.loss == pytest.approx(windows.mean() + 1.0)
    pairs = held.beside["sop"]
    assert pairs.counts.tolist() == [6, 6, 6]
    assert pairs.loss == pytest.approx(1.5)
    rows = held.evals("run")
    assert [row["metric"] for row in rows] == [DOCUMENT_METRIC] * 3 + ["heldout_nats_sop"]
