"""What every design states: how many trials it asks for, and the cells that become them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import Field

from scaling.architectures.base import Architecture
from scaling.objectives.base import Objective
from scaling.spec import Member
from sweeps.recipes.base import Recipe
from sweeps.yaml_source import Route

LARGEST = 1e40
"""No quantity of a design is larger; keeps arithmetic on mistaken input finite."""

Positive = Annotated[float, Field(gt=0.0, le=LARGEST)]

Positives = Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]
"""A list of one or more numbers above zero."""


@dataclass(frozen=True)
class Cell:
    """A trial to be: dotted fields over the shared settings, and where in the sweep each of them came from."""

    fields: Mapping[str, Any]
    origins: Mapping[str, Route]
    budget: float | None = None
    flops: float | None = None
    """Exact FLOPs that the horizon has to match where `steps` is left to be found."""
    tokens: float | None = None
    """Tokens that the horizon has to match where `steps` is left to be found."""
    labels: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What a design may use of its sweep.

    `build` makes an architecture from its shape; `flops_per_token` is exact and of training; `fixed_batch`, `fixed_lr`
    and `schedule` are the sweep's own where it gives them; `report` notes a problem at a route in the sweep.
    """

    recipe: Recipe
    objective: Objective
    vocab_size: int
    build: Callable[[dict[str, int]], Architecture]
    flops_per_token: Callable[[Architecture], float]
    fixed_batch: int | None
    fixed_lr: float | None
    report: Callable[[Route, str], None]
    schedule: Mapping[str, Any] | None = None


class Design(Member):
    """Which trials a sweep asks for."""

    uses_recipe: ClassVar[bool] = True
    """True where shape, horizon, batch and rate come from the design and the recipe, not from the sweep's fields."""

    varies_batch: ClassVar[bool] = False
    """True where batches are what is studied, so that large ones need no warning."""

    repeats: ClassVar[bool] = False
    """True where passing over the text more than once is what is studied."""

    @abstractmethod
    def trials(self) -> int:
        """How many cells there are at most, known before any is made."""

    @abstractmethod
    def cells(self, context: Context) -> Iterator[Cell]:
        """The cells; what cannot be one is reported and left out."""
