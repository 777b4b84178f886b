import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from scaling.corpora import CorpusSpec
from scaling.corpora.local import Local
from scaling.errors import CorpusError


def texts(path: Path, **more: str) -> list[str]:
    return [d.text for d in Local(path=str(path), **more).documents()]


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffnaïve\r\ntext".encode())
    assert texts(file) == ["naïve\r\ntext"]
    file.write_bytes("naïve".encode("latin-1"))
    assert texts(file, encoding="latin-1") == ["naïve"]


def test_lines_and_rows_are_documents(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "a.jsonl").write_text(json.dumps({"body": "one\u2028two"}) + "\n\n" + json.dumps({"body": "three"}))
    pq.write_table(pa.table({"body": ["four", None, "five"], "n": [1, 2, 3]}), tmp_path / "b.parquet")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.txt").write_text("six")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "d.txt").write_text("seven")
    assert texts(tmp_path, field="body") == ["one\u2028two", "three", "four", "five", "six"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"good \xff bad", r"a\.txt: byte 5 is not utf-8 text"),
        ("a.jsonl", b'{"text": "x"}\n\xc3(', r"a\.jsonl: byte 14 is not utf-8 text"),
        ("a.txt", b" \n", r"a\.txt: holds no text"),
        ("a.jsonl", b'{"text": "x"}\n{', r"a\.jsonl:2: not a JSON value"),
        ("a.jsonl", b'{"body": "x"}', r"a\.jsonl:1: no field 'text' \(has: body\)"),
        ("a.jsonl", b'{"text": 3}', r"a\.jsonl:1: field 'text' is no text"),
        ("a.jsonl", b"[1]", r"a\.jsonl:1: no field 'text'"),
        ("a.parquet", b"PAR1 no", r"a\.parquet: not a readable parquet file"),
        ("a.pdf", b"%PDF", r"cannot read \.pdf"),
    ],
)
def test_bad_files_are_named_with_the_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        texts(tmp_path / name)


def test_bad_parquet_columns_are_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"no column 'text' \(has: n\)"):
        texts(tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match="column 'n' holds int64, not text"):
        texts(tmp_path / "a.parquet", field="n")


def test_a_missing_path_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such file or folder"):
        Local(path=str(tmp_path / "none")).fingerprint()
    with pytest.raises(CorpusError, match=r"no \.txt, \.jsonl, \.parquet file"):
        Local(path=str(tmp_path)).fingerprint()


def test_the_fingerprint_follows_files_and_reading(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one")
    before = Local(path=str(file)).fingerprint()
    assert Local(path=str(file), encoding="latin-1").fingerprint() != before
    file.write_text("three")
    assert Local(path=str(file)).fingerprint() != before


def test_members_are_read_by_tag() -> None:
    adapter = TypeAdapter(CorpusSpec)
    assert adapter.validate_python("python-v1").type == "python-v1"
    assert adapter.validate_python({"type": "local", "path": "x", "unique_tokens": 1e6}).unique_tokens == 1_000_000
    assert adapter.validate_python({"type": "markov", "tail": 1}).tail == 1.0
    with pytest.raises(ValidationError, match="encoding 'utf-99' is unknown"):
        adapter.validate_python({"type": "local", "path": "x", "encoding": "utf-99"})
