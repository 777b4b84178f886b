"""What every recipe states: shape from size or width, batch from tokens, peak learning rate from shape and batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Container
from typing import ClassVar

from pydantic import Field

from scaling.architectures.base import Architecture
from scaling.spec import Member

Build = Callable[[dict[str, int]], Architecture]
"""Makes an architecture from its shape fields; raises pydantic's ValidationError where they do not fit."""

Size = Callable[[Architecture], int]
"""Parameters of an architecture under one convention."""


class Recipe(Member):
    """Maps a size and a horizon to everything a trial needs; `warmup_fraction` is a share of the run."""

    gives: ClassVar[tuple[str, ...]] = ("n_layer", "d_model", "n_head")
    """Architecture fields that the recipe sets, where the architecture has them."""

    warmup_fraction: float = Field(default=0.1, ge=0.0, lt=1.0)

    def given_to(self, fields: Container[str]) -> tuple[str, ...]:
        """Those of `gives` among an architecture's fields: an LSTM has no heads."""
        return tuple(name for name in self.gives if name in fields)

    @abstractmethod
    def shape(self, target: float, build: Build, size: Size) -> Architecture:
        """The architecture whose `size` is nearest to `target` parameters.

        Raises:
            ValueError: no shape comes near the target; the message names the nearest.
        """

    @abstractmethod
    def of_width(self, width: int, build: Build) -> Architecture:
        """The architecture of a given width.

        Raises:
            ValueError: the width cannot be split into heads.
        """

    @abstractmethod
    def batch_tokens(self, tokens: float, architecture: Architecture, factor: float = 1.0) -> int:
        """Tokens of an optimizer step for a run of `tokens` tokens, times `factor`: a multiple of the window."""

    @abstractmethod
    def learning_rate(self, architecture: Architecture, batch_tokens: int, factor: float = 1.0) -> float:
        """Peak learning rate, times `factor`."""
