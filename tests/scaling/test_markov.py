from itertools import product

import numpy as np
import pytest
from pydantic import ValidationError

from scaling.corpora.markov import ALPHABET, Markov


def text_of(source: Markov) -> np.ndarray:
    rows = [np.frombuffer(d.text.encode(), np.uint8) for d in source.documents()]
    return np.stack(rows)


def indices(text: np.ndarray) -> np.ndarray:
    lookup = np.zeros(256, np.int64)
    lookup[np.frombuffer(ALPHABET.encode(), np.uint8)] = np.arange(len(ALPHABET))
    return lookup[text]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_stationary_law_is_stationary_and_rows_are_distributions(order: int) -> None:
    source = Markov(order=order, symbols=5)
    chain = source.chain()
    np.testing.assert_array_equal(chain.table.sum(axis=1), 1.0)
    assert (chain.table > 0).all()
    full = np.zeros((5**order, 5**order))
    for context, symbol in product(range(5**order), range(5)):
        full[context, (context * 5 + symbol) % 5**order] = chain.table[context, symbol]
    np.testing.assert_allclose(chain.stationary @ full, chain.stationary, atol=1e-14)


def test_without_sharpness_symbols_are_independent_and_the_rate_is_zipfs_entropy() -> None:
    source = Markov(order=2, symbols=8, tail=1.0, sharpness=0.0)
    p = 1 / np.arange(1, 9)
    p /= p.sum()
    assert source.entropy_rate() == pytest.approx(-(p * np.log(p)).sum(), abs=1e-8)
    uniform = Markov(order=1, symbols=16, tail=0.0, sharpness=0.0)
    assert uniform.entropy_rate() == pytest.approx(np.log(16), abs=1e-8)


def test_surprisal_is_the_exact_conditional_of_the_joint_law() -> None:
    source = Markov(order=3, symbols=3, sharpness=2.0)
    chain = source.chain()
    length = 5
    joint = {}
    for block in product(range(3), repeat=length):
        p = chain.stationary[block[0] * 9 + block[1] * 3 + block[2]]
        for t in range(3, length):
            p = p * chain.table[block[t - 3] * 9 + block[t - 2] * 3 + block[t - 1], block[t]]
        joint[block] = p
    marginal = lambda prefix: sum(p for b, p in joint.items() if b[: len(prefix)] == prefix)
    for block in list(joint)[::17]:
        window = np.frombuffer("".join(ALPHABET[s] for s in block).encode(), np.uint8)[None]
        expected = [-np.log(marginal(block[: t + 1]) / marginal(block[:t])) for t in range(1, length)]
        np.testing.assert_allclose(source.surprisal(window)[0], expected, rtol=1e-9)


def test_text_has_the_entropy_rate_of_its_source() -> None:
    source = Markov(order=2, symbols=8, n_documents=400, document_length=600)
    late = source.surprisal(text_of(source))[:, source.order :]
    per_document = late.mean(axis=1)
    error = per_document.std(ddof=1) / np.sqrt(len(per_document))
    assert error < 0.005
    assert abs(per_document.mean() - source.entropy_rate()) < 4 * error


def test_documents_start_in_the_stationary_law() -> None:
    source = Markov(order=2, symbols=4, n_documents=20_000, document_length=4)
    blocks = indices(text_of(source)[:, :2]) @ [4, 1]
    expected = source.chain().stationary * 20_000
    chi2 = ((np.bincount(blocks, minlength=16) - expected) ** 2 / expected).sum()
    assert chi2 < 15 + 5 * np.sqrt(30)


def test_no_other_model_beats_the_truth_on_its_own_text() -> None:
    source = Markov(order=2, symbols=6, n_documents=600, document_length=500)
    x = indices(text_of(source))
    truth = source.surprisal(text_of(source))[:, 1:].mean(axis=1)
    counts = np.full((36, 6), 0.5)
    np.add.at(counts, (x[:300, :-2].ravel() * 6 + x[:300, 1:-1].ravel(), x[:300, 2:].ravel()), 1)
    table = counts / counts.sum(axis=1, keepdims=True)
    learned = -np.log(table[x[300:, :-2] * 6 + x[300:, 1:-1], x[300:, 2:]]).mean(axis=1)
    gap = learned - truth[300:]
    assert gap.mean() > -3 * gap.std(ddof=1) / np.sqrt(len(gap))
    assert gap.mean() < 0.002


def test_the_source_is_a_pure_function_of_its_fields() -> None:
    a, b = Markov(n_documents=3, document_length=50), Markov(n_documents=3, document_length=50)
    assert [d.text for d in a.documents()] == [d.text for d in b.documents()]
    assert a.fingerprint() == b.model_copy(update={"unique_tokens": 7}).fingerprint()
    assert a.fingerprint() != Markov(n_documents=3, document_length=50, seed=1).fingerprint()
    longer = [d.text for d in Markov(n_documents=3, document_length=50, seed=1).documents()]
    assert longer != [d.text for d in a.documents()]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValidationError, match="over 4194304"):
        Markov(order=8, symbols=16)
    with pytest.raises(ValidationError, match="not longer than order"):
        Markov(order=2, document_length=2)
    with pytest.raises(ValueError, match="cannot emit"):
        Markov(symbols=4).surprisal(np.frombuffer(b"abz", np.uint8)[None])
