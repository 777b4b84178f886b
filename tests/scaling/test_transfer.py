import zipfile
from pathlib import Path

import numpy as np
import pytest

from scaling.corpora import cache as store
from scaling.corpora.markov import Markov
from scaling.corpora.prepare import TokenizedCorpus, prepare
from scaling.corpora.transfer import export_corpus, import_corpus
from scaling.errors import CorpusError
from scaling.tokenizers.byte import Byte

SOURCE = Markov(n_documents=50, document_length=400)


@pytest.fixture
def exported(tmp_path: Path) -> tuple[TokenizedCorpus, Path]:
    found = prepare(SOURCE, Byte(), cache=tmp_path / "here")
    export_corpus(found, tmp_path / "corpus.zip")
    return found, tmp_path / "corpus.zip"


def test_another_machine_prepares_it_without_the_text(exported, tmp_path: Path, monkeypatch) -> None:
    original, file = exported
    there = tmp_path / "there"
    import_corpus(file, cache=there)
    monkeypatch.setattr(Markov, "documents", lambda self: pytest.fail("read the text"))
    monkeypatch.setattr(Markov, "fingerprint", lambda self: pytest.fail("looked for the text"))
    found = prepare(SOURCE.model_copy(update={"unique_tokens": 5}), Byte(), cache=there)
    assert found.imported
    assert not original.imported
    assert found.digest == original.digest
    np.testing.assert_array_equal(found.train, original.train)
    np.testing.assert_array_equal(found.heldout(33, 32).windows, original.heldout(33, 32).windows)
    found.verify()


def test_importing_twice_is_harmless_and_exports_are_reproducible(exported, tmp_path: Path) -> None:
    original, file = exported
    for _ in range(2):
        again = import_corpus(file, cache=tmp_path / "there")
    export_corpus(again, tmp_path / "again.zip")
    with zipfile.ZipFile(file) as one, zipfile.ZipFile(tmp_path / "again.zip") as two:
        assert one.namelist() == two.namelist()
        assert all(one.read(n) == two.read(n) for n in one.namelist() if n != store.SIDECAR)
    export_corpus(original, tmp_path / "same.zip")
    assert (tmp_path / "same.zip").read_bytes() == file.read_bytes()
    assert len([p for p in (tmp_path / "there" / "imported").iterdir() if p.is_dir()]) == 1


def rewritten(file: Path, change) -> Path:
    """The archive with `change(entries)` applied to its {name: content}."""
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    out = file.with_name("changed.zip")
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out


def reseal(**changes):
    def change(entries: dict[str, bytes]) -> None:
        sidecar = store.parse_sidecar(entries[store.SIDECAR])
        assert sidecar is not None
        entries[store.SIDECAR] = store.seal({**sidecar, **changes}).encode()

    return change


def longer(entries: dict[str, bytes]) -> None:
    entries["train.tokens"] += b"x"


def flipped(entries: dict[str, bytes]) -> None:
    entries["train.tokens"] = b"?" + entries["train.tokens"][1:]


def without_names(entries: dict[str, bytes]) -> None:
    del entries["names.json"]


def escaping(entries: dict[str, bytes]) -> None:
    entries["../escaped"] = b"x"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (longer, "train.tokens is damaged"),
        (flipped, "train.tokens is damaged"),
        (without_names, "lacks names.json"),
        (reseal(digest="0" * 16), "digest 0000000000000000 does not name this content"),
        (reseal(files={"../../x": {"bytes": 1, "sha256": ""}}), "sidecar damaged"),
        (reseal(dtype="uint16"), "does not hold the recorded number of tokens"),
        (reseal(spec={"corpus": {"type": "../x"}, "tokenizer": {"type": "byte"}}), "no names of a corpus"),
        (lambda entries: entries.update({store.SIDECAR: b"{}"}), "sidecar damaged or of another version"),
        (lambda entries: entries.pop(store.SIDECAR), "holds no corpus.json"),
    ],
)
def test_damaged_or_hostile_archives_leave_nothing_behind(exported, tmp_path: Path, change, message: str) -> None:
    bad = rewritten(exported[1], change)
    with pytest.raises(CorpusError, match=message):
        import_corpus(bad, cache=tmp_path / "there")
    assert [p for p in (tmp_path / "there").rglob("*") if p.is_file()] == []


def test_other_entries_are_not_unpacked(exported, tmp_path: Path) -> None:
    found = import_corpus(rewritten(exported[1], escaping), cache=tmp_path / "there")
    assert not list(tmp_path.rglob("escaped"))
    assert {p.name for p in found.folder.iterdir()} == {store.SIDECAR, *found._sidecar["files"]}


def test_what_is_no_archive_is_refused_and_damage_after_import_is_told(exported, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("no zip")
    with pytest.raises(CorpusError, match="cannot be read as an exported corpus"):
        import_corpus(tmp_path / "a.zip", cache=tmp_path / "there")
    found = import_corpus(exported[1], cache=tmp_path / "there")
    (found.folder / "dev.tokens").unlink()
    with pytest.raises(CorpusError, match="is damaged; delete the folder and import it again"):
        prepare(SOURCE, Byte(), cache=tmp_path / "there")
