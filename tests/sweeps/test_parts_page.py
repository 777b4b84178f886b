"""The page of a study in parts, from the committed results: its commands are what fits.json says, and can be typed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sweeps.studies import get_study
from sweeps.studies.parts import PartsStudy
from sweeps.studies.parts_page import _number, write_page

RESULTS = Path(__file__).resolve().parents[2] / "results"
COMMITTED = sorted(p.parent for p in RESULTS.glob("*-toy/fits.json"))
STUDIES = [p for p in COMMITTED if isinstance(get_study(p.name.removesuffix("-toy")), PartsStudy)]


def remade(committed: Path, folder: Path) -> tuple[str, dict[str, Any]]:
    study = get_study(committed.name.removesuffix("-toy"))
    assert isinstance(study, PartsStudy)
    result = json.loads((committed / "fits.json").read_text())
    page = write_page(folder, result, template=study.template, first=study.first, published=study.compared)
    return page.read_text(), result


def typed(line: str, folder: Path) -> list[str]:
    """The words of a command as the shell reads them."""
    script = f"printf '%s\\0' {line}"
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, check=True, text=True)
    return done.stdout.split("\0")[:-1]


def test_there_are_pages() -> None:
    assert {"frontier-toy", "gap-toy", "kaplan-toy", "objectives-toy", "repetition-toy"} <= {p.name for p in STUDIES}


@pytest.mark.parametrize("committed", STUDIES, ids=lambda p: p.name)
def test_the_committed_page_is_made_from_the_committed_numbers(committed: Path, tmp_path: Path) -> None:
    text, _ = remade(committed, tmp_path)
    assert text == (committed / "README.md").read_text()
    ours, theirs = ({p.name: p.read_text() for p in (f / "filters").glob("*")} for f in (tmp_path, committed))
    assert ours == theirs


@pytest.mark.parametrize("committed", STUDIES, ids=lambda p: p.name)
def test_commands_are_short_and_say_what_the_numbers_do(committed: Path, tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash on this machine")
    text, result = remade(committed, tmp_path)
    block = text.split("## Commands", 1)[1].split("```")[1]
    shown = [line for line in block.splitlines() if line.startswith("scaling ")][1:]
    named = [n["command"] for p in result["parts"].values() for n in p["numbers"]]
    wanted = list(dict.fromkeys(c for c in named if c.startswith("scaling ")))
    assert [typed(line, tmp_path) for line in shown] == [typed(c, tmp_path) for c in wanted]
    assert not [line for line in shown if re.search(r"\[[^]]{100,}\]", line)]
    assert max(map(len, shown), default=0) < 450


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.52321, "0.523"),
        (9209.4, "9,209"),
        (10_999, "11k"),
        (454_800, "455k"),
        (999_600, "1M"),
        (4e13, "4e13"),
        (2.06e-10, "2.06e-10"),
        (None, "?"),
    ],
)
def test_numbers_of_the_page_are_short(value: float | None, text: str) -> None:
    assert _number(value) == text
