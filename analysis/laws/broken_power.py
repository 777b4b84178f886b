"""Smoothly broken power law: y = E + A x^−c0 Π_i (1 + (x/d_i)^(1/f_i))^(−c_i f_i); Caballero et al. 2022 (2210.14891).

Break i lies at d_i, changes the exponent by c_i (either sign: bumps and double descent are allowed) and is the sharper
the smaller f_i.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from analysis.laws.base import Array, Parameter
from analysis.laws.smooth import BoundSmooth, Derivatives, SmoothLaw
from scaling.errors import InputError


@dataclass(frozen=True)
class BrokenPower(SmoothLaw):
    """One variable x, `breaks` breaks (1 unless said otherwise); 3 + 3·breaks parameters.

    Raises:
        InputError: fewer than one break, or more than four.
    """

    x: str = "params"
    breaks: int = 1

    name: ClassVar[str] = "broken_power"
    summary: ClassVar[str] = "power law with a floor and smooth breaks, over params, tokens or flops"
    source: ClassVar[str] = "Caballero et al. 2022, arXiv 2210.14891"
    needs: ClassVar[str] = "Many values of the variable, ten or more, on both sides of every break."
    misleads: ClassVar[str] = (
        "A break that lies beyond the data is not known, and one within noise is noise: compare with power_floor "
        "by held-out error before a break is believed."
    )
    example: ClassVar[Mapping[str, float]] = {"E": 0.6, "A": 30.0, "c0": 0.16, "c1": 0.25, "d1": 10000000.0, "f1": 0.2}
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {"params": (1000.0, 100000000000.0)}
    floor: ClassVar[str | None] = "E"
    formula = "L = E + A x^-c0 Π_i (1 + (x/d_i)^(1/f_i))^(-c_i f_i)"
    amplitudes: ClassVar[tuple[str, ...]] = ("E", "A")

    def __post_init__(self) -> None:
        if not 1 <= self.breaks <= 4:
            raise InputError(f"law broken_power takes 1 to 4 breaks; it was given {self.breaks}")

    @property
    def variables(self) -> tuple[str, ...]:  # type: ignore[override]
        """The one variable."""
        return (self.x,)

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # type: ignore[override]
        """E, A, c0, then c, d, f of each break."""
        found = [
            Parameter("E", "loss at unbounded x", "nats", 0.0, np.inf, "log"),
            Parameter("A", "amplitude before the first break", f"nats·{self.x}^c0", 0.0, np.inf, "log"),
            Parameter("c0", "exponent before the first break", "", -2.0, 4.0),
        ]
        for i in range(1, self.breaks + 1):
            found += [
                Parameter(f"c{i}", f"change of exponent at break {i}", "", -4.0, 4.0),
                Parameter(f"d{i}", f"place of break {i}", self.x, 0.0, np.inf, "log"),
                Parameter(f"f{i}", f"width of break {i}, in factors of e of x", "", 1e-2, 20.0, "log"),
            ]
        return tuple(found)

    def respond(self, p: Mapping[str, Any], x: Mapping[str, Any]) -> Derivatives:
        """See `SmoothLaw.respond`."""
        log_x = np.log(x[self.x])
        log_shape = -p["c0"] * log_x
        parts = {}
        for i in range(1, self.breaks + 1):
            c, d, f = p[f"c{i}"], p[f"d{i}"], p[f"f{i}"]
            z = (log_x - np.log(d)) / f
            small = np.exp(-np.where(np.real(z) > 0, z, -z))
            soft = np.where(np.real(z) > 0, z, 0.0) + np.log1p(small)
            gate = np.where(np.real(z) > 0, 1.0, small) / (1.0 + small)
            log_shape = log_shape - c * f * soft
            parts[i] = (c, d, f * soft, gate, soft - gate * z)
        shape = np.exp(log_shape)
        power = p["A"] * shape
        found = {"E": 1.0, "A": shape, "c0": -power * log_x}
        for i, (c, d, run, gate, width) in parts.items():
            found |= {f"c{i}": -power * run, f"d{i}": power * c * gate / d, f"f{i}": -power * c * width}
        return p["E"] + power, found

    def box(self, response: Array, x: Mapping[str, Array]) -> Mapping[str, tuple[float, float]]:
        """Exponents either side of the breaks, each break in its part of the data, widths of .1 to 3 factors of e."""
        low, high = float(np.log(x[self.x].min())), float(np.log(x[self.x].max()))
        ends = np.exp(np.linspace(low, max(high, low + 1e-3), self.breaks + 1)).tolist()
        found = {"c0": (0.0, 1.0)}
        for i in range(1, self.breaks + 1):
            found |= {f"c{i}": (-0.6, 0.8), f"d{i}": (ends[i - 1], ends[i]), f"f{i}": (0.1, 3.0)}
        return found

    def bind(self, **variables: Array) -> BoundBroken:
        """See `Law.bind`."""
        self.check_variables(variables)
        return BoundBroken(self, variables)


class BoundBroken(BoundSmooth):
    """Breaks change places freely while solved; what is named has them in order of d."""

    def named(self, theta: Array) -> dict[str, Array]:
        """See `Bound.named`."""
        found = super().named(theta)
        places = sorted(int(name[1:]) for name in found if name.startswith("d"))
        order = np.argsort(np.stack([found[f"d{i}"] for i in places]), axis=0)
        for letter in "cdf":
            ordered = np.take_along_axis(np.stack([found[f"{letter}{i}"] for i in places]), order, axis=0)
            found |= {f"{letter}{i}": ordered[k] for k, i in enumerate(places)}
        return found
