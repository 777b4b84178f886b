"""Sample: points drawn from continuous ranges, at random or by a Sobol sequence, for each cell of a grid of axes.

Sobol 1967 (USSR Comput. Math. Math. Phys. 7:86) with a random shift (Cranley and Patterson 1976, SIAM J. Numer. Anal.
13:904). Both ways the first points stay when `number` grows, so that a longer sample runs only its new points.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from scaling.spec import Count, Frozen, NonNegativeCount
from sweeps.designs.axes import AxesDesign, Axis, cell, check_names
from sweeps.designs.base import LARGEST, Cell, Context
from sweeps.yaml_source import Route

if TYPE_CHECKING:
    import numpy as np

DIGITS = 4
"""Significant digits of a drawn value, so that the last bit of a machine's `pow` does not change a trial's identity."""


class Range(Frozen):
    """Values between `low` and `high`, even in themselves or in their logarithm; whole multiples where asked for."""

    low: float = Field(ge=-LARGEST, le=LARGEST)
    high: float = Field(ge=-LARGEST, le=LARGEST)
    scale: Literal["log", "linear"] = "log"
    multiple_of: Count | None = None
    """Rounds to whole multiples, as a batch needs: never below one."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"a logarithmic range needs low above 0, not {self.low:g}; or set scale: linear")
        return self

    def at(self, share: float) -> float | int:
        """The value at a share of the range in [0, 1]."""
        if self.scale == "log":
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        if self.multiple_of is not None:
            return max(1, round(value / self.multiple_of)) * self.multiple_of
        return float(f"{value:.{DIGITS}g}")


class Sample(AxesDesign):
    """`number` points of `ranges` (dotted path → low, high, scale) for each cell of the product of `axes`."""

    type: Literal["sample"] = "sample"
    summary: ClassVar[str] = "random or Sobol points of continuous ranges"
    source: ClassVar[str] = "Bergstra and Bengio 2012 (JMLR 13:281); Sobol 1967"

    ranges: Annotated[dict[str, Range], Field(min_length=1, max_length=50)]
    number: Annotated[Count, Field(le=100_000)]
    method: Literal["sobol", "random"] = "sobol"
    seed: NonNegativeCount = 0
    """Of the points; the seeds of training are the sweep's."""
    axes: dict[str, Axis] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_differ(self) -> Sample:
        twice = sorted(set(self.axes) & set(self.ranges))
        if twice:
            raise ValueError(f"{twice[0]} is given as a range and as an axis; keep one")
        check_names({**self.axes, **self.ranges})
        return self

    def trials(self) -> int:
        """See `Design.trials`."""
        return self.number * math.prod(len(values) for values in self.axes.values())

    def points(self) -> np.ndarray:
        """(number, ranges) shares in [0, 1)."""
        import numpy as np

        rng = np.random.default_rng(self.seed)
        if self.method == "random":
            return rng.random((self.number, len(self.ranges)))
        from scipy.stats import qmc

        shift = rng.random(len(self.ranges))
        sequence = qmc.Sobol(len(self.ranges), scramble=False)
        found: np.ndarray = sequence.random_base2(max(0, (self.number - 1).bit_length()))
        return (found[: self.number] + shift) % 1.0

    def cells(self, context: Context) -> Iterator[Cell]:
        """See `Design.cells`."""
        self.report_bad_horizons(context)
        points = self.points()
        for indices in itertools.product(*(range(len(values)) for values in self.axes.values())):
            fixed, places = self.chosen(dict(zip(self.axes, indices, strict=True)))
            for point in points:
                drawn: dict[str, Any] = {
                    n: r.at(float(u)) for (n, r), u in zip(self.ranges.items(), point, strict=True)
                }
                origins: dict[str, Route] = {**places, **{name: ("design", "ranges", name) for name in drawn}}
                ordered = dict(sorted({**fixed, **drawn}.items(), key=lambda item: item[0].count(".")))
                yield from cell(ordered, origins)
