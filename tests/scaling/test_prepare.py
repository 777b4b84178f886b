import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from scaling.corpora import packages
from scaling.corpora.cache import SIDECAR
from scaling.corpora.local import Local
from scaling.corpora.markov import Markov
from scaling.corpora.prepare import TokenizedCorpus, prepare
from scaling.corpora.python_v1 import PythonV1
from scaling.errors import CorpusError
from scaling.paths import cache_folder
from scaling.tokenizers.bpe import Bpe
from scaling.tokenizers.byte import SEPARATOR, Byte


def words(n: int, seed: int) -> str:
    rng = np.random.default_rng(seed)
    return " ".join("".join(map(chr, rng.integers(97, 123, rng.integers(2, 9)))) for _ in range(n))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty documents of about 2.5 kB, of which one is a copy and one a near-copy of another."""
    place = tmp_path / "text"
    place.mkdir()
    for i in range(58):
        (place / f"{i:02}.txt").write_text(words(400, i))
    (place / "58.txt").write_text(words(400, 0))
    (place / "59.txt").write_text(words(400, 1).replace("e", "E", 3))
    return place


def documents(stream: np.ndarray) -> list[bytes]:
    return bytes(stream).split(bytes([SEPARATOR]))[:-1]


def test_parts_are_disjoint_by_document_and_hold_every_distinct_one(folder: Path, tmp_path: Path) -> None:
    found = prepare(Local(path=str(folder)), Byte(), cache=tmp_path / "cache")
    parts = {name: documents(getattr(found, name)) for name in ("train", "test", "dev")}
    together = [text for texts in parts.values() for text in texts]
    assert len(together) == len(set(together)) == 58
    assert set(together) == {words(400, i).encode() for i in range(58)}
    statistics = found.statistics
    assert statistics["exact_duplicates"] == statistics["near_duplicates"] == 1
    assert statistics["shingles_shared_test_train"] == 0.0
    for name, texts in parts.items():
        assert statistics["parts"][name]["documents"] == len(texts)
        assert statistics["parts"][name]["bytes"] == sum(map(len, texts))
        assert statistics["parts"][name]["tokens"] == sum(map(len, texts)) + len(texts)
    assert len(parts["test"]) == 9
    assert found.n_train == len(found.train)
    names = found.document_names("test")
    assert [Path(n).read_bytes() for n in names] == parts["test"]


def test_a_second_call_opens_the_cache_fast_and_reads_nothing(folder: Path, tmp_path: Path, monkeypatch) -> None:
    corpus = Local(path=str(folder))
    first = prepare(corpus, Byte(), cache=tmp_path / "cache")
    monkeypatch.setattr(Local, "documents", lambda self: pytest.fail("read again"))
    took = []
    for _ in range(5):
        start = time.perf_counter()
        again = prepare(corpus, Byte(), cache=tmp_path / "cache")
        took.append(time.perf_counter() - start)
    assert min(took) < 0.05
    assert again.digest == first.digest
    limited = prepare(Local(path=str(folder), unique_tokens=1_000), Byte(), cache=tmp_path / "cache")
    assert limited.digest == first.digest


def test_digest_names_the_content_not_the_place(folder: Path, tmp_path: Path) -> None:
    digest = prepare(Local(path=str(folder)), Byte(), cache=tmp_path / "one").digest
    moved = tmp_path / "moved"
    folder.rename(moved)
    assert prepare(Local(path=str(moved)), Byte(), cache=tmp_path / "two").digest == digest
    (moved / "07.txt").write_text(words(401, 7))
    assert prepare(Local(path=str(moved)), Byte(), cache=tmp_path / "two").digest != digest


def test_damage_is_noticed_and_mended(folder: Path, tmp_path: Path) -> None:
    corpus, cache = Local(path=str(folder)), tmp_path / "cache"
    first = prepare(corpus, Byte(), cache=cache)
    kept = np.array(first.train)
    sidecar = first.folder / SIDECAR

    def rebuilt() -> TokenizedCorpus:
        found = prepare(corpus, Byte(), cache=cache)
        found.verify()
        assert found.digest == first.digest
        np.testing.assert_array_equal(found.train, kept)
        return found

    sidecar.write_text(sidecar.read_text()[:-30])
    rebuilt()
    sidecar.write_text(sidecar.read_text().replace('"dtype": "uint8"', '"dtype": "uint9"'))
    rebuilt()
    os.truncate(first.folder / "train.tokens", 100)
    rebuilt()
    with (first.folder / "test.tokens").open("r+b") as file:
        file.write(b"?!")
    with pytest.raises(CorpusError, match=r"test\.tokens: content differs"):
        prepare(corpus, Byte(), cache=cache).verify()
    leftovers = [p.name for p in first.folder.parent.iterdir() if p.name.startswith((".staging", ".discarded"))]
    assert leftovers == []


def test_two_processes_at_once_agree(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from scaling.corpora.prepare import prepare; from scaling.corpora.local import Local;"
        "from scaling.tokenizers.byte import Byte; assert 'torch' not in sys.modules;"
        "c = prepare(Local(path=sys.argv[1]), Byte(), progress=lambda m: print('did', m)); c.verify(); print(c.digest)"
    )
    environment = os.environ | {"SCALING_CACHE": str(tmp_path / "cache")}
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(folder)], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=60)[0].splitlines() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len({lines[-1] for lines in outputs}) == 1
    assert sum(len(lines) > 1 for lines in outputs) == 1


def test_one_text_is_cut_into_blocks(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(words(60_000, 3))
    found = prepare(Local(path=str(file)), Byte(), cache=tmp_path / "cache")
    cut = found.statistics["blocks"]
    assert cut["bytes"] == 4096
    text = file.read_bytes()
    spans = {name: [(text.index(d), len(d)) for d in documents(getattr(found, name))] for name in ("train", "test")}
    for begin, size in spans["test"]:
        for other, other_size in spans["train"]:
            assert other + other_size < begin or begin + size < other
    assert sum(s["documents"] for s in found.statistics["parts"].values()) + cut["dropped_at_borders"] == cut["count"]
    held = found.heldout(129, 128)
    assert held.n_documents == len(spans["test"]) >= 2


def test_heldout_parts_are_what_they_say(folder: Path, tmp_path: Path) -> None:
    found = prepare(Local(path=str(folder)), Byte(), cache=tmp_path / "cache")
    full, nested, dev = (found.heldout(65, 64, part) for part in ("full", "nested", "dev"))
    np.testing.assert_array_equal(full.windows[: len(nested.windows)], nested.windows)
    for part, stream in ((full, found.test), (dev, found.dev)):
        texts = documents(stream)
        for window, document in zip(part.windows[::5], part.document[::5], strict=True):
            assert window.tobytes() in texts[document]
    with pytest.raises(ValueError, match="seq_len"):
        found.heldout(66, 64)


def test_bpe_is_learned_from_the_training_part_and_counts_bytes(folder: Path, tmp_path: Path) -> None:
    found = prepare(Local(path=str(folder)), Bpe(vocab_size=400), cache=tmp_path / "cache")
    assert found.train.dtype == np.uint16
    separators = int((found.train == found.vocabulary.separator_id).sum())
    assert separators == found.statistics["parts"]["train"]["documents"]
    for part in ("train", "test", "dev"):
        assert found.token_bytes[getattr(found, part)].sum() == found.statistics["parts"][part]["bytes"]
    encoder = Bpe(vocab_size=400).load(found.saved_tokenizer)
    assert encoder.vocabulary == found.vocabulary
    first = np.array(found.test[: np.flatnonzero(found.test == found.vocabulary.separator_id)[0]])
    np.testing.assert_array_equal(encoder.encode(Path(found.document_names("test")[0]).read_text()), first)
    byte = prepare(Local(path=str(folder)), Byte(), cache=tmp_path / "cache")
    train_texts = [d.decode() for d in documents(byte.train)]
    assert Bpe(vocab_size=400).learn(train_texts).save() == encoder.save()
    held = found.heldout(33, 32)
    np.testing.assert_array_equal(held.bytes_per_window, found.token_bytes[held.windows[:, 1:]].sum(axis=1))


def test_markov_documents_repeat_as_chance_has_it(tmp_path: Path) -> None:
    source = Markov(order=1, symbols=2, tail=3.0, n_documents=200, document_length=60)
    found = prepare(source, Byte(), cache=tmp_path / "cache")
    assert sum(part["documents"] for part in found.statistics["parts"].values()) == 200
    assert found.statistics["entropy_rate_nats"] == pytest.approx(source.entropy_rate())


def test_python_source_is_prepared_from_installed_packages(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(packages, "DISTRIBUTIONS", ("click", "jinja2", "rich", "typer"))
    found = prepare(PythonV1(), Byte(), cache=tmp_path / "cache")
    assert found.statistics["versions"].keys() == {"click", "jinja2", "rich", "typer"}
    assert found.n_train > 1_000_000
    assert found.statistics["shingles_shared_test_train"] < 0.2
    assert all(name.endswith(".py") for name in found.document_names("test"))


def test_what_cannot_be_prepared_says_why(tmp_path: Path) -> None:
    small = tmp_path / "a.txt"
    small.write_text("too short")
    with pytest.raises(CorpusError, match="9 bytes of distinct text"):
        prepare(Local(path=str(small)), Byte(), cache=tmp_path / "cache")
    lone = tmp_path / "a.jsonl"
    lone.write_text(json.dumps({"text": "\ud800"}))
    with pytest.raises(CorpusError, match=r"a\.jsonl:1: character 0 is half of a surrogate pair"):
        prepare(Local(path=str(lone)), Byte(), cache=tmp_path / "cache")
    (tmp_path / "file").write_text("")
    with pytest.raises(CorpusError, match="set SCALING_CACHE"):
        prepare(Local(path=str(lone)), Byte(), cache=tmp_path / "file")
    assert [p.name for p in (tmp_path / "cache" / "corpora").iterdir() if p.name.startswith(".staging")] == []


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SCALING_CACHE", raising=False)
    assert cache_folder() == tmp_path / "scaling-lab"
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"


@pytest.mark.skipif("SCALING_TEST_DATA" not in os.environ, reason="SCALING_TEST_DATA is not set")
def test_real_texts(tmp_path: Path) -> None:
    data = Path(os.environ["SCALING_TEST_DATA"]) / "text"
    plays = prepare(Local(path=str(data / "tinyshakespeare" / "input.txt")), Byte(), cache=tmp_path)
    assert plays.statistics["blocks"]["count"] > 250
    assert plays.n_train > 700_000
    assert plays.heldout(129, 128).n_documents >= 20
    novels = prepare(Local(path=str(data / "english_novels"), encoding="utf-8-sig"), Byte(), cache=tmp_path)
    assert novels.statistics["blocks"] is None
    assert len(novels.document_names("test")) == 8
    assert novels.statistics["shingles_shared_test_train"] < 0.001
    assert novels.heldout(129, 128).bytes_per_window.sum() == 1 << 20
