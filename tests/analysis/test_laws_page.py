"""The page of the laws is what the laws say of themselves: every law is on it, and it is up to date."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.laws import get_law, list_laws
from analysis.laws_page import PICTURES, constants, page, picture

DOCS = Path(__file__).parents[2] / "docs"
NAMES = [item["name"] for item in list_laws()]


@pytest.mark.parametrize("name", NAMES)
def test_every_law_says_what_it_needs_and_when_it_misleads(name: str) -> None:
    law = get_law(name)
    for text in (law.needs, law.misleads):
        assert len(text.split()) >= 8
        assert text.endswith(".")
    assert set(constants(law)[1]) == {p.name for p in law.parameters}


def test_the_page_is_what_the_generator_makes() -> None:
    assert (DOCS / "laws.md").read_text(encoding="utf-8") == page(), "run make docs"


def test_the_page_has_every_law_with_its_formula_and_picture() -> None:
    sections = (DOCS / "laws.md").read_text(encoding="utf-8").split("\n## ")[1:]
    assert [s.splitlines()[0] for s in sections] == NAMES
    for name, text in zip(NAMES, sections, strict=True):
        law = get_law(name)
        assert f"    {law.formula}\n" in text
        assert law.needs in text
        assert law.misleads in text
        assert law.source in text
        assert (DOCS / PICTURES / f"{name}.svg").read_bytes().startswith(b"<?xml")
    assert {p.stem for p in (DOCS / PICTURES).iterdir()} == set(NAMES)


@pytest.mark.parametrize("name", ["chinchilla", "downstream_sigmoid", "multi_power"])
def test_a_picture_shows_the_law(name: str) -> None:
    law = get_law(name)
    drawn = picture(law)
    assert np.isfinite(drawn.table["y"]).all()
    if name == "chinchilla":
        first = drawn.table[drawn.table["line"] == "D = 1B"]
        mean = law.predict(law.instances["hoffmann_2022"], params=first["x"].to_numpy(), tokens=1e9)
        np.testing.assert_allclose(first["y"], mean)
