"""The page of the objectives is what the objectives make: all are on it, and its pictures are true."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import pytest
from pydantic import Field

from scaling.objectives.base import Batch, Objective, Vocabulary
from scaling.objectives.causal import Causal
from scaling.objectives.masked import Masked
from scaling.objectives.replaced_token import ReplacedToken
from scaling.objectives_page import DOCUMENTS, PAIRS, SEQ_LEN, Words, forms, page, picture
from scaling.spec import members

DOCS = Path(__file__).parents[2] / "docs"


def rows(text: str) -> dict[str, list[str]]:
    """The words of each row of a picture by its label, which ends before two blanks."""
    found = {}
    for line in text.splitlines():
        label, _, cells = line.partition("  ")
        found[label.strip()] = cells.split()
    return found


def test_the_page_is_what_the_generator_makes() -> None:
    assert (DOCS / "objectives.md").read_text(encoding="utf-8") == page(), "run make docs"


def test_every_objective_has_a_section_and_a_picture() -> None:
    names = list(members("scaling.objectives", Objective))
    sections = (DOCS / "objectives.md").read_text(encoding="utf-8").split("\n## ")[1:]
    assert [s.splitlines()[0] for s in sections] == names
    for text in sections:
        assert text.count("```") >= 2
        assert "text " in text.split("```")[1]


@pytest.mark.parametrize("unit", ["token", "whole_word", "span"])
def test_a_masked_picture_puts_every_target_under_its_token(unit: Literal["token", "whole_word", "span"]) -> None:
    shown = rows(picture(Masked(unit=unit)))
    text, given, target = shown["text"], shown["input"], shown["target"]
    assert len(text) == len(given) == len(target) == SEQ_LEN
    assert sum(t != "·" for t in target) == Masked().predicted_per_window(SEQ_LEN)
    for word, read, wanted in zip(text, given, target, strict=True):
        assert wanted in (word, "·")
        assert read == word or (wanted == word and read in ("⟨M⟩", read if read.startswith("[") else ""))


def test_a_causal_picture_is_shifted_by_one() -> None:
    shown = rows(picture(Causal()))
    assert shown["input"] + shown["target"][-1:] == shown["text"]
    assert shown["target"] == shown["text"][1:]


def test_a_replaced_token_is_marked_and_a_drawn_original_is_not() -> None:
    shown = rows(picture(ReplacedToken()))
    text, read, masked = shown["text"], shown["the discriminator reads"], shown["the generator reads"]
    signs = ["=" if a == b else "≠" for a, b in zip(text, read, strict=True)]
    assert shown["target (≠ replaced)"] == signs
    hidden = [sign for sign, m in zip(signs, masked, strict=True) if m == "⟨M⟩"]
    assert sorted(hidden) == ["=", "≠", "≠"]


@pytest.mark.parametrize("documents", [DOCUMENTS, PAIRS])
def test_words_are_parted_and_joined_as_a_tokenizer_would(documents: tuple[str, str]) -> None:
    words = Words(documents)
    first = [words.name(int(t)) for t in words.windows(len(words.stream) // 4)[0]]
    shown = " ".join(first[: first.index("⟨S⟩")]).replace(" ##", "|")
    assert shown == documents[0]
    assert len(words.vocabulary.classes) == words.vocabulary.size


class Sorting(Objective):
    """An objective that this project does not have: it asks for the window in order, at every second place.

    Its tag is no literal, so that no registry takes it in.
    """

    type: str = "sorting"
    summary: ClassVar[str] = "sort"
    source: ClassVar[str] = "this test"
    way: Literal["up", "down"] = "up"
    kinds: Annotated[tuple[Literal["all", "some"], ...], Field(strict=False)] = ("all",)

    def serves(self, architecture: object) -> str | None:
        return None

    def window(self, seq_len: int) -> int:
        return seq_len

    def predicted_per_window(self, seq_len: int) -> int:
        return seq_len // 2

    def train_batch(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> Batch:
        places = np.tile(np.arange(0, windows.shape[1], 2), (len(windows), 1))
        ordered = np.sort(windows, axis=1) if self.way == "up" else -np.sort(-windows, axis=1)
        return Batch(windows, places, np.take_along_axis(ordered, places, 1), {"sizes": np.full(len(windows), 7)})

    def heldout_batches(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Batch]:
        return [self.train_batch(windows, vocab, rng)]


def test_an_objective_that_says_nothing_of_pictures_has_one() -> None:
    assert [name for name, _ in forms(Sorting)] == ["", "way: down", "kinds: some"]
    shown = rows(picture(Sorting()))
    assert set(shown) == {"text", "input", "sizes", "target"}
    assert shown["sizes"] == ["7"]
    assert [t == "·" for t in shown["target"]] == [False, True] * (SEQ_LEN // 2)
