"""Learning-rate tuning: at each size and horizon a row of rates about the recipe's, with seeds where wanted.

Whether the best is interior is told by `scaling plan` and `scaling run` once the rows are there: a best rate at the
edge of its row means that the row was placed wrongly (Porian et al. 2024, arXiv 2406.19146, tune at every size).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import field_validator

from sweeps.designs.base import Cell, Context, Positives
from sweeps.designs.tuned import LengthDesign

LEAST = 3
"""Rates that a minimum can be interior to."""


class Tuning(LengthDesign):
    """`sizes` × horizons × `learning_rate_factors` (three or more)."""

    type: Literal["tuning"] = "tuning"
    summary: ClassVar[str] = "learning rates about the recipe's at each size; is the best interior?"
    source: ClassVar[str] = "Porian et al. 2024 (arXiv 2406.19146)"

    learning_rate_factors: Positives = (0.25, 0.5, 1.0, 2.0, 4.0)

    @field_validator("learning_rate_factors")
    @classmethod
    def _enough(cls, factors: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(factors)) < LEAST:
            raise ValueError(f"{len(set(factors))} rates cannot show an interior best; give {LEAST} or more")
        return factors

    def cells(self, context: Context) -> Iterator[Cell]:
        """See `Design.cells`."""
        for sized, tokens, budget, route in self.horizons(context):
            yield from self.tuned(context, sized, tokens, budget, route)
