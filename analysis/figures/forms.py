"""The forms a figure is saved in, apart from what draws it: asking costs no import of matplotlib."""

from __future__ import annotations

from pathlib import Path

from scaling.errors import InputError

FORMATS = ("svg", "pdf", "png")


def forms_of(file: Path | str) -> tuple[str, ...]:
    """The form that a file's ending names, or all where it has none.

    Raises:
        InputError: the ending is that of no form.
    """
    form = Path(file).suffix[1:].lower()
    if form and form not in FORMATS:
        raise InputError(f"{file}: a figure is no .{form}; write .svg, .pdf or .png, or no ending for all")
    return (form,) if form else FORMATS
