"""Power law with a floor: L = E + A x^−alpha; Henighan et al. 2020 (arXiv 2010.14701) eq. 1.1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from analysis.laws.base import SumOfPowers, Term


@dataclass(frozen=True)
class PowerFloor(SumOfPowers):
    """L = E + A x^−alpha over x = params, tokens or flops."""

    x: str = "params"

    name: ClassVar[str] = "power_floor"
    summary: ClassVar[str] = "power law with a floor, L = E + A x^-alpha, over params, tokens or flops"
    source: ClassVar[str] = "Henighan et al. 2020, arXiv 2010.14701"
    needs: ClassVar[str] = (
        "Values over two decades or more, with the lowest losses near the floor: without them the floor is "
        "bounded above only."
    )
    misleads: ClassVar[str] = (
        "Floor and exponent trade off. At a loss three quarters above the floor the local slope is less than half"
        " the exponent, so the same runs fit a low floor with a small exponent and a high one with a large one."
    )
    example: ClassVar[Mapping[str, float]] = {"E": 1.7, "A": 90.0, "alpha": 0.3}
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {"params": (1000000.0, 100000000000.0)}
    formula = "L = E + A x^-alpha"
    floor: ClassVar[str | None] = "E"

    @property
    def terms(self) -> tuple[Term, ...]:
        """One power."""
        return (Term("A", "alpha", self.x),)
