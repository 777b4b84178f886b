"""What the tests of every study ask of its smoke scale: numbers that state their worth, a page that has them all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from analysis.types import Status
from scaling.store import Store
from sweeps.definition import load_sweep
from sweeps.expand import expand
from sweeps.studies.part import Part
from sweeps.studies.parts import SWEEPS

STATUSES = frozenset(str(s) for s in Status)
FORMS = ("svg", "png", "pdf", "csv")


def check_result(folder: Path, result: dict[str, Any], parts: Iterable[Part], *statuses: str) -> None:
    """Every part measured from runs that finished, every number with a status that it explains.

    Args:
        folder: the study's.
        result: what `reproduce` returned, which the folder's fits.json must say as well.
        parts: in the page's order.
        statuses: those of this study beside `Status`.
    """
    assert result["complete"]
    assert result["failures"] == {}
    assert json.loads((folder / "fits.json").read_text()) == json.loads(json.dumps(result))
    assert list(result["parts"]) == [p.name for p in parts]
    assert {p["state"] for p in result["parts"].values()} == {"measured"}
    assert set(Store.open(folder / "store").rows().status) == {"finished"}
    for part in result["parts"].values():
        names = [n["name"] for n in part["numbers"]]
        assert len(names) == len(set(names))
        for number in part["numbers"]:
            _check_number(number, STATUSES | set(statuses))


def _check_number(number: dict[str, Any], statuses: frozenset[str]) -> None:
    assert number["status"] in statuses
    assert number["command"]
    if number["status"] != "converged":
        assert number["reason"], number["name"]
        return
    value, (lo, hi) = number["value"]["value"], number["value"]["ci"]
    assert value is not None, number["name"]
    assert lo is None or lo <= value + 1e-9, number["name"]
    assert hi is None or value <= hi + 1e-9, number["name"]


def check_page(folder: Path, result: dict[str, Any], title: str) -> None:
    """The page is filled in, and has every part, number, table and figure; a figure not drawn has its reason."""
    page = (folder / "README.md").read_text()
    assert page.startswith(title)
    assert "{{" not in page
    assert "{%" not in page
    assert "nan" not in page.lower().split()
    for part in result["parts"].values():
        assert f"## {part['title']}" in page
        assert all(n["label"].replace("|", "\\|") in page for n in part["numbers"])
        for picture in part["pictures"]:
            if picture["reason"]:
                assert picture["reason"] in page
            else:
                assert f"(figures/{picture['name']}.png)" in page
                assert all((folder / "figures" / f"{picture['name']}.{form}").stat().st_size > 0 for form in FORMS)
        for table in part["tables"]:
            assert table["title"] in page
            assert all(len(row) == len(table["header"]) for row in table["rows"])


def check_sweeps(study: str, scale: str, parts: Iterable[Part]) -> None:
    """Every sweep of every part is there once, makes trials, and its name is its file's."""
    names = [n for part in parts for n in part.sweeps]
    assert len(names) == len(set(names))
    for name in names:
        sweep = load_sweep(SWEEPS / f"{study}-{name}-{scale}.yaml")
        assert sweep.name == f"{study}-{name}-{scale}"
        assert expand(sweep)
