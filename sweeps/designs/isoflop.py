"""IsoFLOP: at each budget of exact FLOPs a row of sizes, the tokens following from the budget.

Hoffmann et al. 2022 (arXiv 2203.15556) §3.2. Steps are whole, so a run's FLOPs differ from its nominal budget by at
most half a step: under 0.2 % at the least horizon.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from sweeps.designs.base import Cell, Context, Positives
from sweeps.designs.tuned import TunedDesign


class IsoFlop(TunedDesign):
    """`budgets` in exact FLOPs × `sizes`."""

    type: Literal["isoflop"] = "isoflop"
    summary: ClassVar[str] = "budgets in exact FLOPs × sizes; tokens follow from the budget"
    source: ClassVar[str] = "Hoffmann et al. 2022 (arXiv 2203.15556) §3.2"

    budgets: Positives

    def trials(self) -> int:
        """See `Design.trials`."""
        return len(self.budgets) * len(self.sizes) * len(self.learning_rate_factors) * len(self.batch_factors)

    def cells(self, context: Context) -> Iterator[Cell]:
        """See `Design.cells`."""
        for i, budget in enumerate(self.budgets):
            for sized in self.sizes.architectures(context, budget):
                tokens = budget / context.flops_per_token(sized.architecture)
                yield from self.tuned(context, sized, tokens, budget, ("design", "budgets", i))
