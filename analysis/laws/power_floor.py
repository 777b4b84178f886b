"""Power law with a floor: L = E + A x^−alpha; Henighan et al. 2020 (arXiv 2010.14701) eq. 1.1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from analysis.laws.base import SumOfPowers, Term, Variable


@dataclass(frozen=True)
class PowerFloor(SumOfPowers):
    """L = E + A x^−alpha over x = params, tokens or flops."""

    x: Variable = "params"

    name: ClassVar[str] = "power_floor"
    summary: ClassVar[str] = "power law with a floor, L = E + A x^-alpha, over params, tokens or flops"
    source: ClassVar[str] = "Henighan et al. 2020, arXiv 2010.14701"
    formula = "L = E + A x^-alpha"
    floor: ClassVar[str | None] = "E"

    @property
    def terms(self) -> tuple[Term, ...]:
        """One power."""
        return (Term("A", "alpha", self.x),)
