"""Ladder: sizes × tokens per parameter, the sizes of a model family each trained to the same ratios.

Tokens per parameter count the parameters as `sizes.count` does, and tokens as the tokenizer does: with bytes 88 are
about what 20 are with a learned vocabulary. Gadre et al. 2024 (arXiv 2403.08540).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import model_validator

from sweeps.designs.base import Cell, Context, Positives
from sweeps.designs.tuned import TunedDesign


class Ladder(TunedDesign):
    """`sizes` × `tokens_per_parameter`."""

    type: Literal["ladder"] = "ladder"
    summary: ClassVar[str] = "sizes × tokens per parameter"
    source: ClassVar[str] = "Gadre et al. 2024 (arXiv 2403.08540)"

    tokens_per_parameter: Positives

    @model_validator(mode="after")
    def _sizes_are_listed(self) -> Ladder:
        if self.sizes.centre is not None:
            raise ValueError("a ladder has no budgets for sizes.centre to follow; list sizes.params or sizes.widths")
        return self

    def trials(self) -> int:
        """See `Design.trials`."""
        factors = len(self.learning_rate_factors) * len(self.batch_factors)
        return len(self.tokens_per_parameter) * len(self.sizes) * factors

    def cells(self, context: Context) -> Iterator[Cell]:
        """See `Design.cells`."""
        for sized in self.sizes.architectures(context, None):
            for i, ratio in enumerate(self.tokens_per_parameter):
                route = ("design", "tokens_per_parameter", i)
                yield from self.tuned(context, sized, ratio * sized.params, None, route)
