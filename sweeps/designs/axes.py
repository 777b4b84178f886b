"""What designs without a recipe share: fields by dotted path, each a list of values, and the horizon among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from sweeps.designs.base import LARGEST, Cell, Context, Design
from sweeps.yaml_source import Route, kind

HORIZONS = ("steps", "tokens", "flops")

Axis = Annotated[tuple[Any, ...], Field(strict=False, min_length=1)]


class AxesDesign(Design):
    """`axes`: dotted path → values; a mapping as a value sets several fields together.

    The horizon is an axis too: `steps`, or `tokens`, or `flops` (exact), from which whole steps are found.
    """

    uses_recipe: ClassVar[bool] = False

    axes: Annotated[dict[str, Axis], Field(min_length=1)]

    @field_validator("axes")
    @classmethod
    def _known_rules(cls, axes: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        check_names(axes)
        return axes

    def report_bad_horizons(self, context: Context) -> None:
        """Reports values of a horizon that are no quantity."""
        for name in ("tokens", "flops"):
            for i, value in enumerate(self.axes.get(name, ())):
                if not positive(value):
                    context.report(
                        ("design", "axes", name, i),
                        f"must be a number above 0 (at most {LARGEST:g}), not {kind(value)}",
                    )

    def chosen(self, indices: Mapping[str, int]) -> tuple[dict[str, Any], dict[str, Route]]:
        """Values and origins of the axes at one index each, a whole part before what is inside it."""
        names = sorted(indices, key=lambda name: name.count("."))
        values = {name: self.axes[name][indices[name]] for name in names}
        return values, {name: ("design", "axes", name, indices[name]) for name in names}


def cell(fields: dict[str, Any], origins: dict[str, Route]) -> Iterator[Cell]:
    """One cell of dotted fields, its horizon set apart; none where the horizon is no quantity."""
    tokens, flops = fields.pop("tokens", None), fields.pop("flops", None)
    if all(v is None or positive(v) for v in (tokens, flops)):
        yield Cell(fields, origins, budget=flops, flops=flops, tokens=tokens)


def check_names(names: Mapping[str, Any]) -> None:
    """Raises ValueError where two names set the horizon, or one is the seed."""
    horizons = [name for name in HORIZONS if name in names]
    if len(horizons) > 1:
        raise ValueError(f"{' and '.join(horizons)} both set the horizon; keep one")
    if "seed" in names:
        raise ValueError("seed is not an axis; list the seeds in the sweep's field seeds")


def positive(value: Any) -> bool:
    """Whether a value is a usable quantity."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= LARGEST
