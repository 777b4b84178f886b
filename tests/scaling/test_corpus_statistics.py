"""Entropies and correlations of a corpus against exact ones: Markov text, renewal text, and counts done by hand."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cli_world import call

from analysis.corpus_exponent import foretell
from analysis.types import Status
from scaling.corpora import ngrams
from scaling.corpora.correlations import composition, correlate, top_singular
from scaling.corpora.markov import Markov
from scaling.corpora.prepare import TokenizedCorpus, prepare
from scaling.corpora.statistics import BLOCKS, measure_statistics
from scaling.errors import CorpusError
from scaling.tokenizers.byte import Byte
from tests.analysis.known_sources import exact_entropies

SOURCE = Markov(order=2, symbols=6, n_documents=1024, document_length=512)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> TokenizedCorpus:
    return prepare(SOURCE, Byte(), cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def found(corpus: TokenizedCorpus) -> dict:
    return measure_statistics(corpus)


def by_hand(tokens: list[int], length: int, context: int) -> float:
    """Plug-in H of token `context` given those before it, over every window of `length` inside a document (-1 ends)."""
    windows = [
        tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1) if -1 not in tokens[i : i + length]
    ]
    joint = Counter(w[: context + 1] for w in windows)
    before = Counter(w[:context] for w in windows)
    return -sum(c * np.log(c / before[k[:context]]) for k, c in joint.items()) / len(windows)


def test_plug_in_entropies_are_those_of_counts() -> None:
    rng = np.random.default_rng(0)
    symbols = rng.integers(0, 100, 4000) % 7
    separators = rng.random(4000) < 0.01
    blocks = np.repeat(np.arange(4), 1000).astype(np.uint8)
    windows = ngrams.cut_windows(symbols, separators, blocks, 7)
    assert windows.length == 9
    sums = ngrams.surprisals(windows, 4)
    tokens = np.where(separators, -1, symbols).tolist()
    for context in (0, 1, 2, 5):
        expected = by_hand(tokens, 9, context)
        assert sums.plugin[:, context].sum() / sums.windows.sum() == pytest.approx(expected, abs=1e-12)


def test_a_window_is_as_long_as_64_bits_hold() -> None:
    assert [ngrams.block_length(n) for n in (2, 128, 129, 256, 257, 4096)] == [9, 9, 8, 8, 7, 5]


def test_grassberger_is_unbiased_where_logarithms_are_not() -> None:
    # n_i are Poisson of mean m: E[n G(n)] tends to m ln m, while E[n ln n] is above it by about one half.
    rng = np.random.default_rng(1)
    counts = rng.poisson(3.0, 400_000)
    counts = counts[counts > 0]
    truth = 3.0 * np.log(3.0) * 400_000
    assert (counts * ngrams.grassberger(counts)).sum() == pytest.approx(truth, rel=0.01)
    assert (counts * np.log(counts)).sum() > 1.1 * truth
    assert ngrams.grassberger(np.array([70_000]))[0] == pytest.approx(np.log(70_000), abs=1e-9)


def test_the_bounds_hold_the_exact_entropies_of_a_markov_source(found: dict) -> None:
    exact = exact_entropies(SOURCE, 9)
    assert exact[2] == pytest.approx(SOURCE.entropy_rate())
    assert exact[0] > exact[1] > exact[2] == exact[8]
    for e, truth in zip(found["entropies"], exact, strict=True):
        assert e["plugin"] - 3 * e["se"] <= truth <= e["upper"] + 3 * e["se"]
        assert e["plugin"] <= e["corrected"] <= e["upper"] + 1e-4
    for e, truth in list(zip(found["entropies"], exact, strict=True))[:5]:
        assert e["corrected"] == pytest.approx(truth, abs=0.01)
        assert e["upper"] - e["plugin"] < 0.2


def test_more_text_less_bias(found: dict) -> None:
    truth = SOURCE.entropy_rate()
    gaps = [truth - size["plugin"][5] for size in found["sizes"]]
    assert gaps[0] > 2 * gaps[1] > 2 * gaps[2]
    assert gaps[-1] == pytest.approx(truth - found["entropies"][5]["plugin"])


def test_errors_of_independent_tokens_are_those_of_a_mean(tmp_path: Path) -> None:
    source = Markov(order=1, symbols=6, tail=1.0, sharpness=0.0, n_documents=1024, document_length=256)
    found = measure_statistics(prepare(source, Byte(), cache=tmp_path))
    p = source.chain().stationary
    sd = np.sqrt(p @ np.log(p) ** 2 - (p @ np.log(p)) ** 2)
    assert found["entropies"][0]["se"] == pytest.approx(sd / found["tokens"] ** 0.5, rel=0.25)
    assert found["correlations"][0]["operator"] < 3 * found["correlations"][0]["noise"]


def test_correlations_of_a_markov_source_are_exact_and_end_in_noise(found: dict) -> None:
    chain = SOURCE.chain()
    n = SOURCE.symbols
    pair = chain.stationary.reshape(n, n)
    p = pair.sum(axis=1)
    exact = np.linalg.norm(pair - np.outer(p, p), 2)
    first, far = found["correlations"][0], found["correlations"][-1]
    assert first["operator"] == pytest.approx(exact, abs=4 * first["se"] + first["noise"])
    assert far["lag"] >= 256
    assert far["operator"] < 3 * far["noise"]


def test_no_power_law_is_seen_in_markov_text(found: dict) -> None:
    said = foretell(found)
    assert said.status is Status.NOT_RESOLVED
    assert said.reason


def renewal(beta: float, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Symbols held for random times, so that two tokens n apart are of one hold with probability (1 + n)^-beta."""
    same = (1.0 + np.arange(4 * n)) ** -beta  # P(same hold) at lag n; its second difference is P(T = n) up to scale
    tail = same[:-1] - same[1:]  # P(T > n) E[T]^-1
    p = -np.diff(tail) / tail[0]
    holds = 1 + rng.choice(len(p), n, p=p / p.sum())
    holds = holds[: int(np.searchsorted(np.cumsum(holds), n)) + 1]
    symbols = np.repeat(rng.integers(0, 4, len(holds)), holds)[:n]
    return symbols, same


def test_the_norm_of_renewal_text_is_its_power_law() -> None:
    rng = np.random.default_rng(3)
    n = 400_000
    symbols, same = renewal(0.8, n, rng)
    edges = np.linspace(0, n, 65).astype(int)
    document = np.repeat(np.arange(64), np.diff(edges))
    for lag in (1, 4, 16):
        c = correlate(symbols, document, edges, 4, lag)
        assert c.operator == pytest.approx(
            0.25 * same[lag], rel=0.1
        )  # diag(p) - pp' of four equal symbols has norm 1/4
        assert c.pairs == n - 64 * lag
        again = c.resampled(np.ones((1, 64)))
        assert again[0] == pytest.approx(c.operator, rel=1e-9)


def test_pairs_never_cross_documents() -> None:
    symbols = np.array([0, 1, 0, 0, 1, 0, 1, 1])
    document = np.array([0, 0, -1, 1, 1, 1, 1, -1])
    c = correlate(symbols, document, np.array([0, 3, 8]), 2, 1)
    assert c.pairs == 4  # 0 1 | 0 1, 1 0, 0 1
    assert c.sums[0].tolist() == [1, 3]


def test_composition_is_what_mixtures_alone_give() -> None:
    rng = np.random.default_rng(5)
    document = np.repeat(np.arange(200), 2000)
    chance = np.where(np.arange(200) % 2, 0.3, 0.7)
    symbols = (rng.random(len(document)) < chance[document]).astype(int)
    # Two kinds of documents, independent tokens within: covariance (+-0.2)^2 in each entry, norm 0.08, at every lag.
    edges = np.arange(0, 200 * 2000 + 1, 20 * 2000)
    assert composition(symbols, document, 2) == pytest.approx(0.08, rel=0.03)
    assert correlate(symbols, document, edges, 2, 300).operator == pytest.approx(0.08, rel=0.05)


def test_top_singular_of_large_and_small_matrices_agree() -> None:
    rng = np.random.default_rng(0)
    large = np.zeros((600, 600))
    large[:40, :40] = rng.standard_normal((40, 40))
    assert top_singular(large)[0] == pytest.approx(top_singular(large[:40, :40])[0])
    assert top_singular(np.zeros((3, 3)))[0] == 0


def test_measuring_again_gives_the_same_file(corpus: TokenizedCorpus, found: dict) -> None:
    assert json.dumps(measure_statistics(corpus)) == json.dumps(found)


def test_too_few_documents_are_refused(tmp_path: Path) -> None:
    few = prepare(Markov(order=1, symbols=4, n_documents=200, document_length=256), Byte(), cache=tmp_path)
    with pytest.raises(CorpusError, match=f"in {BLOCKS} blocks"):
        measure_statistics(few)


def test_commands_measure_foretell_and_register_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "cache"))
    source = "{type: markov, order: 1, symbols: 4, n_documents: 512, document_length: 256}"
    measured = call("corpus", "statistics", source, "--out", "statistics.json", "--json").json
    assert measured["file"] == "statistics.json"
    assert measured["entropies"][1]["corrected"] == pytest.approx(Markov(order=1, symbols=4).entropy_rate(), abs=0.01)
    said = call("corpus", "exponent", "statistics.json", "--out", "exponent.json", "--json").json
    assert said["status"] == "not_resolved"
    kept = json.loads(Path("exponent.json").read_text())
    assert kept["digest"] == measured["digest"] == said["digest"]
    assert kept["windows"] == said["windows"]
    again = call("corpus", "exponent", "statistics.json", "--out", "exponent.json")
    assert again.status == 2
    assert "not written over" in again.err
    shown = call("corpus", "exponent", "statistics.json")
    assert "not_resolved" in shown.out
