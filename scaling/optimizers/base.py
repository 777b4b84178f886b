"""What every optimizer states: its peak learning rate, its settings by parameter, and its update of flat tensors.

Parameters of a model lie in one flat tensor, those of equal settings side by side: an update is one pass over memory.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from scaling.parametrisation import STANDARD, Role
from scaling.spec import Member

if TYPE_CHECKING:
    from torch import Tensor


class Settings(NamedTuple):
    """What may differ between the parameters of a model."""

    weight_decay: float = 0.0
    lr_scale: float = 1.0
    eps_scale: float = 1.0


class Stretch(NamedTuple):
    """Flat parameters `start` to `stop` that share their settings."""

    start: int
    stop: int
    settings: Settings


class Optimizer(Member):
    """`lr` is the peak learning rate; `clip` the largest gradient norm (None: no clipping)."""

    lr: float = Field(gt=0.0)
    clip: float | None = Field(default=1.0, gt=0.0)

    @abstractmethod
    def settings(self, name: str, shape: Sequence[int], role: Role = STANDARD) -> Settings:
        """The settings of a model's parameter, by its dotted name, its shape and its role in the parametrisation."""

    @abstractmethod
    def state(self, theta: Tensor) -> dict[str, Tensor]:
        """State before the first step: tensors shaped as `theta`, (N,) or (S, N) for S models."""

    @abstractmethod
    def update(
        self, theta: Tensor, grad: Tensor, state: dict[str, Tensor], stretches: Sequence[Stretch], step: int, lr: Tensor
    ) -> None:
        """One step, in place.

        Args:
            theta: parameters, (N,) or (S, N).
            grad: their gradient after clipping, likewise.
            state: as `state` made it.
            stretches: where settings change.
            step: steps done, this one included: from 1.
            lr: learning rate, (), or (S,) where each model has its own; a rate of 0 leaves a model as it is.
        """
