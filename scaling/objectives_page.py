"""Makes the page of the objectives from the objectives themselves: one text, and what each makes of it.

    python -m scaling.objectives_page docs        (`make docs`; writes docs/objectives.md)

An objective whose `example` returns rows is shown by them, any other by the batch that it makes for training.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
from pydantic import ValidationError

from scaling.objectives.base import Objective, Row, Vocabulary
from scaling.objectives.word_units import classes_of
from scaling.spec import members

DOCUMENTS = (
    "the old cat sat by the stove . in the even|ing it hunt|ed mice .",
    "rain fell on the town all day . then the river rose over its bank|s .",
)
"""Tokens by blanks; a bar within a word parts it into two."""
PAIRS = (
    "the old cat sat by the stove . ⏎ die alte Katze saß am Ofen .",
    "in the even|ing it hunt|ed mice . ⏎ am Abend jagte sie Mäuse .",
)
"""Translations, for an objective that reads them: the newline ⏎ is a token."""
SEQ_LEN = 18
"""Tokens of a window: a document with its separator."""
SEED = 5

NOTHING = "·"

HEAD = """# The objectives

Made from the objectives themselves by `make docs`; `scaling list objectives` names them. Every picture is what the
objective made of the same text, a token being a word or a part of one (`##ing`). ⟨M⟩ is the mask, ⟨S⟩ the separator of
documents, ⟨X0⟩, ⟨X1⟩ … are ids that the objective adds to the vocabulary, [brackets] hold a token that took another's
place, and a dot stands where nothing is predicted. An objective of your own is one file in `scaling/objectives/`.

| objective | what it does | source | loss-bearing of {seq_len} tokens | bits per byte |
|---|---|---|---|---|
"""


class Words:
    """A vocabulary of the words of some documents, and the stream of their ids."""

    def __init__(self, documents: Sequence[str]) -> None:
        split = [self._pieces(document) for document in documents]
        pieces = sorted({piece for document in split for piece in document})
        self.names = [self._shown(piece) for piece in pieces] + ["⟨S⟩", "⟨M⟩"]
        classes = classes_of([*(p.encode() for p in pieces), b"", b""])
        self.vocabulary = Vocabulary(len(pieces) + 2, len(pieces), len(pieces), len(pieces) + 1, classes)
        ids = {piece: i for i, piece in enumerate(pieces)}
        coded = [[*(ids[p] for p in document), self.vocabulary.separator_id] for document in split]
        self.starts = [0, len(coded[0])]
        self.stream = np.array([t for document in coded for t in document] * 4, dtype=np.int64)

    @staticmethod
    def _pieces(document: str) -> list[str]:
        """Tokens as a tokenizer of bytes would cut them: a word takes the blank before it along."""
        whole = document.replace(" ⏎", "\n").replace(" .", ".")
        marked = whole.replace(".", "|.").replace("\n", "|\n").replace(" ", "| ")
        return [piece for piece in f" {marked}".split("|") if piece]

    @staticmethod
    def _shown(piece: str) -> str:
        if piece == "\n":
            return "⏎"
        return piece[1:] if piece.startswith(" ") else piece if piece == "." else f"##{piece}"

    def name(self, cell: int | str) -> str:
        """How a token is shown; strings stand for themselves."""
        if isinstance(cell, str):
            return cell
        if cell < 0:
            return NOTHING
        return self.names[cell] if cell < len(self.names) else f"⟨X{cell - len(self.names)}⟩"

    def windows(self, size: int) -> np.ndarray:
        """(2, size) tokens: windows from the start of each document."""
        return np.stack([self.stream[start : start + size] for start in self.starts])


def forms(cls: type[Objective]) -> Iterator[tuple[str, Objective]]:
    """An objective at its defaults, then with each other choice of each field that has named choices, one at a time."""
    plain = cls.model_validate({})
    yield "", plain
    for name, field in cls.model_fields.items():
        for value in _choices(field.annotation) if name != "type" else ():
            if getattr(plain, name) == value:
                continue
            try:
                yield f"{name}: {', '.join(value) if isinstance(value, tuple) else value}", cls(**{name: value})
            except ValidationError:
                continue  # the choice asks for another field beside it


def _choices(annotation: Any) -> list[Any]:
    """The named choices of a field: of Literal["a", "b"], or one by one those of tuple[Literal["a", "b"], …]."""
    if get_origin(annotation) is Literal:
        return [v for v in get_args(annotation) if isinstance(v, str)]
    inner = get_args(annotation)
    if get_origin(annotation) is tuple and inner and get_origin(inner[0]) is Literal:
        return [(v,) for v in get_args(inner[0])]
    return []


def picture(objective: Objective) -> str:
    """What the objective makes of the text: rows of words, aligned."""
    words = Words(PAIRS if objective.begins == "document" else DOCUMENTS)
    windows = words.windows(objective.window(SEQ_LEN))
    rows = objective.example(windows, words.vocabulary, np.random.default_rng(SEED))
    if rows is None:
        rows = batch_rows(objective, windows, words)
    return "\n".join(_aligned(rows, words))


def batch_rows(objective: Objective, windows: np.ndarray, words: Words) -> list[Row]:
    """The first window of a training batch: text, input, what else the model is given, and the targets."""
    batch = objective.train_batch(windows, words.vocabulary, np.random.default_rng(SEED))
    inputs, text = batch.inputs[0].tolist(), windows[0].tolist()
    auxiliary = objective.auxiliary(SEQ_LEN)
    at = batch.targets.shape[1] - sum(auxiliary.values())
    targets = batch.targets[0].tolist()
    places = None if batch.positions is None else batch.positions[0].tolist()
    scored = [p for p, t in zip(places, targets[:at], strict=False) if t >= 0] if places is not None else []
    swapped = {p: f"[{words.name(inputs[p])}]" for p in scored if inputs[p] < words.vocabulary.n_ordinary}
    hidden = dict(zip(places or [], targets[:at], strict=False))
    shown = [swapped[p] if p in swapped and t != hidden[p] else t for p, t in enumerate(inputs)]
    rows: list[Row] = [("text", text), ("input", shown)]
    rows += [
        (name.replace("_", " "), array[0].ravel().tolist() if "input" in name else list(map(str, array[0].ravel())))
        for name, array in batch.extra.items()
        if np.issubdtype(array.dtype, np.integer)
    ]
    rows.append(("target", _placed(targets[:at], places, len(inputs))))
    for name, columns in auxiliary.items():
        part = targets[at : at + columns]
        label = f"target, {name.replace('_', ' ')}"
        rows.append((label, [f"class {part[0]}"] if columns == 1 else _placed(part, places, len(inputs))))
        at += columns
    return rows


def _placed(targets: Sequence[int], places: Sequence[int] | None, length: int) -> list[int | str]:
    """Targets under the positions that they are predicted at, where positions are given."""
    if places is None or len(places) != len(targets):
        return list(targets)
    row: list[int | str] = [NOTHING] * length
    for place, target in zip(places, targets, strict=True):
        row[place] = target if target >= 0 else row[place]
    return row


def _aligned(rows: Sequence[Row], words: Words) -> Iterator[str]:
    """Rows as text; those of equal length share their columns."""
    named = [(label, [words.name(cell) for cell in cells]) for label, cells in rows]
    margin = max(len(label) for label, _ in named)
    widths: dict[int, list[int]] = {}
    for _, cells in named:
        before = widths.get(len(cells), [0] * len(cells))
        widths[len(cells)] = [max(w, len(c)) for w, c in zip(before, cells, strict=True)]
    for label, cells in named:
        padded = (c.ljust(w) for c, w in zip(cells, widths[len(cells)], strict=True))
        yield f"{label.ljust(margin)}  {' '.join(padded)}".rstrip()


def section(tag: str, cls: type[Objective]) -> str:
    """One objective's section: what it is, its fields, and a picture of each of its forms."""
    plain = cls.model_validate({})
    defaults = {n: getattr(plain, n) for n in cls.model_fields if n != "type"}
    shown = ", ".join(f"`{n}` {', '.join(v) if isinstance(v, tuple) else v}" for n, v in defaults.items())
    lines = ["", f"## {tag}", "", f"{cls.summary[0].upper()}{cls.summary[1:]}. {cls.source}."]
    lines += ["", f"Fields, as they come: {shown or 'none'}."]
    seen: set[str] = set()
    for form, objective in forms(cls):
        drawn = picture(objective)
        if drawn not in seen:
            lines += ["", *([f"`{form}`", ""] if form else []), "```", drawn, "```"]
        seen.add(drawn)
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page, Markdown."""
    found: Mapping[str, type[Objective]] = members("scaling.objectives", Objective)  # type: ignore[assignment]
    rows = []
    for tag, cls in found.items():
        plain = cls.model_validate({})
        code, bearing = "yes" if plain.bits_per_byte else "no", plain.predicted_per_window(SEQ_LEN)
        rows.append(f"| [{tag}](#{tag}) | {cls.summary} | {cls.source} | {bearing} | {code} |\n")
    return HEAD.format(seq_len=SEQ_LEN) + "".join(rows) + "".join(section(t, c) for t, c in found.items())


def main(folder: str = "docs") -> None:
    """Writes the page into `folder`."""
    (Path(folder) / "objectives.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:2])
