"""What designs by recipe share: grids of learning-rate and batch factors about the recipe, and the least horizon."""

from __future__ import annotations

from collections.abc import Iterator

from scaling.trial import MIN_STEPS
from sweeps.designs.base import Cell, Context, Design, Positives
from sweeps.designs.sizes import Sized, SizesSpec
from sweeps.yaml_source import Route


class TunedDesign(Design):
    """Sizes, and factors on the recipe's batch and rate; the rate follows the recipe at the batch so changed."""

    sizes: SizesSpec
    learning_rate_factors: Positives = (1.0,)
    batch_factors: Positives = (1.0,)

    def tuned(
        self, context: Context, sized: Sized, tokens: float, budget: float | None, route: Route
    ) -> Iterator[Cell]:
        """The cells of one size and horizon (`tokens`); a horizon below MIN_STEPS is reported at `route`."""
        architecture = sized.architecture
        per_token = context.flops_per_token(architecture)
        for b, batch_factor in enumerate(self.batch_factors):
            batch = self._batch(context, sized, tokens, batch_factor)
            steps = round(tokens / batch)
            if steps < MIN_STEPS:
                least = MIN_STEPS * self._batch(context, sized, MIN_STEPS, batch_factor) * per_token
                what = f"budget {budget:g} FLOPs" if budget is not None else f"{tokens:,.0f} tokens"
                context.report(
                    route,
                    f"{what} at {sized.params:,} parameters is {steps} steps of {batch} tokens, and {MIN_STEPS} are"
                    f" needed: at that size the smallest workable budget is {least:.3g} FLOPs",
                )
                continue
            for r, rate_factor in enumerate(self.learning_rate_factors):
                lr = context.fixed_lr
                if lr is None:
                    lr = context.recipe.learning_rate(architecture, batch, rate_factor)
                else:
                    lr = float(f"{lr * rate_factor:.4g}") if rate_factor != 1.0 else lr
                yield Cell(
                    fields={"architecture": architecture, "optimizer.lr": lr, "batch_tokens": batch, "steps": steps},
                    origins={
                        "architecture": sized.route,
                        "optimizer.lr": ("design", "learning_rate_factors", r),
                        "batch_tokens": ("design", "batch_factors", b),
                        "steps": route,
                    },
                    budget=budget,
                    labels={
                        "size_target": sized.target,
                        "learning_rate_factor": rate_factor,
                        "batch_factor": batch_factor,
                    },
                )

    def _batch(self, context: Context, sized: Sized, tokens: float, factor: float) -> int:
        if context.fixed_batch is None:
            return context.recipe.batch_tokens(tokens, sized.architecture, factor)
        if factor == 1.0:
            return context.fixed_batch
        seq_len = sized.architecture.seq_len
        return max(1, int(context.fixed_batch * factor / seq_len)) * seq_len
