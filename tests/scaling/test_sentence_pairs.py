"""Pairs of sentences from held-out text: planted discourse is found, none is not, and no document is in two parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation_world import ENCODER, untrained

from scaling.evaluations.base import Unserved
from scaling.evaluations.sentence_pairs import SentencePairs, neighbours
from scaling.evaluations.subject import Subject

TOPICS = ["river", "engine", "garden", "letter", "winter", "copper", "violin", "harbour"]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "pairs-cache"))


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Documents of one topic each, in which every sentence that opens a pair says so."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("documents")
    words = ["stone", "cloud", "glass", "paper", "light", "bread", "thread", "window"]
    for i in range(900):
        topic = TOPICS[int(rng.integers(len(TOPICS)))]
        lines = []
        for _ in range(4):
            a, b = (" ".join(rng.choice(words, 3)) for _ in range(2))
            lines.append(f"Early the {topic} had {a} {i}. Later the {topic} lost {b} {i}.")
        (folder / f"{i:04d}.txt").write_text("\n\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALING_CACHE", str(folder.parent / "pairs-cache"))
        found = untrained(corpus={"type": "local", "path": str(folder)}, architecture=ENCODER, objective="masked")
        _ = found.corpus
    return found


def test_neighbours_stay_in_their_paragraph_and_are_of_usable_length() -> None:
    text = (
        "One sentence of some length. Another one that follows it! Short.\n\nA new paragraph begins\nhere now. It ends."
    )
    assert list(neighbours(text)) == [("One sentence of some length.", "Another one that follows it!")]


def test_parts_share_no_document_and_half_of_each_is_changed(subject: Subject) -> None:
    for relation in ("adjacent", "order"):
        parts = SentencePairs(relation=relation).parts(subject)
        documents = [{s.split()[-1] for s in (*p.first, *p.second)} for p in parts]
        assert not documents[0] & documents[1] | documents[0] & documents[2] | documents[1] & documents[2]
        for part in parts:
            assert abs(part.labels.mean() - 0.5) <= 1 / len(part.labels)
            together = np.array([a.split()[-1] == b.split()[-1] for a, b in zip(part.first, part.second, strict=True)])
            in_order = np.array([a.startswith("Early") for a in part.first])
            if relation == "order":
                assert together.all()
                np.testing.assert_array_equal(in_order, part.labels == 1)
            else:
                assert in_order.all()
                np.testing.assert_array_equal(together, part.labels == 1)


def test_planted_order_is_found_and_scores_stand_beside_their_baselines(subject: Subject) -> None:
    points = SentencePairs(relation="order").measure(subject)
    found = {p.metric: p for p in points if not p.metric.endswith("by_item")}
    assert found["sentence_pairs:order:ngrams"].value > 0.98
    assert found["sentence_pairs:order"].value > 0.9
    assert found["sentence_pairs:order:over_random"].value == 0.0
    items = [p.value for p in points if p.metric == "sentence_pairs:order:by_item"]
    assert np.mean(items) == found["sentence_pairs:order"].value


def test_text_without_pairs_is_left_out_and_so_are_runs_on_code(subject: Subject, tmp_path: Path) -> None:
    lines = (f"no full stop ever ends what is said in line {i} of {i * i}\n" for i in range(4000))
    (tmp_path / "text.txt").write_text("".join(lines))
    none = untrained(corpus={"type": "local", "path": str(tmp_path)}, architecture=ENCODER, objective="masked")
    with pytest.raises(Unserved, match="too few to fit"):
        SentencePairs().measure(none)
    code = subject.trial.model_copy(update={"corpus": subject.trial.corpus.model_construct(type="python-v1")})
    assert "source code" in str(SentencePairs().serves(code))
