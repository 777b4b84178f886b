"""What designs by recipe share: grids of learning-rate and batch factors about the recipe, and the least horizon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from pydantic import model_validator

from scaling.trial import MIN_STEPS
from sweeps.designs.base import Cell, Context, Design, Positives
from sweeps.designs.sizes import Sized, SizesSpec
from sweeps.yaml_source import Route


class TunedDesign(Design):
    """Sizes, and factors on the recipe's batch and rate; the rate follows the recipe at the batch so changed."""

    sizes: SizesSpec
    learning_rate_factors: Positives = (1.0,)
    batch_factors: Positives = (1.0,)

    @property
    def factors(self) -> int:
        """Cells of one size and horizon."""
        return len(self.learning_rate_factors) * len(self.batch_factors)

    def tuned(
        self,
        context: Context,
        sized: Sized,
        tokens: float,
        budget: float | None,
        route: Route,
        batches: Sequence[tuple[int, float, Route]] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> Iterator[Cell]:
        """The cells of one size and horizon (`tokens`); a horizon below MIN_STEPS is reported at `route`.

        `batches` are batches in tokens with their factor on the recipe's and their route (None: by batch_factors);
        `extra` are further fields, which come from `route` as well.
        """
        per_token = context.flops_per_token(sized.architecture)
        if batches is None:
            batches = [
                (batch_of(context, sized, tokens, factor), factor, ("design", "batch_factors", b))
                for b, factor in enumerate(self.batch_factors)
            ]
        for batch, batch_factor, origin in batches:
            steps = round(tokens / batch)
            if steps < MIN_STEPS:
                given = origin[1] != "batch_factors"
                least_batch = batch if given else batch_of(context, sized, MIN_STEPS, batch_factor)
                what = f"budget {budget:g} FLOPs" if budget is not None else f"{tokens:,.0f} tokens"
                context.report(
                    route,
                    f"{what} at {sized.params:,} parameters is {steps} steps of {batch} tokens, and {MIN_STEPS} are"
                    " needed: at that size the smallest workable budget is"
                    f" {MIN_STEPS * least_batch * per_token:.3g} FLOPs",
                )
                continue
            for r, rate_factor in enumerate(self.learning_rate_factors):
                yield Cell(
                    fields={
                        "architecture": sized.architecture,
                        "optimizer.lr": rate_of(context, sized, batch, rate_factor),
                        "batch_tokens": batch,
                        "steps": steps,
                        **(extra or {}),
                    },
                    origins={
                        "architecture": sized.route,
                        "optimizer.lr": ("design", "learning_rate_factors", r),
                        "batch_tokens": origin,
                        "steps": route,
                        **dict.fromkeys(extra or {}, route),
                    },
                    budget=budget,
                    labels={
                        "size_target": sized.target,
                        "learning_rate_factor": rate_factor,
                        "batch_factor": batch_factor,
                    },
                )


def rate_of(context: Context, sized: Sized, batch: int, factor: float) -> float:
    """The peak learning rate: the sweep's own, else the recipe's at this batch, times a factor."""
    lr = context.fixed_lr
    if lr is None:
        return context.recipe.learning_rate(sized.architecture, batch, factor)
    return float(f"{lr * factor:.4g}") if factor != 1.0 else lr


def batch_of(context: Context, sized: Sized, tokens: float, factor: float) -> int:
    """Tokens of a step: the sweep's own batch, else the recipe's for a run of `tokens`, times a factor."""
    if context.fixed_batch is None:
        return context.recipe.batch_tokens(tokens, sized.architecture, factor)
    if factor == 1.0:
        return context.fixed_batch
    seq_len = sized.architecture.seq_len
    return max(1, int(context.fixed_batch * factor / seq_len)) * seq_len


class LengthDesign(TunedDesign):
    """Sizes × horizons, given as one of `budgets` (exact FLOPs), `tokens`, or `tokens_per_parameter`."""

    lengths: ClassVar[tuple[str, ...]] = ("budgets", "tokens", "tokens_per_parameter")

    budgets: Positives | None = None
    tokens: Positives | None = None
    tokens_per_parameter: Positives | None = None

    @model_validator(mode="after")
    def _one_length(self) -> LengthDesign:
        given = [name for name in LengthDesign.lengths if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"needs exactly one of {', '.join(LengthDesign.lengths)}; {' and '.join(given) or 'none'} given"
            )
        if self.sizes.centre is not None and self.budgets is None:
            raise ValueError("sizes.centre follows budgets, and none are given; list sizes.params or sizes.widths")
        return self

    def trials(self) -> int:
        """See `Design.trials`."""
        given = self.budgets or self.tokens or self.tokens_per_parameter or ()
        return len(given) * len(self.sizes) * self.factors

    def horizons(self, context: Context) -> Iterator[tuple[Sized, float, float | None, Route]]:
        """Each size and horizon: tokens, the nominal budget where there is one, and where it was asked for."""
        for i, budget in enumerate(self.budgets or ()):
            for sized in self.sizes.architectures(context, budget):
                tokens = budget / context.flops_per_token(sized.architecture)
                yield sized, tokens, budget, ("design", "budgets", i)
        if self.budgets is not None:
            return
        for sized in self.sizes.architectures(context, None):
            for i, tokens in enumerate(self.tokens or ()):
                yield sized, tokens, None, ("design", "tokens", i)
            for i, ratio in enumerate(self.tokens_per_parameter or ()):
                yield sized, ratio * sized.params, None, ("design", "tokens_per_parameter", i)
