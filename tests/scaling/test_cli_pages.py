"""The commands that the committed studies give for their numbers run on the committed stores."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from cli_world import call

RESULTS = Path(__file__).resolve().parents[2] / "results"
STARTS = ("scaling fit", "scaling compare", "scaling choose")


def commands(folder: Path) -> list[str]:
    parts = json.loads((folder / "fits.json").read_text()).get("parts", {})
    named = {n["command"] for p in parts.values() for n in p["numbers"]}
    return sorted(c for c in named if c.startswith(STARTS))


GIVEN = [(p.parent, c) for p in sorted(RESULTS.glob("*/fits.json")) for c in commands(p.parent)]


def test_there_are_commands() -> None:
    assert {"kaplan-toy", "objectives-toy", "repetition-toy"} <= {folder.name for folder, _ in GIVEN}


@pytest.mark.parametrize(("folder", "command"), GIVEN, ids=[f"{f.name}-{i}" for i, (f, _) in enumerate(GIVEN)])
def test_a_command_of_a_page_runs(folder: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    _, name, *rest = shlex.split(command)
    fewer = [] if name == "choose" else ["--bootstrap", "20"]
    done = call(name, *rest, *fewer, "--json")
    assert done.status == 0, done.err
    assert done.json
