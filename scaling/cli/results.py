"""What the commands about rows have in common: the command as typed, and how statuses and left-out rows are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from scaling.cli import output as out

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.figures import Drawn
    from analysis.types import Dropped, Estimate

MOST_DROPPED = 5
"""Rows left out that are named one by one."""


def typed(context: typer.Context) -> str:
    """The command as it was typed, without what changes nothing of its answer."""
    arguments = [a for a in context.find_root().meta.get("scaling.arguments", []) if a != "--json"]
    return out.command_line("scaling", arguments)


def status_of(found: Any) -> str:
    """Such as "unidentified: E is bounded above only", of whatever has a status and a reason."""
    return f"{found.status.value}{': ' + found.reason if found.reason else ''}"


def print_dropped(dropped: Sequence[Dropped]) -> None:
    """Says on stderr which rows were left out, the first few one by one."""
    for item in dropped[:MOST_DROPPED]:
        out.note(f"left out: {item.row}: {item.reason}")
    if len(dropped) > MOST_DROPPED:
        out.note(f"left out: {len(dropped) - MOST_DROPPED} more; --json names all")


def estimate_cells(estimate: Estimate, digits: int = 3) -> list[str]:
    """Value and interval of an estimate, as two cells of a table."""
    return [out.number(estimate.value, digits), out.interval(estimate.ci, digits)]


def check_plot_file(file: str | None) -> None:
    """Refuses a wrong ending of `--plot FILE` before anything is computed.

    Raises:
        InputError: the ending is that of no form of a figure.
    """
    if file is not None:
        from analysis.figures.forms import forms_of

        forms_of(file)


def save_drawn(drawn: Drawn, file: str) -> list[Path]:
    """Writes a figure and its CSV where `--plot FILE` says, and says so on stderr.

    FILE.svg, FILE.pdf or FILE.png gives that form alone, another name all three.
    """
    paths = drawn.save_as(file)
    out.note(f"drawn: {', '.join(map(str, paths))}")
    return paths
