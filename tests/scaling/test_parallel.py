"""Parallel text as a corpus, windows that begin at its pairs, and XLM's translation objective on them."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from trial_world import WORDS

from scaling.architectures.transformer import Decoder, Encoder
from scaling.corpora.order import WindowOrder, gather
from scaling.corpora.parallel import Parallel
from scaling.corpora.prepare import TokenizedCorpus, prepare
from scaling.errors import CorpusError
from scaling.objectives.masking import IGNORED
from scaling.objectives.translation_masked import TranslationMasked
from scaling.tokenizers.bpe import Bpe
from scaling.tokenizers.byte import Byte
from scaling.trial import Trial

SHAPE = Encoder(n_layer=2, d_model=16, n_head=2, seq_len=64, positions="learned")


def sentences(n: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 6))) + f" {i}" for i in range(n)]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """400 sentences, and their 'translation' by capitals, gzipped."""
    first, second = tmp_path / "text.en", tmp_path / "text.xx.gz"
    first.write_text("\n".join(sentences(400)) + "\n")
    second.write_bytes(gzip.compress("\n".join(sentences(400)).upper().encode()))
    return first, second


@pytest.fixture
def corpus(files: tuple[Path, Path]) -> Parallel:
    return Parallel(first=str(files[0]), second=str(files[1]))


def prepared(corpus: Parallel, tmp_path: Path, tokenizer: Byte | Bpe | None = None) -> TokenizedCorpus:
    return prepare(corpus, tokenizer or Byte(), cache=tmp_path / "cache")


def test_a_document_is_a_pair(corpus: Parallel) -> None:
    found = list(corpus.documents())
    assert len(found) == 400
    assert found[7].text == f"{sentences(400)[7]}\n{sentences(400)[7].upper()}"
    assert found[7].name.endswith("text.en:8")
    assert corpus.facts() == {"pairs": 400}


def test_pairs_with_an_empty_side_are_left_out(files: tuple[Path, Path]) -> None:
    lines = sentences(400)
    lines[3] = "  "
    files[0].write_text("\n".join(lines) + "\n")
    found = list(Parallel(first=str(files[0]), second=str(files[1])).documents())
    assert len(found) == 399
    assert not any(d.name.endswith(":4") for d in found)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda a, b: a.unlink(), "no such file; check the parallel corpus's first"),
        (lambda a, b: a.write_text("one line\n"), r"has 1 lines and .* 400; line i of one must translate"),
        (lambda a, b: b.write_bytes(b"\x1f\x8bnothing"), "cannot be read"),
        (lambda a, b: b.write_bytes(gzip.compress(b"\xff\xfe\xfd")), "byte 0 is not utf-8 text"),
        (lambda a, b: a.write_text("x\n" * 400), "different ones are needed"),
    ],
    ids=["missing", "unequal", "damaged", "encoding", "same"],
)
def test_bad_files_are_one_clear_error(
    files: tuple[Path, Path], break_it: Callable[[Path, Path], object], message: str
) -> None:
    if "different" in message:
        files[1].write_bytes(gzip.compress(b"y\n" * 400))
    break_it(*files)
    with pytest.raises(CorpusError, match=message):
        list(Parallel(first=str(files[0]), second=str(files[1])).documents())


def test_both_sides_must_differ(files: tuple[Path, Path]) -> None:
    with pytest.raises(CorpusError, match="both sides"):
        Parallel(first=str(files[0]), second=str(files[0])).fingerprint()


def trial(corpus: dict[str, str], objective: str = "translation_masked") -> Trial:
    spec = {
        "architecture": {"type": "encoder", "n_layer": 1, "d_model": 16, "n_head": 2, "seq_len": 64},
        "objective": objective,
        "corpus": corpus,
        "optimizer": {"type": "adamw", "lr": 0.01},
        "batch_tokens": 64,
        "steps": 60,
    }
    return Trial.model_validate_json(json.dumps(spec))


def test_translation_without_parallel_text_is_refused_before_training() -> None:
    with pytest.raises(ValidationError, match="no parallel text; use corpus parallel"):
        trial({"type": "markov"})
    assert "use architecture encoder" in str(TranslationMasked().serves(Decoder(n_layer=1, d_model=16, n_head=2)))
    parallel = {"type": "parallel", "first": "a", "second": "b"}
    assert trial(parallel, "masked").objective.type == "masked"
    with pytest.raises(ValidationError, match="raise batch_tokens to 128"):
        trial({"type": "markov"}, "masked_pairs")


@pytest.mark.parametrize("tokenizer", [Byte(), Bpe(vocab_size=280)], ids=["byte", "bpe"])
def test_windows_begin_at_pairs_and_each_is_seen_once_an_epoch(
    corpus: Parallel, tmp_path: Path, tokenizer: Byte | Bpe
) -> None:
    found = prepared(corpus, tmp_path, tokenizer)
    begins, window = found.document_starts(found.n_train), 64
    order = WindowOrder(found.n_train, window, 64, 0, begins)
    whole = [b for b in begins.tolist() if b + window <= found.n_train]
    first, second = (order.starts(epoch, order.windows_per_epoch) for epoch in (0, 1))
    assert sorted(first.tolist()) == sorted(second.tolist()) == whole
    assert first.tolist() != second.tolist()
    assert all(b == 0 or found.train[b - 1] == found.vocabulary.separator_id for b in whole)
    held = found.heldout(64, 64, "full", "document")
    assert len(np.unique(held.document)) == len(held.starts) > 20
    assert all(s == 0 or found.test[s - 1] == found.vocabulary.separator_id for s in held.starts)
    nested = found.heldout(64, 64, "nested", "document")
    np.testing.assert_array_equal(nested.starts, held.starts[: len(nested.starts)])


def windows_of(found: TokenizedCorpus, n: int, length: int) -> np.ndarray:
    return gather(found.train, found.document_starts(found.n_train)[:n], length)


@pytest.mark.parametrize("unit", ["token", "whole_word", "span"])
@pytest.mark.parametrize("length", [24, 64])
def test_both_sides_are_masked_and_every_heldout_token_once(
    corpus: Parallel, tmp_path: Path, unit: str, length: int
) -> None:
    """Against the text itself; a window of 24 bytes cuts most pairs."""
    found = prepared(corpus, tmp_path)
    objective = TranslationMasked(unit=unit)  # type: ignore[arg-type]
    windows = windows_of(found, 60, length)
    texts = [bytes(row).split(b"\xff")[0] for row in windows]
    text = np.zeros(windows.shape, bool)
    for row, content in enumerate(texts):
        text[row, : len(content)] = [byte != 10 for byte in content]
    batches = objective.heldout_batches(windows, found.vocabulary, np.random.default_rng(1))
    assert len(batches) == objective.heldout_passes(length)
    covered = np.zeros(windows.shape, int)
    for batch in batches:
        assert batch.positions is not None
        assert batch.positions.shape == (60, objective.predicted_per_window(length))
        scored = batch.targets != IGNORED
        np.testing.assert_array_equal(np.take_along_axis(windows, batch.positions, 1)[scored], batch.targets[scored])
        np.add.at(covered, (np.nonzero(scored)[0], batch.positions[scored]), 1)
    np.testing.assert_array_equal(covered, text)
    batch = objective.train_batch(windows, found.vocabulary, np.random.default_rng(2))
    counted = (batch.targets != IGNORED).sum(axis=1)
    np.testing.assert_array_equal(counted, np.ceil(0.15 * text.sum(axis=1) - 1e-9))
    assert float(batch.extra["weight"][0]) == pytest.approx(batch.targets.size / counted.sum())
    assert batch.positions is not None
    second = np.take_along_axis(batch.extra["segments"], batch.positions, 1)[batch.targets != IGNORED]
    assert 0 < second.mean() < 1 if length == 64 else True
    changed = batch.inputs != np.where(np.cumsum(windows == 255, axis=1) > 0, 255, windows)
    assert not (changed & ~text).any()


def test_positions_begin_anew_and_padding_is_not_seen(corpus: Parallel, tmp_path: Path) -> None:
    found, objective = prepared(corpus, tmp_path), TranslationMasked()
    windows = windows_of(found, 8, 64)
    batch = objective.train_batch(windows, found.vocabulary, np.random.default_rng(2))
    for row, ids, languages, length in zip(
        windows, batch.extra["position_ids"], batch.extra["segments"], batch.extra["lengths"], strict=True
    ):
        a, b = bytes(row).split(b"\xff")[0].split(b"\n")
        assert ids[:length].tolist() == [*range(len(a) + 1), *range(len(b) + 1)]
        assert languages[:length].tolist() == [0] * (len(a) + 1) + [1] * (len(b) + 1)
        assert (ids[length:] == 0).all()
    model = objective.build(SHAPE, 256, 0).eval()
    given = {name: torch.from_numpy(array) for name, array in batch.named().items()}
    fixed = [given.pop(name) for name in ("inputs", "positions", "targets")]
    before = model(*fixed, **given)
    padding = torch.arange(64) >= given["lengths"][:, None]
    assert padding.any()
    after = model(torch.where(padding, 65, fixed[0]), *fixed[1:], **given)
    assert torch.equal(before, after)
    last = fixed[0].clone()
    last[torch.arange(8), given["lengths"] - 2] = 65
    assert not torch.equal(before, model(last, *fixed[1:], **given))


def test_the_training_loss_is_a_mean_over_predicted_tokens(corpus: Parallel, tmp_path: Path) -> None:
    found, objective = prepared(corpus, tmp_path), TranslationMasked()
    batch = objective.train_batch(windows_of(found, 8, 64), found.vocabulary, np.random.default_rng(2))
    model = objective.build(SHAPE, 256, 0)
    assert objective.params(SHAPE, 256).total == sum(p.numel() for p in model.parameters())
    given = {name: torch.from_numpy(array) for name, array in batch.named().items()}
    fixed = [given.pop(name) for name in ("inputs", "positions", "targets")]
    nats = model.eval()(*fixed, **given)[fixed[2] != IGNORED]
    training = model.train()(*fixed, **given).sum() / (8 * objective.predicted_per_window(64))
    torch.testing.assert_close(training, nats.mean())


@pytest.mark.skipif("SCALING_TEST_DATA" not in os.environ, reason="SCALING_TEST_DATA is not set")
def test_multi30k_becomes_pairs(tmp_path: Path) -> None:
    folder = Path(os.environ["SCALING_TEST_DATA"]) / "tasks/multi30k"
    corpus = Parallel(first=str(folder / "val.en.gz"), second=str(folder / "val.de.gz"))
    documents = list(corpus.documents())
    assert len(documents) == 1014
    assert documents[0].text.count("\n") == 1
    found = prepared(corpus, tmp_path)
    windows = windows_of(found, 100, 192)
    batch = TranslationMasked().train_batch(windows, found.vocabulary, np.random.default_rng(0))
    share = (batch.extra["segments"].sum(1) / batch.extra["lengths"]).mean()
    assert 0.45 < share < 0.65
