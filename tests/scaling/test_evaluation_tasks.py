"""Task files: each format read, each mistake named; and the public files where they are at hand."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from scaling.errors import InputError
from scaling.evaluations.tasks import read_labelled, read_minimal_pairs, read_scored_pairs

DATA = os.environ.get("SCALING_TEST_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="SCALING_TEST_DATA names no folder of public data")
GOOD = '{"sentence_good": "a b", "sentence_bad": "b a", "UID": "order", "linguistics_term": "syntax"}\n'


def test_minimal_pairs_from_a_file_a_folder_and_a_zip(tmp_path: Path) -> None:
    (tmp_path / "order.jsonl").write_text(GOOD * 3)
    with zipfile.ZipFile(tmp_path / "pairs.zip", "w") as archive:
        archive.writestr("data/order.jsonl", GOOD * 3)
    one, two, three = (read_minimal_pairs(str(tmp_path / name)) for name in ("order.jsonl", "", "pairs.zip"))
    assert one == two == three
    assert len(one[0]) == 3
    assert one[0][0] == ("a b", "b a", "order", "syntax")


def test_labelled_tables_in_both_orders_with_a_header_or_none(tmp_path: Path) -> None:
    for name, text in {
        "train.tsv": "sentence\tlabel\n" + "good \t1\nbad\t0\n" * 20,
        "dev.tsv": "1\tfine\n0\tpoor\n0\tawful\n",
        "test.tsv": "fine\t1\npoor\t0\n",
    }.items():
        (tmp_path / name).write_text(text)
    task = read_labelled(str(tmp_path))
    assert (task.name, len(task.train.texts), len(task.choose.texts)) == ("sst2", 40, 2)
    assert (task.test.texts, task.test.labels.tolist()) == (["fine", "poor", "awful"], [1, 0, 0])
    digest = task.digest
    smaller = read_labelled(str(tmp_path), "smaller")
    assert smaller.test.texts == ["fine", "poor"]
    assert (len(smaller.train.texts), len(smaller.choose.texts)) == (36, 4)
    (tmp_path / "test.tsv").unlink()
    fewer = read_labelled(str(tmp_path))
    assert (len(fewer.train.texts), len(fewer.choose.texts), len(fewer.test.texts)) == (36, 4, 3)
    assert fewer.digest != digest


def test_texts_without_a_split_get_one_that_keeps_the_classes_even(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "subjectivity.zip", "w") as archive:
        archive.writestr("subjectivity/plot.tok.gt9.5000", "\n".join(f"he goes {i}" for i in range(40)))
        archive.writestr("subjectivity/quote.tok.gt9.5000", "\n".join(f"i like {i}" for i in range(40)))
        archive.writestr("subjectivity/README.txt", "about")
    task = read_labelled(str(tmp_path))
    assert [len(p.texts) for p in (task.train, task.choose, task.test)] == [56, 8, 16]
    assert all(p.labels.mean() == 0.5 for p in (task.train, task.choose, task.test))
    assert all((label == 1) == text.startswith("i like") for text, label in zip(*task.test, strict=True))
    assert not set(task.train.texts) & set(task.test.texts)


def test_scored_pairs_of_either_table(tmp_path: Path) -> None:
    rows = [(5.0, "a", "a"), (2.5, 'b "', "c"), (0.0, "d", "e")]
    own = "".join(f"main\tMSR\t2012\t{i}\t{s:.3f}\t{a}\t{b}\tlicence\n" for i, (s, a, b) in enumerate(rows))
    glue = "index\tsentence1\tsentence2\tscore\n" + "".join(f"{i}\t{a}\t{b}\t{s}\n" for i, (s, a, b) in enumerate(rows))
    (tmp_path / "sts-test.csv").write_text(own)
    (tmp_path / "sts-train.csv").write_text(own * 2)
    (tmp_path / "glue.tsv").write_text(glue)
    for name in ("", "glue.tsv"):
        found = read_scored_pairs(str(tmp_path / name))
        assert list(zip(found.score.tolist(), found.first, found.second, strict=True)) == rows


@pytest.mark.parametrize(
    ("files", "reader", "message"),
    [
        ({}, read_labelled, "of no known form"),
        ({"train.tsv": "good\t1\n"}, read_labelled, "at least one of dev.tsv"),
        ({"train.tsv": "good\t1\nbad\t3\n", "dev.tsv": "x\t1\n"}, read_labelled, "train.tsv:2: not a sentence"),
        ({"train.tsv": "good\t1\nfine\t1\n" * 9, "dev.tsv": "x\t1\ny\t0\n"}, read_labelled, "one class only"),
        ({"a.jsonl": GOOD + "{}"}, read_minimal_pairs, "a.jsonl:2: no minimal pair"),
        ({"a.txt": "x"}, read_minimal_pairs, "no .jsonl file"),
        ({"sts-test.csv": "a\tb\n"}, read_scored_pairs, "sts-test.csv:1: no score"),
        ({"a.txt": "x"}, read_scored_pairs, "no single table"),
    ],
)
def test_wrong_data_is_one_clear_error(tmp_path: Path, files: dict[str, str], reader: object, message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        reader(str(tmp_path))  # type: ignore[operator]
    with pytest.raises(InputError, match="no such file or folder; give the task's data with --set path="):
        reader(str(tmp_path / "nowhere"))  # type: ignore[operator]


@needs_data
def test_the_public_files_have_their_known_sizes() -> None:
    assert DATA is not None
    tasks = Path(DATA) / "tasks"
    sst2 = read_labelled(str(tasks / "sst2"))
    assert [len(p.texts) for p in (sst2.train, sst2.choose, sst2.test)] == [60614, 872, 6735]
    subjectivity = read_labelled(str(tasks / "nltk_subjectivity"))
    assert [len(p.texts) for p in (subjectivity.train, subjectivity.choose, subjectivity.test)] == [7000, 1000, 2000]
    reviews = read_labelled(str(tasks / "nltk_movie_reviews" / "movie_reviews.zip"))
    assert [len(p.texts) for p in (reviews.train, reviews.choose, reviews.test)] == [1400, 200, 400]
    assert reviews.test.labels.mean() == 0.5
    sts = read_scored_pairs(str(tasks / "stsb"))
    assert (len(sts.first), float(sts.score.min()), float(sts.score.max())) == (1379, 0.0, 5.0)
    pairs, _ = read_minimal_pairs(str(tasks / "blimp"))
    assert len(pairs) == 67_000
    assert len({p.paradigm for p in pairs}) == 67
    assert len({p.phenomenon for p in pairs}) == 13
