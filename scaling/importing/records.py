"""Tables of other people's runs as records of text, each value typed by the column it goes to; never a guess."""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.errors import TableError
from scaling.store.schema import Column

MAX_BYTES = 1 << 30

Names = Mapping[str, tuple[str, ...]]
"""Our names to those that a column commonly has, the plainest first; a prefix such as `config.` does not count."""

PREFIXES = ("config.", "config/", "summary.", "summary/", "summary_metrics.")


@dataclass(frozen=True)
class Record:
    """One record of a table as text: where it is, and its fields by name."""

    where: str
    fields: Mapping[str, str]


def read_records(path: Path) -> list[Record]:
    """The records of a CSV or JSONL file, every value as text.

    Raises:
        TableError: no such file, too large, not UTF-8, or not what its name says (with the line).
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TableError(f"{path}: is larger than {MAX_BYTES >> 20} MB; split it")
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise TableError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise TableError(f"{path}: is a folder, not a table") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror}") from None
    if path.suffix in (".jsonl", ".ndjson"):
        return list(_json_records(text, path))
    if path.suffix in (".csv", ".tsv", ".txt"):
        return list(_csv_records(text, path))
    raise TableError(f"{path}: is neither .csv nor .jsonl; W&B exports CSV, and `scaling export` writes it")


def _csv_records(text: str, path: Path) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(text), delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        twice = [n for n in header if header.count(n) > 1]
        if twice:
            raise TableError(f"{path}: line 1: column {twice[0]!r} is there twice; rename one")
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise TableError(f"{path}: line {reader.line_num}: {len(cells)} fields where line 1 has {len(header)}")
            yield Record(f"line {reader.line_num}", dict(zip(header, (c.strip() for c in cells), strict=True)))
    except csv.Error as error:
        raise TableError(f"{path}: line {reader.line_num}: is not CSV: {error}") from None


def _json_records(text: str, path: Path) -> Iterator[Record]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
        except (ValueError, RecursionError) as error:
            raise TableError(f"{path}: line {number}: is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise TableError(f"{path}: line {number}: is no JSON object; write one run a line")
        yield Record(f"line {number}", dict(_flat(value, "", f"{path}: line {number}")))


def _flat(value: Mapping[str, Any], prefix: str, where: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    if depth > 20:
        raise TableError(f"{where}: is nested too deeply")
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{key}.", where, depth + 1)
        elif isinstance(item, str) or item is None:  # Numbers came as the text they were written as.
            yield f"{prefix}{key}", item or ""
        else:
            yield f"{prefix}{key}", json.dumps(item)


def typed(text: str, column: Column, where: str, name: str) -> Any:
    """A text as the column's type: text as it is, numbers read, an empty field as null; `name` is the table's own.

    Raises:
        TableError: the text is no value of that type.
    """
    kind = str(column.type)
    if kind == "string":
        return text
    if text.strip().lower() in ("", "nan", "null", "none", "na"):
        return None
    try:
        if kind == "int64":
            whole = int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
            if whole != int(whole) or abs(whole) >= 2**63:
                raise ValueError
            return int(whole)
        return float(text)
    except (ValueError, OverflowError):
        wanted = "a whole number" if kind == "int64" else "a number"
        raise TableError(f"{where}: {name} is {text[:60]!r}, not {wanted}") from None


def columns_of(
    record: Record,
    given: Mapping[str, str] | None,
    path: Path,
    *,
    names: Names,
    columns: Sequence[Column],
    needed: Sequence[str],
    option: str = "--columns",
) -> dict[str, str]:
    """Our names to the table's: as given, then by the usual names, then by our own.

    Raises:
        TableError: a name is no column of ours or of theirs, or one that is needed is not there.
    """
    have = list(record.fields)
    known = {c.name for c in columns} | set(names)
    found: dict[str, str] = {}
    for ours, theirs in (given or {}).items():
        if ours not in known:
            raise TableError(f"{option}: {ours!r} is no column of ours{_near(ours, known)}")
        if theirs not in have:
            raise TableError(f"{path}: no column {theirs!r}{_near(theirs, have)}; it has {', '.join(have[:20])}")
        found[ours] = theirs
    plain = {plain_name(name): name for name in reversed(have)}
    for ours in (*names, *(c.name for c in columns)):
        free = [plain[n] for n in names.get(ours, (ours,)) if n in plain and plain[n] not in found.values()]
        if ours not in found and free:
            found[ours] = free[0]
    for ours in needed:
        if ours not in found:
            mend = f"name it: {option} {ours}=THEIR_NAME"
            raise TableError(f"{path}: no column for {ours}; it has {', '.join(have[:20])}; {mend}")
    return found


def plain_name(name: str) -> str:
    """A column's name without case, spaces and the prefixes of W&B."""
    lowered = name.strip().lower()
    for prefix in PREFIXES:
        lowered = lowered.removeprefix(prefix)
    return lowered.replace(" ", "_")


def _near(word: str, names: Any) -> str:
    near = difflib.get_close_matches(word, [str(n) for n in names], 1)
    return f" (did you mean {near[0]}?)" if near else ""
