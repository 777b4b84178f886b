"""Power law without a floor: L = A x^−alpha; Kaplan et al. 2020 (arXiv 2001.08361) eqs. 1.1 to 1.3.

Kaplan writes (x_c/x)^alpha; here A = x_c^alpha, so that x_c = A^(1/alpha).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from analysis.laws.base import SumOfPowers, Term

PF_DAY = 8.64e19
"""FLOPs of a PF-day, in which Kaplan et al. give compute."""


def scaled(x_c: float, alpha: float) -> dict[str, float]:
    """A and alpha of (x_c/x)^alpha."""
    return {"A": x_c**alpha, "alpha": alpha}


@dataclass(frozen=True)
class Power(SumOfPowers):
    """L = A x^−alpha over one variable x; a straight line in log–log.

    Kaplan's constants are for non-embedding parameters, and tokens of a vocabulary of 50,257: L(N) at convergence,
    L(D) with early stopping, L(C) at a fixed batch (`kaplan_2020`) and at C_min (`kaplan_2020_min`), C in FLOPs.
    """

    x: str = "params"

    name: ClassVar[str] = "power"
    summary: ClassVar[str] = "power law without a floor, L = A x^-alpha, over params, tokens or flops"
    source: ClassVar[str] = "Kaplan et al. 2020, arXiv 2001.08361"
    needs: ClassVar[str] = (
        "Five or more values of the variable over two decades, everything else ample: size with data to spare, or"
        " data with size to spare."
    )
    misleads: ClassVar[str] = (
        "It has no floor. Near one it bends away, its exponent then depends on the range that was run, and "
        "extrapolations are too low."
    )
    formula = "L = A x^-alpha"
    published: ClassVar[Mapping[str, Mapping[str, Mapping[str, float]]]] = {
        "params": {"kaplan_2020": scaled(8.8e13, 0.076)},
        "tokens": {"kaplan_2020": scaled(5.4e13, 0.095)},
        "flops": {"kaplan_2020": scaled(1.6e7 * PF_DAY, 0.057), "kaplan_2020_min": scaled(3.1e8 * PF_DAY, 0.050)},
    }

    @property
    def instances(self) -> Mapping[str, Mapping[str, float]]:  # type: ignore[override]
        """Published constants over this x."""
        return self.published.get(self.x, {})

    @property
    def terms(self) -> tuple[Term, ...]:
        """One power."""
        return (Term("A", "alpha", self.x),)
