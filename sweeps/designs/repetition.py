"""Data repetition: unique training tokens × epochs, for laws of repeated data.

Muennighoff et al. 2023 (arXiv 2305.16264): every run sees the first `unique_tokens` of the training stream `epochs`
times. Fewer than one epoch is allowed, as the run without repetition that the others are held against.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from scaling.spec import Count
from sweeps.designs.base import Cell, Context, Positives
from sweeps.designs.tuned import TunedDesign


class Repetition(TunedDesign):
    """`sizes` × `unique_tokens` × `epochs`."""

    type: Literal["repetition"] = "repetition"
    summary: ClassVar[str] = "unique tokens × epochs at each size"
    source: ClassVar[str] = "Muennighoff et al. 2023 (arXiv 2305.16264)"
    repeats: ClassVar[bool] = True

    unique_tokens: Annotated[tuple[Count, ...], Field(strict=False, min_length=1)]
    epochs: Positives

    @model_validator(mode="after")
    def _sizes_are_listed(self) -> Repetition:
        if self.sizes.centre is not None:
            raise ValueError("no budgets here for sizes.centre to follow; list sizes.params or sizes.widths")
        return self

    def trials(self) -> int:
        """See `Design.trials`."""
        return len(self.sizes) * len(self.unique_tokens) * len(self.epochs) * self.factors

    def cells(self, context: Context) -> Iterator[Cell]:
        """See `Design.cells`."""
        for sized in self.sizes.architectures(context, None):
            for unique in self.unique_tokens:
                for e, epochs in enumerate(self.epochs):
                    fields = {"corpus.unique_tokens": unique, "repeat": True}
                    route = ("design", "epochs", e)
                    yield from self.tuned(context, sized, unique * epochs, None, route, extra=fields)
