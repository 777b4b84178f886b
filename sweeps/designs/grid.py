"""Grid: the product of explicit lists over any fields of a trial, by dotted path; no recipe, every field is given."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from sweeps.designs.base import LARGEST, Cell, Context, Design
from sweeps.yaml_source import Route, kind

HORIZONS = ("steps", "tokens", "flops")

Axis = Annotated[tuple[Any, ...], Field(strict=False, min_length=1)]


class Grid(Design):
    """`axes`: dotted path → values; a mapping as a value sets several fields together.

    The horizon is an axis too: `steps`, or `tokens`, or `flops` (exact), from which whole steps are found.
    """

    type: Literal["grid"] = "grid"
    summary: ClassVar[str] = "product of explicit lists over any fields"
    source: ClassVar[str] = "full factorial design"
    uses_recipe: ClassVar[bool] = False

    axes: Annotated[dict[str, Axis], Field(min_length=1)]

    @field_validator("axes")
    @classmethod
    def _known_rules(cls, axes: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        horizons = [name for name in HORIZONS if name in axes]
        if len(horizons) > 1:
            raise ValueError(f"{' and '.join(horizons)} both set the horizon; keep one")
        if "seed" in axes:
            raise ValueError("seed is not an axis; list the seeds in the sweep's field seeds")
        return axes

    def trials(self) -> int:
        """See `Design.trials`."""
        return math.prod(len(values) for values in self.axes.values())

    def cells(self, context: Context) -> Iterator[Cell]:
        """See `Design.cells`."""
        for name in ("tokens", "flops"):
            for i, value in enumerate(self.axes.get(name, ())):
                if not _positive(value):
                    context.report(
                        ("design", "axes", name, i),
                        f"must be a number above 0 (at most {LARGEST:g}), not {kind(value)}",
                    )
        names = sorted(self.axes, key=lambda name: name.count("."))  # a whole part before what is inside it
        for indices in itertools.product(*(range(len(self.axes[name])) for name in names)):
            chosen = {name: self.axes[name][i] for name, i in zip(names, indices, strict=True)}
            origins: dict[str, Route] = {
                name: ("design", "axes", name, i) for name, i in zip(names, indices, strict=True)
            }
            tokens, flops = chosen.pop("tokens", None), chosen.pop("flops", None)
            if any(v is not None and not _positive(v) for v in (tokens, flops)):
                continue
            yield Cell(chosen, origins, budget=flops, flops=flops, tokens=tokens)


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= LARGEST
