"""Fine-tuning: a planted rule is learned by head and by text, the same seed gives the same, baselines stand beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation_world import DECODER, ENCODER, SOURCE, untrained, write_text

from scaling.evaluations.fine_tune import FineTune
from scaling.evaluations.text import Filled
from scaling.evaluations.tuning import Recipe, framed, text_to_text, with_head

RECIPE = Recipe(steps=150, batch=16, lr=1e-2)
ENCODER_DECODER = {**DECODER, "type": "encoder_decoder"}
KINDS = {
    "encoder": {"architecture": ENCODER, "objective": "masked"},
    "decoder": {"architecture": DECODER, "objective": "causal"},
}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "tuning-cache"))


def sentences(n: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Texts of the letters a to d; the class is whether the second one is a or b."""
    rng = np.random.default_rng(seed)
    letters = rng.integers(0, 4, (n, 6))
    return ["".join("abcd"[i] for i in row) for row in letters], (letters[:, 1] < 2).astype(np.int64)


def read(subject: object, texts: list[str]) -> Filled:
    encode = subject.encoder.encode_many  # type: ignore[attr-defined]
    return framed(subject, [[t] for t in encode(texts)])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_head_learns_what_is_written_in_the_text(kind: str) -> None:
    subject = untrained(**KINDS[kind])
    (texts, labels), (others, true) = sentences(400, 0), sentences(200, 1)
    train, test = read(subject, texts), read(subject, others)
    logits = with_head(subject, train, labels, test, RECIPE, seed=0)
    assert ((logits > 0) == (true > 0)).mean() > 0.9


def test_the_seed_decides_and_numbers_are_learned_as_such() -> None:
    subject = untrained(**KINDS["encoder"])
    texts, labels = sentences(100, 0)
    train = read(subject, texts)
    short = RECIPE._replace(steps=4)
    one, same, other = (with_head(subject, train, labels, train, short, seed) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    constant = np.full(100, 0.75, np.float32)
    found = with_head(subject, train, constant, train, RECIPE._replace(steps=40), seed=0)
    assert np.square(found - 0.75).mean() < 0.02


def test_a_model_that_writes_learns_the_answer_as_text() -> None:
    subject = untrained(architecture=ENCODER_DECODER, objective="span_corruption")
    (texts, labels), (others, true) = sentences(400, 0), sentences(100, 1)
    wanted = [("no", "yes")[label] for label in labels]
    found = text_to_text(subject, read(subject, texts), wanted, read(subject, others), RECIPE, 0)
    right = [f.startswith(("no", "yes")[t]) for f, t in zip(found, true, strict=True)]
    assert np.mean(right) > 0.9


def test_pairs_are_framed_and_cut_alike() -> None:
    subject = untrained(**KINDS["encoder"])
    long = np.full(50, 97, np.uint8)
    filled = framed(subject, [[long, long[:3]], [long[:2], long[:2]]])
    assert filled.lengths.tolist() == [1 + 14 + 1 + 3 + 1, 1 + 2 + 1 + 2 + 1]
    assert filled.tokens.shape == (2, 32)
    assert filled.tokens[1, :7].tolist() == [255, 97, 97, 255, 97, 97, 255]


def write_task(folder: Path) -> str:
    for number, (name, n) in enumerate({"train": 200, "dev": 100, "test": 40}.items()):
        texts, labels = sentences(n, number)
        rows = [f"{text}\t{label}" for text, label in zip(texts, labels, strict=True)]
        (folder / f"{name}.tsv").write_text("sentence\tlabel\n" + "\n".join(rows))
    return str(folder)


def write_pairs(folder: Path) -> str:
    for name in ("train", "test"):
        texts, labels = sentences(80, len(name))
        rows = [
            f"m\tM\t2012\t{i}\t{5 * label}\t{t}\t{t}" for i, (t, label) in enumerate(zip(texts, labels, strict=True))
        ]
        (folder / f"sts-{name}.csv").write_text("\n".join(rows))
    return str(folder)


@pytest.mark.parametrize("kind", ["sst2", "stsb"])
def test_seeds_and_baselines_stand_beside_the_score(tmp_path: Path, kind: str) -> None:
    subject = untrained(corpus=write_text(tmp_path / "corpus.txt"), **KINDS["encoder"])
    (tmp_path / "task").mkdir()
    path = (write_task if kind == "sst2" else write_pairs)(tmp_path / "task")
    tuned = FineTune(path=path, steps=20, batch=8, lr=1e-2, seeds=(0, 7))
    assert tuned.serves(subject.trial) is None
    points = tuned.measure(subject)
    names = [p.metric.removeprefix(f"fine_tune:{kind}") for p in points]
    assert names == ["", ":random", ":ngrams", ":over_random", ":over_ngrams", ":by_seed", ":by_seed"]
    found = dict(zip(names, points, strict=True))
    seeds = [p.value for p in points if p.metric.endswith(":by_seed")]
    assert found[""].value == pytest.approx(np.mean(seeds))
    # The weights are those its training began with, so the untrained twin does the same, seed by seed.
    assert (found[":over_random"].value, found[":over_random"].se) == (0.0, 0.0)
    assert "path" not in tuned.identity()
    assert tuned.identity()["task"] == kind


def test_runs_on_a_synthetic_source_are_refused() -> None:
    assert untrained(**KINDS["encoder"]).trial.corpus.type == SOURCE["type"]
    assert "synthetic" in str(FineTune(path="x").serves(untrained(**KINDS["encoder"]).trial))
