"""Token horizons on one trunk: each size trained once at a constant rate, with a cooldown branch at every horizon.

Hägele et al. 2024 (arXiv 2405.18392): warmup-stable-decay. All horizons of a size have one batch, one rate and one
warmup in steps, so that their runs are the same until the first branches off: they share a lineage, and a job that
holds them trains the trunk once. Another horizon added later trains only what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from scaling.trial import MIN_STEPS
from sweeps.designs.base import Cell, Context, Positives
from sweeps.designs.sizes import Sized
from sweeps.designs.tuned import TunedDesign, batch_of


class Trunk(TunedDesign):
    """`sizes` × `horizons` (tokens) or `tokens_per_parameter`, under schedule wsd.

    The batch is the recipe's for the shortest horizon, unless the sweep gives one: longer runs then take more steps
    than they need, and none has a batch too large for it. The warmup is that share of the shortest horizon.
    """

    type: Literal["trunk"] = "trunk"
    summary: ClassVar[str] = "token horizons as cooldown branches of one warmup-stable-decay trunk a size"
    source: ClassVar[str] = "Hägele et al. 2024 (arXiv 2405.18392)"

    horizons: Positives | None = None
    """Tokens."""
    tokens_per_parameter: Positives | None = None
    base: float | None = Field(default=None, gt=0.0)
    """Tokens (or tokens per parameter) that set batch and warmup; the shortest of all where left out.

    Set it where shorter horizons may be added later, so that the runs already there keep their trunk.
    """

    @model_validator(mode="after")
    def _one_length(self) -> Trunk:
        given = [name for name in ("horizons", "tokens_per_parameter") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"needs exactly one of horizons, tokens_per_parameter; {' and '.join(given) or 'none'} given"
            )
        if self.sizes.centre is not None:
            raise ValueError("no budgets here for sizes.centre to follow; list sizes.params or sizes.widths")
        return self

    @property
    def lengths(self) -> tuple[float, ...]:
        """The horizons as given."""
        return self.horizons or self.tokens_per_parameter or ()

    def trials(self) -> int:
        """See `Design.trials`."""
        return len(self.lengths) * len(self.sizes) * self.factors

    def cells(self, context: Context) -> Iterator[Cell]:
        """See `Design.cells`."""
        schedule = dict(context.schedule or {})
        if schedule.get("type", "wsd") != "wsd":
            context.report(("schedule",), f"is {schedule['type']}, and horizons on one trunk need wsd; write wsd")
            return
        cooldown = schedule.get("decay_fraction", 0.2)
        share = schedule.get("warmup_fraction", context.recipe.warmup_fraction)
        if share + cooldown >= 1.0:
            context.report(
                ("schedule",), f"warmup {share:g} and cooldown {cooldown:g} leave no trunk; make them smaller"
            )
            return
        for sized in self.sizes.architectures(context, None):
            for factor_index, factor in enumerate(self.batch_factors):
                yield from self._one_trunk(context, sized, factor_index, factor, share, schedule, cooldown)

    def _one_trunk(
        self,
        context: Context,
        sized: Sized,
        index: int,
        factor: float,
        share: float,
        schedule: dict[str, Any],
        cooldown: float,
    ) -> Iterator[Cell]:
        """The branches of one size and batch."""
        unit = 1.0 if self.horizons is not None else float(sized.params)
        name = "horizons" if self.horizons is not None else "tokens_per_parameter"
        shortest = (self.base if self.base is not None else min(self.lengths)) * unit
        batch = batch_of(context, sized, shortest, factor)
        warmup = schedule.get("warmup_steps")
        if warmup is None:
            warmup = max(1, round(share * max(MIN_STEPS, round(shortest / batch))))
        for i, length in enumerate(self.lengths):
            steps = round(length * unit / batch)
            if steps >= MIN_STEPS and warmup >= (1.0 - cooldown) * steps:
                context.report(
                    ("design", name, i),
                    f"{steps} steps end their trunk before the {warmup} steps of warmup do; lengthen it, or set base",
                )
                continue
            yield from self.tuned(
                context,
                sized,
                length * unit,
                None,
                ("design", name, i),
                [(batch, factor, ("design", "batch_factors", index))],
                {"schedule": {"type": "wsd", "warmup_steps": warmup}},
            )
