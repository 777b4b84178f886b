"""Cosine decay matched to the horizon: Hoffmann et al. 2022 (arXiv 2203.15556) App. B; Loshchilov and Hutter 2017."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field

from scaling.schedules.base import Schedule


class Cosine(Schedule):
    """Cosine decay matched to the horizon."""

    type: Literal["cosine"] = "cosine"
    summary: ClassVar[str] = "cosine decay matched to the horizon"
    source: ClassVar[str] = "Hoffmann et al. 2022 (arXiv 2203.15556) App. B; Loshchilov and Hutter 2017"

    final_fraction: float = Field(default=0.1, ge=0.0, le=1.0)

    def shape(self, progress: float) -> float:
        """f + (1 − f)(1 + cos πp)/2 with f = `final_fraction`."""
        return self.final_fraction + (1.0 - self.final_fraction) * 0.5 * (1.0 + math.cos(math.pi * progress))
