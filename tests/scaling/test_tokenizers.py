import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from scaling.tokenizers import TokenizerSpec
from scaling.tokenizers.bpe import Bpe
from scaling.tokenizers.byte import MASK, SEPARATOR, Byte

TEXTS = [
    "def f(x):\n    return x + 1\n" * 20,
    "naïve café — “quotes” 中文 🙂\n" * 5,
    "the cat sat on the mat <|separator|> \x00\x7f",
]


def test_bytes_are_utf8_and_never_special() -> None:
    encoder = Byte().learn([])
    for text in TEXTS:
        ids = encoder.encode(text)
        assert ids.tobytes().decode() == text
        assert not np.isin(ids, [SEPARATOR, MASK]).any()
    assert encoder.token_bytes()[ids].sum() == len(TEXTS[-1].encode())
    assert encoder.token_bytes()[[SEPARATOR, MASK]].tolist() == [0, 0]


@pytest.fixture(scope="module")
def encoder():
    return Bpe(vocab_size=300).learn(TEXTS)


def test_bpe_counts_every_byte_once(encoder) -> None:
    sizes = encoder.token_bytes()
    for text in [*TEXTS, "unseen ☃ words\t\r\n"]:
        assert sizes[encoder.encode(text)].sum() == len(text.encode())
    assert sizes[: encoder.vocabulary.n_ordinary].min() == 1
    assert sizes[encoder.vocabulary.n_ordinary :].tolist() == [0, 0]


def test_bpe_is_lossless_and_shorter_than_bytes(encoder) -> None:
    for text in TEXTS:
        assert encoder._learned.decode(encoder.encode(text).tolist()) == text
    assert len(encoder.encode(TEXTS[0])) < len(TEXTS[0]) / 2


def test_bpe_has_the_size_asked_for_and_text_never_gives_special_ids(encoder) -> None:
    assert encoder.vocabulary[:4] == (300, 298, 298, 299)
    assert max(encoder.encode(t).max() for t in TEXTS) < 298


def test_learning_is_reproducible_and_survives_saving(encoder) -> None:
    again = Bpe(vocab_size=300).learn(TEXTS)
    assert again.save() == encoder.save()
    loaded = Bpe(vocab_size=300).load(encoder.save())
    assert loaded.vocabulary == encoder.vocabulary
    np.testing.assert_array_equal(loaded.token_bytes(), encoder.token_bytes())
    for one, two in zip(loaded.encode_many(TEXTS), encoder.encode_many(TEXTS), strict=True):
        np.testing.assert_array_equal(one, two)


def test_learning_stops_reading_at_its_limit() -> None:
    read = []

    def documents():
        for text in TEXTS * 50:
            read.append(text)
            yield text

    Bpe(vocab_size=280, learn_bytes=2_000).learn(documents())
    assert 2_000 <= sum(len(t.encode()) for t in read) < 4_000


def test_a_text_with_too_few_pairs_gives_a_smaller_vocabulary() -> None:
    assert Bpe(vocab_size=4096).learn(["abc"]).vocabulary.size < 270


def test_tags_and_limits() -> None:
    adapter = TypeAdapter(TokenizerSpec)
    assert adapter.validate_python("byte") == Byte()
    assert adapter.validate_python({"type": "bpe", "vocab_size": 2048}).vocab_size == 2048
    with pytest.raises(ValidationError, match="258"):
        adapter.validate_python({"type": "bpe", "vocab_size": 257})
