"""Zip: lists over any fields walked side by side, the first values together, then the second, and so on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import model_validator

from sweeps.designs.axes import AxesDesign, cell
from sweeps.designs.base import Cell, Context


class Zip(AxesDesign):
    """`axes` of equal length; a list of one value holds for all."""

    type: Literal["zip"] = "zip"
    summary: ClassVar[str] = "lists over any fields, walked side by side"
    source: ClassVar[str] = "explicit list of settings"

    @model_validator(mode="after")
    def _equal_lengths(self) -> Zip:
        lengths = {name: len(values) for name, values in self.axes.items() if len(values) > 1}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name} has {n}" for name, n in lengths.items())
            raise ValueError(f"axes of a zip are equally long, or hold one value: {found}")
        return self

    def trials(self) -> int:
        """See `Design.trials`."""
        return max(len(values) for values in self.axes.values())

    def cells(self, context: Context) -> Iterator[Cell]:
        """See `Design.cells`."""
        self.report_bad_horizons(context)
        for i in range(self.trials()):
            yield from cell(*self.chosen({name: min(i, len(values) - 1) for name, values in self.axes.items()}))
