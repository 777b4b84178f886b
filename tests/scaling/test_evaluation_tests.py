"""Minimal pairs, probes and similarity: hand-worked scores, planted classes, and reference correlations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluation_world import ENCODER, untrained, write_text
from scipy.sparse import csr_matrix
from scipy.stats import spearmanr

from scaling.evaluations import regression, tasks
from scaling.evaluations.base import Unserved
from scaling.evaluations.linear_probe import LinearProbe
from scaling.evaluations.measuring import settings_of
from scaling.evaluations.minimal_pairs import MinimalPairs, accuracies
from scaling.evaluations.spread import Score, accuracy, correlation, points_of
from scaling.evaluations.sts import Sts
from scaling.evaluations.subject import Subject
from scaling.evaluations.text import log_likelihoods


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_text(tmp_path_factory.mktemp("english") / "text.txt")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "tests-cache"))


@pytest.fixture
def encoder(corpus: dict[str, str]) -> Subject:
    return untrained(corpus=corpus, architecture=ENCODER, objective="masked")


def test_accuracies_are_means_over_paradigms_with_the_error_of_each() -> None:
    pairs = [tasks.MinimalPair("g", "b", p, f) for p, f in [("a", "x"), ("a", "x"), ("b", "x"), ("c", "y"), ("c", "y")]]
    points = {p.metric: p for p in accuracies(pairs, np.array([1.0, 0.0, 1.0, 0.5, 1.0]))}
    assert points["minimal_pairs"].value == pytest.approx((0.5 + 1.0 + 0.75) / 3)
    assert points["minimal_pairs:x"].value == pytest.approx(0.75)
    assert points["minimal_pairs:y"].n == 2
    shrunk = [0.5, 2 / 3, 2.5 / 4]
    variance = [q * (1 - q) / n for q, n in zip(shrunk, (2, 1, 2), strict=True)]
    assert points["minimal_pairs"].se == pytest.approx(np.sqrt(sum(variance)) / 3)


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_minimal_pairs_follow_the_likelihoods(corpus: dict[str, str], tmp_path: Path, kind: str) -> None:
    shape = {"architecture": ENCODER, "objective": "masked"} if kind == "masked" else {}
    subject = untrained(corpus=corpus, **shape)
    sentences = [("one two", "two on"), ("same", "same"), ("long" * 20, "x"), ("abc", "cba"), ("never", "read")]
    lines = [json.dumps({"sentence_good": g, "sentence_bad": b, "UID": "p"}) for g, b in sentences]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    point, *rest = MinimalPairs(path=str(tmp_path / "p.jsonl"), limit=4).measure(subject)
    items = [p for p in rest if p.metric == "minimal_pairs:by_item"]
    assert [p.x for p in items] == [0.0, 1.0, 3.0]
    assert np.mean([p.value for p in items]) == pytest.approx(point.value)
    scored = [sentences[0], sentences[3]]
    values = [log_likelihoods(subject, subject.encoder.encode_many(pair)) for pair in scored]
    assert point.value == pytest.approx((sum(good > bad for good, bad in values) + 0.5) / 3)
    assert point.n == 3
    (tmp_path / "p.jsonl").write_text(lines[2])
    with pytest.raises(Unserved, match="no pair fits its window of 32"):
        MinimalPairs(path=str(tmp_path / "p.jsonl")).measure(subject)


def test_settings_name_the_data_by_its_content(tmp_path: Path) -> None:
    line = json.dumps({"sentence_good": "a", "sentence_bad": "b", "UID": "p"})
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.jsonl").write_text(line)
    one, two = (settings_of(MinimalPairs(path=str(tmp_path / f / "p.jsonl"))) for f in ("here", "there"))
    assert one == two
    assert "path" not in json.loads(one)
    (tmp_path / "there" / "p.jsonl").write_text(line + "\n" + line)
    assert settings_of(MinimalPairs(path=str(tmp_path / "there" / "p.jsonl"))) != one


def test_regression_finds_a_plane_and_no_more_than_the_noise_allows() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4000, 5))
    x[:, 4] = 7.0
    true = (x[:, 0] - 2 * x[:, 1] > 0.5).astype(np.int64)
    noisy = np.where(rng.random(4000) < 0.2, 1 - true, true)
    parts = [slice(0, 2000), slice(2000, 3000), slice(3000, 4000)]
    clean = regression.classify(regression.standardised(*(x[p] for p in parts)), [true[p] for p in parts])
    assert clean.accuracy > 0.985
    found = regression.classify(regression.standardised(*(x[p] for p in parts)), [noisy[p] for p in parts])
    assert abs(found.accuracy - 0.8) < 3 * np.sqrt(0.8 * 0.2 / 1000)


@pytest.mark.parametrize("penalty", [1e-1, 1e-3, 1e-6])
@pytest.mark.parametrize("separable", [False, True])
def test_newton_ends_where_the_gradient_does_and_no_other_solver_is_lower(penalty: float, separable: bool) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((600, 12)) @ np.diag(np.geomspace(1.0, 30.0, 12))
    labels = (x[:, 0] + (0.0 if separable else 1.0) * rng.standard_normal(600) > 0).astype(np.int64)
    start = np.zeros(13)
    weights = regression.fitted(x, labels, penalty, start)
    value = regression.loss_of(x, labels, penalty, weights)
    pull = (1 / (1 + np.exp(-(x @ weights[:-1] + weights[-1]))) - labels) / 600
    gradient = np.append(x.T @ pull + penalty * weights[:-1], pull.sum())
    assert np.abs(gradient).max() < 1e-5
    sparse = regression.fitted(csr_matrix(x), labels, penalty, start)
    assert value <= regression.loss_of(x, labels, penalty, sparse) + 1e-12
    assert regression.loss_of(x, labels, penalty, sparse) == pytest.approx(value, abs=2e-3)


def test_weaker_penalties_are_left_once_they_only_make_it_worse() -> None:
    rng = np.random.default_rng(6)
    x = rng.standard_normal((60, 40))
    labels = (x[:, 0] + 0.5 * rng.standard_normal(60) > 0).astype(np.int64)
    tried: list[float] = []

    class Seen(tuple):  # type: ignore[type-arg]
        def __iter__(self):  # type: ignore[no-untyped-def]
            for penalty in super().__iter__():
                tried.append(penalty)
                yield penalty

    whole = [x[:20], x[20:40], x[40:]], [labels[:20], labels[20:40], labels[40:]]
    found = regression.classify(*whole, penalties=Seen((1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)))
    chosen = [(regression.classify(*whole, penalties=tuple(tried[: k + 1])).penalty) for k in range(len(tried))]
    assert found.penalty == chosen[-1]
    assert found.penalty in tried


def test_a_limit_takes_that_many_texts_to_fit_and_scores_the_same(tmp_path: Path) -> None:
    path = write_task(tmp_path)
    whole, part = LinearProbe(path=path), LinearProbe(path=path, limit=100)
    assert (len(whole.task.train.texts), len(part.task.train.texts)) == (400, 100)
    assert set(part.task.train.texts) <= set(whole.task.train.texts)
    assert part.task.test.texts == whole.task.test.texts
    kept = dict(zip(whole.task.train.texts, whole.task.train.labels.tolist(), strict=True))
    assert [kept[t] for t in part.task.train.texts] == part.task.train.labels.tolist()
    assert "limit" not in json.loads(settings_of(whole))
    assert settings_of(part) != settings_of(whole)


def test_ngram_counts_are_those_of_the_text_and_never_cross_texts() -> None:
    counts = regression.ngram_counts([b"abab", b"ba", b"", b"abab"], 3)
    assert counts.shape == (4, regression.BUCKETS)
    assert sorted(counts[[0]].data.tolist()) == [1, 1, 1, 2, 2, 2]  # ba, aba, bab; a, b, ab
    assert sorted(counts[[1]].data.tolist()) == [1, 1, 1]
    assert counts[[2]].nnz == 0
    assert (counts[[0]] != counts[[3]]).nnz == 0
    (weights,) = regression.weighted([counts])
    assert np.asarray(weights.multiply(weights).sum(axis=1)).ravel() == pytest.approx([1.0, 1.0, 0.0, 1.0])


def write_task(folder: Path) -> str:
    """Sentences whose class is whether their first word is `good`: n-grams see it, an untrained model partly."""
    rng = np.random.default_rng(0)
    words = ["tree", "river", "stone", "cloud", "glass"]
    for name, n in (("train", 400), ("dev", 200), ("test", 60)):
        rows = []
        for _ in range(n):
            label = int(rng.integers(2))
            rows.append(f"{('bad', 'good')[label]} {' '.join(rng.choice(words, 3))}\t{label}")
        (folder / f"{name}.tsv").write_text("sentence\tlabel\n" + "\n".join(rows))
    return str(folder)


def test_a_probe_stands_beside_its_baselines(encoder: Subject, tmp_path: Path) -> None:
    probe = LinearProbe(path=write_task(tmp_path))
    measured = probe.measure(encoder)
    items = [p for p in measured if p.metric == "probe:sst2:by_item"]
    points = {p.metric: p for p in measured if p not in items}
    assert np.mean([p.value for p in items]) == points["probe:sst2"].value
    assert points["probe:sst2:ngrams"].value > 0.95
    assert points["probe:sst2"].value > 0.75
    # The weights are those its training began with, so the untrained twin is the same model.
    assert points["probe:sst2:random"].value == points["probe:sst2"].value
    assert points["probe:sst2:over_random"].value == 0.0
    difference = points["probe:sst2"].value - points["probe:sst2:ngrams"].value
    assert points["probe:sst2:over_ngrams"].value == pytest.approx(difference)
    assert all(p.n == 200 for p in points.values())


def test_correlations_are_spearmans_with_a_plausible_error() -> None:
    rng = np.random.default_rng(3)
    a = rng.standard_normal(500)
    b = np.round(a + rng.standard_normal(500), 1)
    value, draws = correlation(a, b)
    assert value == pytest.approx(spearmanr(a, b).statistic, rel=1e-12)
    assert draws.std() == pytest.approx((1 - value**2) * np.sqrt(1 + value**2 / 2) / np.sqrt(500), rel=0.25)


def test_seeds_and_items_add_to_the_error() -> None:
    rng = np.random.default_rng(4)
    right = (rng.random(900) < 0.7).astype(np.float64)
    one = accuracy(right)
    assert one.value == right.mean()
    assert one.draws.std() == pytest.approx(np.sqrt(one.value * (1 - one.value) / 900), rel=0.15)
    seeds = [Score(v, one.draws - one.value + v) for v in (0.6, 0.7, 0.8)]
    points = {p.metric: p for p in points_of("t", {"": seeds, "random": [one]}, 900)}
    assert points["t"].value == pytest.approx(0.7)
    assert points["t"].se == pytest.approx(np.sqrt(0.01 / 3 + one.draws.var(ddof=1)))
    assert points["t:over_random"].value == pytest.approx(0.7 - one.value)
    # The draws are of the same items, so that only the seeds remain.
    assert points["t:over_random"].se == pytest.approx(np.sqrt(0.01 / 3))
    assert [p.value for p in points_of("t", {"": seeds}, 900) if p.metric == "t:by_seed"] == [0.6, 0.7, 0.8]


def test_similarity_of_equal_sentences_ranks_first(encoder: Subject, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    words = ["tree", "river", "stone", "cloud", "glass", "fire", "wind"]
    rows = []
    for i in range(120):
        first = rng.choice(words, 4)
        changed = int(rng.integers(0, 5))
        second = [w if j >= changed else words[(words.index(w) + 3) % 7] for j, w in enumerate(first)]
        rows.append(f"m\tM\t2012\t{i}\t{5 - changed}\t{' '.join(first)}\t{' '.join(second)}")
    (tmp_path / "sts-test.csv").write_text("\n".join(rows))
    points = {p.metric: p for p in Sts(path=str(tmp_path)).measure(encoder)}
    assert points["sts:ngrams"].value > 0.8
    assert points["sts"].value > 0.4
    assert points["sts"].value == points["sts:random"].value
    assert points["sts:over_ngrams"].value == pytest.approx(points["sts"].value - points["sts:ngrams"].value)


def test_runs_on_code_are_not_asked_about_english(encoder: Subject) -> None:
    code = encoder.trial.model_copy(update={"corpus": encoder.trial.corpus.model_construct(type="python-v1")})
    for evaluation in (MinimalPairs(path="x"), LinearProbe(path="x"), Sts(path="x")):
        assert evaluation.serves(encoder.trial) is None
        assert "trained on source code" in str(evaluation.serves(code))
