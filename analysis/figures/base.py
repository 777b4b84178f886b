"""What every figure states: name, summary, source, and how it is drawn from the shared material; saving in four forms.

A figure is a file in this package with a subclass of `Kind`; that file is all there is to adding one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from analysis.figures import style
from analysis.figures.forms import FORMATS, forms_of
from scaling.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.figures.material import Material

PNG_DPI = 200


class NotDrawable(InputError):
    """A figure lacks what it needs (curves, a fitted law, scored predictions); the message says what."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure and the table of exactly what it shows, one row a mark or line vertex."""

    figure: Figure
    table: pd.DataFrame

    def save(self, folder: Path | str, name: str) -> list[Path]:
        """See `save`."""
        return save(self.figure, self.table, folder, name)

    def save_as(self, file: Path | str) -> list[Path]:
        """Writes `file` in the form its ending names, or in all three where it names none, and the CSV beside it.

        Raises:
            InputError: the folder cannot be written, or the ending is that of no form.
        """
        path = Path(file)
        return save(self.figure, self.table, path.parent, path.stem, forms_of(path))


class Kind(ABC):
    """One canonical figure. Members hold no state."""

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""

    @abstractmethod
    def draw(self, material: Material, width_mm: float) -> Drawn:
        """The figure at a width in mm.

        Raises:
            NotDrawable: the material lacks what it needs.
        """


class Rows:
    """Collects what is drawn: fixed columns, each `add` one or more rows; numbers not given are NaN, text is ""."""

    def __init__(self, text: Sequence[str], numbers: Sequence[str]) -> None:
        self.text, self.numbers = tuple(text), tuple(numbers)
        self.columns: dict[str, list[Any]] = {name: [] for name in (*text, *numbers)}

    def add(self, **values: Any) -> None:
        """Rows from scalars and arrays (n,), broadcast together.

        Raises:
            KeyError: a column that was not declared.
        """
        unknown = set(values) - set(self.columns)
        if unknown:
            raise KeyError(f"columns not declared: {', '.join(sorted(unknown))}")
        numbers = {k: np.asarray(v, dtype=np.float64) for k, v in values.items() if k in self.numbers}
        (n,) = np.broadcast_shapes((1,), *(v.shape for v in numbers.values()))
        for name in self.text:
            self.columns[name] += [str(values.get(name, ""))] * n
        for name in self.numbers:
            self.columns[name] += np.broadcast_to(numbers.get(name, np.asarray(np.nan)), (n,)).tolist()

    def table(self) -> pd.DataFrame:
        """The rows as a table."""
        import pandas as pd

        types: dict[str, Any] = dict.fromkeys(self.text, "object") | dict.fromkeys(self.numbers, "float64")
        return pd.DataFrame({k: pd.Series(v, dtype=types[k]) for k, v in self.columns.items()})


def finish(figure: Figure, rows: Rows) -> Drawn:
    """The figure, laid out while the house style holds, with its table."""
    figure.draw_without_rendering()
    while style.wrap_long_labels(figure):  # a wrapped label takes room from the others
        figure.draw_without_rendering()
    return Drawn(figure, rows.table())


def save(
    figure: Figure,
    table: pd.DataFrame | None,
    folder: Path | str,
    name: str,
    forms: Sequence[str] = FORMATS,
) -> list[Path]:
    """Writes `name`.svg, .pdf, .png (200 dpi) and .csv into `folder`, undated: a rerun writes equal bytes.

    Numbers in the CSV are the shortest that read back exactly. Returns the paths, in that order. `forms` leaves some
    out; without a table there is no CSV.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = Path(folder)
    undated: dict[str, dict[str, Any]] = {
        "svg": {"Date": None},
        "pdf": {"CreationDate": None},
        "png": {"Software": None},
    }
    paths = [folder / f"{name}.{form}" for form in (*forms, *(["csv"] if table is not None else []))]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with style.styled():
            for form, path in zip(forms, paths, strict=False):
                figure.savefig(path, format=form, dpi=PNG_DPI, metadata=undated[form])
        if table is not None:
            table.to_csv(paths[-1], index=False, lineterminator="\n")
    except OSError as error:
        raise InputError(f"{folder}: cannot write the figure {name}: {error.strerror or error}") from error
    return paths
