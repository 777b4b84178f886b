"""What commands print: JSON alone on stdout, or tables for people, plain where stdout is no terminal."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from scaling.errors import InputError
from scaling.units import duration as duration


def print_json(value: Any) -> None:
    """Prints one JSON value; NaN and infinities become null."""
    print(json.dumps(_plain(value), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (str, int, bool)) or value is None:
        return value
    return str(value)


def note(text: str) -> None:
    """Says something beside the result, on stderr; in a terminal lines break between words."""
    if sys.stderr.isatty():
        text = textwrap.fill(text, shutil.get_terminal_size().columns, subsequent_indent="  ", break_on_hyphens=False)
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Whatever is written to stdout inside, by this process or its children, goes to stderr."""
    sys.stdout.flush()
    try:
        saved = os.dup(1)
    except OSError:  # stdout is closed
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def command_line(path: str, arguments: Sequence[str]) -> str:
    """A command as one would type it."""
    return shlex.join([*path.split(), *arguments])


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: 71,424 · 0.513 · 1.2e13; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e7:
        return f"{int(value):,}"
    if 1e3 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return re.sub(r"e([+-])0*(\d+)", lambda m: f"e{'-' if m[1] == '-' else ''}{m[2]}", f"{value:.{digits}g}")


def interval(ci: Sequence[float], digits: int = 3) -> str:
    """`[lo, hi]`, empty where it is not known."""
    return f"[{number(ci[0], digits)}, {number(ci[1], digits)}]" if all(map(math.isfinite, ci)) else ""


def per_cent(share: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """`0.0123` as 1.23 %; a dash where there is none."""
    if share is None or not math.isfinite(share):
        return "–"
    return f"{100 * share:{'+' if signed else ''}.{digits}f} %"


def seconds_of(text: str, option: str) -> float:
    """Seconds of a duration such as 90s, 9m, 1h30m or 45.

    Raises:
        InputError: it is none, or not positive.
    """
    units = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms]?)", text.strip())
    total = sum(float(n) * units[u or "s"] for n, u in parts)
    bare = sum(not u for _, u in parts)
    if "".join(n + u for n, u in parts) != text.strip() or total <= 0 or (bare and len(parts) > 1):
        raise InputError(f"{option} {text!r} is no duration; write 90s, 9m or 1h30m")
    return total


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


LEAST_WRAPPED = 20
"""Columns that a wrapping last column keeps in the narrowest terminal."""


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[str] = (), spare: Sequence[str] = ()
) -> None:
    """A table with columns padded to their widest cell; those named in `left` are text, the others are right-aligned.

    In a terminal too narrow for it the columns named in `spare` are left out, first first, and the last column wraps;
    elsewhere nothing is ever cut.
    """
    if not rows:
        return
    names, cells = list(header), [[str(c) for c in row] for row in rows]
    if not sys.stdout.isatty():
        for line in _lines(names, cells, left):
            print(line)
        return
    width = shutil.get_terminal_size().columns
    hidden = []
    for name in spare:
        if _width(names, cells) <= width:
            break
        at = names.index(name)
        hidden.append(name)
        names = names[:at] + names[at + 1 :]
        cells = [row[:at] + row[at + 1 :] for row in cells]
    from rich.console import Console
    from rich.table import Table

    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    wraps = names[-1] in left
    if wraps:
        widths[-1] = min(widths[-1], max(LEAST_WRAPPED, width - sum(widths[:-1]) - 2 * (len(names) - 1)))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for name, least in zip(names, widths, strict=True):
        table.add_column(name, justify="left" if name in left else "right", min_width=least, max_width=least)
    for row in cells:
        table.add_row(*row)
    # Never narrower than the table: the terminal may wrap a line, but nothing is cut.
    needed = sum(widths) + 2 * len(names)
    Console(width=max(width, needed), highlight=False, markup=False, emoji=False).print(table, no_wrap=not wraps)
    if hidden:
        note(f"({', '.join(hidden)} left out: the terminal is narrow; --json has all)")


def _width(header: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    return sum(max(len(c) for c in column) + 2 for column in zip(header, *rows, strict=True)) - 2


def _lines(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> Iterator[str]:
    widths = [max(len(c) for c in column) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = [c.ljust(w) if name in left else c.rjust(w) for c, w, name in zip(row, widths, header, strict=True)]
        yield "  ".join(cells).rstrip()
