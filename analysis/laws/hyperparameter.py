"""What the laws of tuned hyperparameters share: a power law of size, data or compute, exponents of either sign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from analysis.laws.base import Array, Parameter
from analysis.laws.smooth import Derivatives, SmoothLaw
from scaling.errors import InputError

EXPONENTS = {"params": "alpha", "tokens": "beta", "flops": "gamma"}
"""The exponent's name for each variable."""

SIZE_AND_DATA = "params_tokens"

_BOUND = 5.0


@dataclass(frozen=True)
class HyperparameterLaw(SmoothLaw):
    """y = A N^alpha D^beta over `x` = params_tokens, or one power of params, tokens or flops (A C^gamma).

    A table for these laws has one row for each optimum; `fit_hyperparameters` finds the optima of a grid of runs.
    `choices` are what x may be, `published` holds the instances by x.
    """

    x: str = SIZE_AND_DATA

    choices: ClassVar[tuple[str, ...]] = (SIZE_AND_DATA, *EXPONENTS)
    response_unit: ClassVar[str] = ""
    symbol: ClassVar[str] = ""
    published: ClassVar[Mapping[str, Mapping[str, Mapping[str, float]]]] = {}
    amplitudes: ClassVar[tuple[str, ...]] = ("A",)

    def __post_init__(self) -> None:
        if self.x not in self.choices:
            raise InputError(f"law {self.name} has no variable {self.x!r}; it takes one of {', '.join(self.choices)}")

    @property
    def variables(self) -> tuple[str, ...]:  # type: ignore[override]
        """Size and data, or the one variable."""
        return ("params", "tokens") if self.x == SIZE_AND_DATA else (self.x,)

    @property
    def formula(self) -> str:  # type: ignore[override]
        """As a power law in the variables' symbols."""
        symbols = {"params": "N", "tokens": "D", "flops": "C"}
        return f"{self.symbol} = A " + " ".join(f"{symbols[v]}^{EXPONENTS[v]}" for v in self.variables)

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # type: ignore[override]
        """The amplitude, then an exponent for each variable."""
        unit = "·".join([self.response_unit, *(f"{v}^-{EXPONENTS[v]}" for v in self.variables)]).strip("·")
        return (
            Parameter("A", f"amplitude of {self.response}", unit, 0.0, np.inf, "log"),
            *(Parameter(EXPONENTS[v], f"exponent of {v}", "", -_BOUND, _BOUND) for v in self.variables),
        )

    @property
    def instances(self) -> Mapping[str, Mapping[str, float]]:  # type: ignore[override]
        """Published constants for these variables."""
        return self.published.get(self.x, {})

    @property
    def pivots(self) -> Mapping[str, tuple[tuple[str, str, float], ...]]:  # type: ignore[override]
        """The amplitude is moved at the centre of the data."""
        return {"A": tuple((EXPONENTS[v], v, 1.0) for v in self.variables)}

    def respond(self, p: Mapping[str, Any], x: Mapping[str, Any]) -> Derivatives:
        """See `SmoothLaw.respond`."""
        logs = {v: np.log(x[v]) for v in self.variables}
        power: Any = np.exp(sum(p[EXPONENTS[v]] * logs[v] for v in self.variables))
        value = p["A"] * power
        return value, {"A": power, **{EXPONENTS[v]: value * logs[v] for v in self.variables}}

    def box(self, response: Array, x: Mapping[str, Array]) -> Mapping[str, tuple[float, float]]:
        """See `SmoothLaw.box`."""
        return {EXPONENTS[v]: (-1.5, 1.5) for v in self.variables}
