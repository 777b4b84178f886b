"""Model sizes as a sweep names them: parameters, widths, or a row spaced about a centre N = coefficient·C^exponent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

from pydantic import Field, ValidationError, model_validator

from scaling.accounting import CountName
from scaling.architectures.base import Architecture
from scaling.spec import Count, Frozen
from sweeps.designs.base import LARGEST, Context, Positives
from sweeps.shorthand import Shorthand
from sweeps.yaml_source import Route


class Centre(Frozen):
    """N = coefficient·C^exponent parameters at a budget of C exact FLOPs."""

    coefficient: float = Field(gt=0.0, le=LARGEST)
    exponent: float = Field(default=0.5, gt=0.0, lt=2.0)

    def at(self, flops: float) -> float:
        """Parameters at the centre of a budget."""
        return self.coefficient * flops**self.exponent


class Sized(NamedTuple):
    """An architecture, its size under the convention, the size asked for (0 for widths), and where it was asked."""

    architecture: Architecture
    params: int
    target: float
    route: Route


class Sizes(Frozen):
    """One of `params`, `widths`, `centre` (with `number` and `ratio`); `count` says which parameters are counted."""

    params: Positives | None = None
    widths: Annotated[tuple[Count, ...], Field(strict=False, min_length=1)] | None = None
    centre: Centre | None = None
    number: Annotated[Count, Field(le=100)] = 5
    """Sizes about the centre."""
    ratio: float = Field(default=2.0, gt=1.0, le=100.0)
    """From each size to the next."""
    count: CountName = "non_embedding"

    @model_validator(mode="after")
    def _one_way(self) -> Sizes:
        given = [name for name in ("params", "widths", "centre") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"needs exactly one of params, widths, centre; {found} given")
        if self.centre is None and self.model_fields_set & {"number", "ratio"}:
            raise ValueError(f"number and ratio belong to centre; with {given[0]} every size is listed")
        return self

    def __len__(self) -> int:
        return len(self.params or self.widths or range(self.number))

    def wanted(self, budget: float | None) -> list[tuple[float | int, Route]]:
        """The targets (parameters or widths), ascending for a centre, with their routes below `sizes`."""
        if self.centre is not None and budget is not None:
            middle = self.centre.at(budget)
            offsets = [i - (self.number - 1) / 2 for i in range(self.number)]
            return [(middle * self.ratio**offset, ("centre",)) for offset in offsets]
        name = "params" if self.params is not None else "widths"
        return [(value, (name, i)) for i, value in enumerate(self.params or self.widths or ())]

    def architectures(self, context: Context, budget: float | None) -> Iterator[Sized]:
        """The architectures; a size without one is reported."""
        for value, below in self.wanted(budget):
            route: Route = ("design", "sizes", *below)
            try:
                if self.widths is not None:
                    architecture = context.recipe.of_width(int(value), context.build)
                else:
                    architecture = context.recipe.shape(float(value), context.build, self.size(context))
            except ValueError as error:
                reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
                at = f" (at budget {budget:g})" if budget is not None and self.centre is not None else ""
                context.report(route, reason.removeprefix("Value error, ") + at)
                continue
            target = 0.0 if self.widths is not None else float(value)
            yield Sized(architecture, self.size(context)(architecture), target, route)

    def size(self, context: Context) -> Any:
        """Parameters of an architecture under this convention, as a function."""
        return lambda shape: context.objective.params(shape, context.vocab_size).by_name(self.count)


def _from_list(value: Any) -> Any:
    return {"params": value} if isinstance(value, list) else value


SizesSpec = Annotated[Sizes, Shorthand(_from_list, {"type": "array", "items": {"type": "number"}, "minItems": 1})]
"""Sizes; a bare list is a list of parameters."""
