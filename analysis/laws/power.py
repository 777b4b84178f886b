"""Power law without a floor: L = A x^−alpha; Kaplan et al. 2020 (arXiv 2001.08361) §1.2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from analysis.laws.base import SumOfPowers, Term, Variable


@dataclass(frozen=True)
class Power(SumOfPowers):
    """L = A x^−alpha over x = params, tokens or flops; a straight line in log–log."""

    x: Variable = "params"

    name: ClassVar[str] = "power"
    summary: ClassVar[str] = "power law without a floor, L = A x^-alpha, over params, tokens or flops"
    source: ClassVar[str] = "Kaplan et al. 2020, arXiv 2001.08361"
    formula = "L = A x^-alpha"

    @property
    def terms(self) -> tuple[Term, ...]:
        """One power."""
        return (Term("A", "alpha", self.x),)
