"""Task data from files that the user names: sentences with labels, scored pairs, minimal pairs; formats are detected.

Nothing is downloaded. A part of a task is known by the sha256 of what was read, so that measurements made from copies
of one file in two places are the same.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from scaling.errors import InputError

Part = Literal["larger", "smaller"]

SPLIT_SEED = 20_131_018


class Labelled(NamedTuple):
    """Texts with a class each, 0 or 1."""

    texts: list[str]
    labels: np.ndarray


class LabelledTask(NamedTuple):
    """A classification task: what is fitted, what chooses the penalty, what is scored; the digest names the data."""

    name: str
    train: Labelled
    choose: Labelled
    test: Labelled
    digest: str


class ScoredPairs(NamedTuple):
    """Pairs of sentences with a graded similarity, (n,) from 0 to 5."""

    first: list[str]
    second: list[str]
    score: np.ndarray
    digest: str


class MinimalPair(NamedTuple):
    """A grammatical and an ungrammatical sentence, with the paradigm and the phenomenon they are of."""

    good: str
    bad: str
    paradigm: str
    phenomenon: str


def read_files(path: str) -> dict[str, bytes]:
    """The files of a folder (not of those in it), of a zip archive, or the one file, by name in order.

    A folder with one archive and no table is that archive.

    Raises:
        InputError: nothing is there, or it cannot be read.
    """
    place = Path(path).expanduser()
    try:
        if place.is_dir():
            archives = sorted(place.glob("*.zip"))
            if len(archives) == 1 and not any(p.suffix in (".tsv", ".csv", ".jsonl") for p in place.iterdir()):
                return read_files(str(archives[0]))
            return {p.name: p.read_bytes() for p in sorted(place.iterdir()) if p.is_file()}
        if zipfile.is_zipfile(place):
            with zipfile.ZipFile(place) as archive:
                names = sorted(n for n in archive.namelist() if not n.endswith("/") and "__MACOSX" not in n)
                return {name: archive.read(name) for name in names}
        return {place.name: place.read_bytes()}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder; give the task's data with --set path=…") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def digest_of(files: dict[str, bytes]) -> str:
    """16 hex digits that name the content, wherever it lies."""
    sha = hashlib.sha256()
    for name in sorted(files):
        sha.update(f"{Path(name).name}\0{len(files[name])}\0".encode())
        sha.update(files[name])
    return sha.hexdigest()[:16]


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")  # The movie reviews hold a few such bytes.


def read_minimal_pairs(path: str) -> tuple[list[MinimalPair], str]:
    """Minimal pairs of BLiMP's form (Warstadt et al. 2020, arXiv 1912.00582), from its zip, a folder, or one .jsonl.

    Raises:
        InputError: missing, or a line that is no such pair (named).
    """
    files = {name: data for name, data in read_files(path).items() if name.endswith(".jsonl")}
    if not files:
        raise InputError(f"{path}: holds no .jsonl file; give BLiMP's zip or its data folder")
    found = []
    for name, data in files.items():
        for number, line in enumerate(_text(name, data).splitlines(), 1):
            try:
                item = json.loads(line)
                good, bad = str(item["sentence_good"]), str(item["sentence_bad"])
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path}: {name}:{number}: no minimal pair with sentence_good, sentence_bad"
                ) from error
            paradigm = str(item.get("UID", Path(name).stem))
            found.append(MinimalPair(good, bad, paradigm, str(item.get("linguistics_term", paradigm))))
    return found, digest_of(files)


def _labelled_rows(path: str, name: str, text: str) -> Labelled:
    """Rows `sentence<TAB>label` or `label<TAB>sentence`, with a header line or none."""
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    at = {"0": 0, "1": 1}
    if "label" in header and "sentence" in header:
        label, sentence = header.index("label"), header.index("sentence")
        rows, first = rows[1:], 2
    else:
        first = 1
        label = 0 if rows and rows[0][0].strip() in at else 1
        sentence = 1 - label
    texts, labels = [], []
    for number, row in enumerate(rows, first):
        if len(row) <= max(label, sentence) or row[label].strip() not in at:
            raise InputError(f"{path}: {name}:{number}: not a sentence and a label 0 or 1 with a tab between")
        texts.append(row[sentence].strip())
        labels.append(at[row[label].strip()])
    return Labelled(texts, np.array(labels, np.int64))


def _tables(path: str, files: dict[str, bytes], part: Part) -> tuple[Labelled, Labelled, Labelled]:
    """What is fitted, what chooses and what is scored, of SST-2's folder of .tsv files; see `read_labelled`."""
    parts = {
        Path(name).stem: _labelled_rows(path, name, _text(name, data))
        for name, data in files.items()
        if name.endswith(".tsv")
    }
    if "train" not in parts or len(parts) < 2:
        raise InputError(f"{path}: needs train.tsv and at least one of dev.tsv and test.tsv with labels")
    train = parts.pop("train")
    rest = sorted(parts.values(), key=lambda p: len(p.texts))
    if len(rest) == 1 or part == "smaller":
        train, choose = _split(train, 10)
        return train, choose, rest[0]
    return train, rest[0], rest[-1]


def _split(data: Labelled, every: int) -> tuple[Labelled, Labelled]:
    """All but one in `every` items, chosen once and for all, and those."""
    aside = np.random.default_rng(SPLIT_SEED).permutation(len(data.texts)) % every == 0
    return _part(data, ~aside), _part(data, aside)


def _part(data: Labelled, mask: np.ndarray) -> Labelled:
    return Labelled([data.texts[i] for i in np.flatnonzero(mask)], data.labels[mask])


def _two_classes(classes: list[list[str]]) -> tuple[Labelled, Labelled, Labelled]:
    """Seven, one and two tenths of texts that come without a split, by their place, alternating the classes."""
    turns = [(turn, label) for label, texts in enumerate(classes) for turn in range(len(texts))]
    turns.sort()
    data = Labelled([classes[label][turn] for turn, label in turns], np.array([label for _, label in turns]))
    tenth = np.array([turn % 10 for turn, _ in turns])
    return _part(data, tenth < 7), _part(data, tenth == 7), _part(data, tenth > 7)


def read_labelled(path: str, part: Part = "larger") -> LabelledTask:
    """A classification task: SST-2 (.tsv in a folder or zip), or NLTK's subjectivity.zip or movie_reviews.zip.

    Of SST-2's two labelled parts beside train.tsv the larger is scored and the smaller chooses, or the `smaller` is
    scored and a tenth of the training part chooses.

    Raises:
        InputError: missing, of no known form, or of one class only.
    """
    files = read_files(path)
    bases = {name: data for name, data in files.items() if not name.endswith((".xml", "README", "README.txt"))}
    if any(name.endswith(".tsv") for name in bases):
        bases = {name: data for name, data in bases.items() if name.endswith(".tsv")}
        name, parts = "sst2", _tables(path, bases, part)
    elif any(Path(name).name.startswith("quote.") for name in bases):
        lines = {Path(name).name.split(".")[0]: _text(name, data).splitlines() for name, data in bases.items()}
        if "plot" not in lines:
            raise InputError(f"{path}: holds quote.… but no plot.…; give NLTK's subjectivity.zip whole")
        name, parts = "subjectivity", _two_classes([lines["plot"], lines["quote"]])
    elif any("/neg/" in f"/{name}" for name in bases):
        sides = [[_text(n, d) for n, d in bases.items() if f"/{side}/" in f"/{n}"] for side in ("neg", "pos")]
        name, parts = "movie_reviews", _two_classes(sides)
    else:
        raise InputError(
            f"{path}: of no known form; give SST-2 (a folder with train.tsv, dev.tsv, test.tsv), NLTK's"
            " subjectivity.zip or movie_reviews.zip"
        )
    if any(len(np.unique(part.labels)) < 2 for part in parts):
        raise InputError(f"{path}: a part holds one class only; a task needs both")
    return LabelledTask(name, *parts, digest_of(bases))


def read_scored_pairs(path: str) -> ScoredPairs:
    """STS-B's test part (Cer et al. 2017, arXiv 1708.00055): sts-test.csv itself, or the folder that holds it.

    Raises:
        InputError: missing, or a line without a score and two sentences (named).
    """
    files = {n: d for n, d in read_files(path).items() if n.endswith((".csv", ".tsv"))}
    if len(files) > 1:
        files = {n: d for n, d in files.items() if "test" in Path(n).stem}
    if len(files) != 1:
        raise InputError(f"{path}: holds no single table; give sts-test.csv, or the folder of STS-B")
    ((name, data),) = files.items()
    rows = list(_sts_rows(path, name, _text(name, data)))
    if len(rows) < 3:
        raise InputError(f"{path}: {len(rows)} scored pairs; a rank correlation needs three")
    return ScoredPairs(
        [r[1] for r in rows], [r[2] for r in rows], np.array([r[0] for r in rows], np.float64), digest_of(files)
    )


def _sts_rows(path: str, name: str, text: str) -> Iterator[tuple[float, str, str]]:
    """Score and sentences: columns 5 to 7 of STS-B's own tables, or those that a header names (GLUE)."""
    rows = csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    columns = (4, 5, 6)
    for number, row in enumerate(rows, 1):
        if number == 1 and "sentence1" in row:
            try:
                columns = (row.index("score"), row.index("sentence1"), row.index("sentence2"))
            except ValueError:
                raise InputError(f"{path}: {name} has no column score and sentence2; give the labelled part") from None
            continue
        try:
            score, first, second = (row[c] for c in columns)
            yield float(score), first, second
        except (ValueError, IndexError):
            raise InputError(f"{path}: {name}:{number}: no score and two sentences with tabs between") from None
