"""Texts as models read them: likelihoods against plain loops and a known model, vectors against the whole window."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from evaluation_world import DECODER, ENCODER, SOURCE, untrained
from torch.nn.functional import log_softmax

from scaling.evaluations.base import Unserved
from scaling.evaluations.pseudo_log_likelihood import PseudoLogLikelihood
from scaling.evaluations.subject import Subject
from scaling.evaluations.text import english, likelihood_of, log_likelihoods, reader, vectors, window_length
from scaling.tokenizers.byte import MASK, SEPARATOR, ByteEncoder

TEXTS = ["the cat", "a", "sits on the mat!", "", "x" * 40]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "text-cache"))


def subject(name: str) -> Subject:
    learned = {"positions": "learned"}
    kinds = {
        "decoder": {},
        "learned decoder": {"architecture": DECODER | learned},
        "encoder": {"architecture": ENCODER, "objective": "masked"},
        "learned encoder": {"architecture": ENCODER | learned, "objective": "masked"},
        "pairs": {"architecture": ENCODER | learned, "objective": "masked_pairs"},
    }
    return untrained(**kinds[name])


def encoded() -> list[np.ndarray]:
    return ByteEncoder().encode_many(TEXTS)


def logits(of: Subject, tokens: list[int]) -> torch.Tensor:
    """(T, V) of a whole window of the model as it was trained; what follows the text is hidden from an encoder."""
    filled = torch.tensor([tokens + [SEPARATOR] * (of.seq_len - len(tokens))])
    causal = not of.trial.architecture.bidirectional
    told = {} if causal else {"lengths": torch.tensor([len(tokens)])}
    model = of.model_for(of.seq_len)
    with torch.no_grad():
        return getattr(model, "encoder", model).logits(filled, None, **told)[0].double()


@pytest.mark.parametrize("name", ["decoder", "learned decoder"])
def test_log_likelihood_is_the_sum_over_the_text(name: str) -> None:
    of = subject(name)
    found = log_likelihoods(of, encoded())
    for text, value in zip(encoded(), found, strict=True):
        if 0 < len(text) <= of.seq_len:
            predicted = log_softmax(logits(of, [SEPARATOR, *text.tolist()][:-1]), dim=-1)
            assert value == pytest.approx(sum(float(predicted[i, t]) for i, t in enumerate(text)), rel=1e-5)
        else:
            assert math.isnan(value)


@pytest.mark.parametrize(("name", "first"), [("encoder", SEPARATOR), ("learned encoder", SEPARATOR), ("pairs", 256)])
def test_pseudo_log_likelihood_masks_each_position_alone(name: str, first: int) -> None:
    of = subject(name)
    found = log_likelihoods(of, encoded())
    for text, value in zip(encoded(), found, strict=True):
        if not 0 < len(text) <= of.seq_len - 2:
            assert math.isnan(value)
            continue
        total = 0.0
        for i, token in enumerate(text.tolist()):
            shown = [first, *text.tolist(), SEPARATOR]
            shown[1 + i] = MASK
            total += float(log_softmax(logits(of, shown)[1 + i], dim=-1)[token])
        assert value == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("name", ["decoder", "encoder"])
def test_a_model_that_knows_nothing_gives_each_byte_a_256th(name: str) -> None:
    of = subject(name)
    blank = Subject(of.row, of.trial, {f"model.{n}": w * (n != "head") for n, w in of.weights.items()})
    texts = [t for t in encoded() if 0 < len(t) <= 30]
    assert log_likelihoods(blank, texts) == pytest.approx([-len(t) * math.log(256) for t in texts], rel=1e-6)
    point, *documents = PseudoLogLikelihood(windows=12).measure(blank)
    assert point.value == pytest.approx(math.log(256), rel=1e-6)
    assert point.n == 12 * 31
    assert {d.metric for d in documents} == {"pseudo_log_likelihood:by_document"}
    assert sum(d.n for d in documents if d.n is not None) == point.n
    assert sum(d.value for d in documents) == pytest.approx(point.n * point.value)


def test_pseudo_log_likelihood_of_a_window_is_that_of_its_tokens() -> None:
    of = subject("encoder")
    window = of.corpus.heldout(32, 32).windows[0].astype(np.int64)
    total = 0.0
    for i in range(1, 32):
        shown = window.tolist()
        shown[i] = MASK
        total -= float(log_softmax(logits(of, shown)[i], dim=-1)[window[i]])
    assert PseudoLogLikelihood(windows=1).measure(of)[0].value == pytest.approx(total / 31, rel=1e-5)


OTHERS = {
    "lstm": {"architecture": {"type": "lstm", "n_layer": 1, "d_model": 16, "seq_len": 32}},
    "prefix": {"architecture": DECODER | {"type": "prefix_decoder"}, "objective": "prefix"},
    "t5": {
        "architecture": DECODER | {"type": "encoder_decoder", "positions": "t5"},
        "objective": "span_corruption",
    },
    "bart": {"architecture": DECODER | {"type": "encoder_decoder", "positions": "learned"}, "objective": "denoising"},
    "electra": {"architecture": ENCODER | {"d_model": 32, "n_head": 4}, "objective": "replaced_token"},
    "spanbert": {"architecture": ENCODER, "objective": "span_boundary"},
    "albert": {"architecture": ENCODER | {"share": "all", "embedding_size": 8, "n_layer": 2}, "objective": "masked"},
    "alibi": {"architecture": DECODER | {"positions": "alibi", "local_window": 8, "n_layer": 2}},
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_kind_of_model_reads_texts_without_what_fills_them_up(name: str) -> None:
    of = untrained(**OTHERS[name])
    together = vectors(of, encoded())
    for text, vector in zip(encoded(), together, strict=True):
        assert vectors(of, [text])[0] == pytest.approx(vector, rel=1e-4, abs=1e-5)
    assert len({tuple(v) for v in together.round(6)}) == len(TEXTS)
    if likelihood_of(of.trial) is None:
        found = log_likelihoods(of, encoded())
        assert np.isnan(found).tolist() == [False, False, False, True, True]
        assert log_likelihoods(of, encoded()[2:3])[0] == pytest.approx(found[2], rel=1e-5)


@pytest.mark.parametrize("name", ["decoder", "learned encoder", "pairs"])
def test_vectors_do_not_depend_on_company_and_long_texts_count_by_token(name: str) -> None:
    of = subject(name)
    together = vectors(of, encoded())
    assert np.isfinite(together).all()
    for text, vector in zip(encoded(), together, strict=True):
        assert vectors(of, [text])[0] == pytest.approx(vector, rel=1e-4, abs=1e-5)
    room = 30 if of.trial.architecture.bidirectional else 31
    long = np.arange(97, 97 + room + 8) % 26 + 97
    whole, first, rest = vectors(of, [long, long[:room], long[room:]])
    assert whole == pytest.approx((room * first + 8 * rest) / (room + 8), rel=1e-4, abs=1e-5)


def test_a_model_cut_for_shorter_texts_still_holds_the_longest() -> None:
    """At 112 as at 128 tokens span corruption has six spans, so the weights fit; the encoder takes 101 of 112."""
    of = untrained(architecture=DECODER | {"type": "encoder_decoder", "seq_len": 128}, objective="span_corruption")
    texts = [np.arange(97, 97 + n) % 26 + 97 for n in (60, *range(90, 112))]
    lengths = {window_length(model, of) for model in (reader(of, n)[0] for n in (100, 102, 113))}
    assert lengths == {101, 115}
    for text, vector in zip(texts, vectors(of, texts), strict=True):
        assert vectors(of, [text])[0] == pytest.approx(vector, rel=1e-4, abs=1e-5)


def test_who_gives_no_likelihood_and_who_read_no_english() -> None:
    contrastive = untrained(architecture=ENCODER | {"dropout": 0.1}, objective={"type": "contrastive", "group": 2})
    assert "no likelihood" in str(likelihood_of(contrastive.trial))
    with pytest.raises(Unserved, match="no likelihood"):
        log_likelihoods(contrastive, encoded())
    found = vectors(contrastive, encoded())
    assert found.shape == (5, 16)
    assert np.array_equal(vectors(contrastive, encoded()), found), "dropout is on"
    assert contrastive.trial.corpus.type == SOURCE["type"]
    assert "synthetic source" in str(english(contrastive.trial))
