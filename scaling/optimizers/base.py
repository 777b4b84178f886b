"""What every optimizer states: its peak learning rate and how to build it over named parameters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from scaling.spec import Member

if TYPE_CHECKING:
    import torch


class Optimizer(Member):
    """`lr` is the peak learning rate; `clip` the largest gradient norm (None: no clipping)."""

    lr: float = Field(gt=0.0)
    clip: float | None = Field(default=1.0, gt=0.0)

    @abstractmethod
    def build(self, parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> torch.optim.Optimizer:
        """The optimizer over (name, parameter) pairs."""
