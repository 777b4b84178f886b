"""Batch-size grid: at each size and horizon a row of batches, the rate following the recipe at each batch.

For the critical batch size: McCandlish et al. 2018 (arXiv 1812.06162); Zhang et al. 2024 (arXiv 2410.21676).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from scaling.spec import Count
from sweeps.designs.base import Cell, Context
from sweeps.designs.tuned import LengthDesign


class Batch(LengthDesign):
    """`sizes` × horizons × `batch_tokens` × `learning_rate_factors`."""

    type: Literal["batch"] = "batch"
    summary: ClassVar[str] = "batches in tokens at each size and horizon, the rate following each"
    source: ClassVar[str] = "McCandlish et al. 2018 (arXiv 1812.06162)"
    varies_batch: ClassVar[bool] = True

    batch_tokens: Annotated[tuple[Count, ...], Field(strict=False, min_length=1)]

    @field_validator("batch_factors")
    @classmethod
    def _no_factors(cls, factors: tuple[float, ...]) -> tuple[float, ...]:
        if factors != (1.0,):
            raise ValueError("are not used where batch_tokens lists the batches; remove them")
        return factors

    def trials(self) -> int:
        """See `Design.trials`."""
        return super().trials() * len(self.batch_tokens)

    def cells(self, context: Context) -> Iterator[Cell]:
        """See `Design.cells`."""
        if context.fixed_batch is not None:
            context.report(("batch_tokens",), "is given here and by the design; keep one")
            return
        for sized, tokens, budget, route in self.horizons(context):
            usual = context.recipe.batch_tokens(tokens, sized.architecture)
            batches = [
                (batch, batch / usual, ("design", "batch_tokens", i)) for i, batch in enumerate(self.batch_tokens)
            ]
            yield from self.tuned(context, sized, tokens, budget, route, batches)
