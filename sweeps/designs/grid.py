"""Grid: the product of explicit lists over any fields of a trial, by dotted path; no recipe, every field is given."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import ClassVar, Literal

from sweeps.designs.axes import AxesDesign, cell
from sweeps.designs.base import Cell, Context


class Grid(AxesDesign):
    """`axes`: dotted path → values; a mapping as a value sets several fields together.

    The horizon is an axis too: `steps`, or `tokens`, or `flops` (exact), from which whole steps are found.
    """

    type: Literal["grid"] = "grid"
    summary: ClassVar[str] = "product of explicit lists over any fields"
    source: ClassVar[str] = "full factorial design"

    def trials(self) -> int:
        """See `Design.trials`."""
        return math.prod(len(values) for values in self.axes.values())

    def cells(self, context: Context) -> Iterator[Cell]:
        """See `Design.cells`."""
        self.report_bad_horizons(context)
        names = sorted(self.axes, key=lambda name: name.count("."))
        for indices in itertools.product(*(range(len(self.axes[name])) for name in names)):
            yield from cell(*self.chosen(dict(zip(names, indices, strict=True))))
