"""Farseer: L = exp(s N^q + S) + exp(B N^b + Q) D^−exp(A N^a + E); Li et al. 2025 (arXiv 2506.10972) eq. 3.

Floor, amplitude and exponent over data each follow the size as a stretched exponential, so that the gain from data
depends on size. The paper measures N without embeddings and L in bits per character.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from analysis.laws.base import Array, Parameter
from analysis.laws.smooth import BoundSmooth, Derivatives, SmoothLaw


@dataclass(frozen=True)
class Farseer(SmoothLaw):
    """N parameters, D tokens, L in the unit of the table. Each of the three curves wants six sizes or more."""

    name: ClassVar[str] = "farseer"
    summary: ClassVar[str] = "loss of size and data with an exponent over data that depends on size, nine parameters"
    source: ClassVar[str] = "Li et al. 2025, arXiv 2506.10972"
    needs: ClassVar[str] = "Six or more sizes with five or more amounts of data each, over two decades of both."
    misleads: ClassVar[str] = (
        "Nine parameters that trade off: a wide table is described well and extrapolated badly where one of its "
        "exponents sits at a bound. It has no closed-form optimum."
    )
    example: ClassVar[Mapping[str, float]] = {
        "s": -0.1,
        "q": 0.1,
        "S": 1.2,
        "B": 20.0,
        "b": -0.05,
        "Q": -1.5,
        "A": -0.02,
        "a": 0.1,
        "E": -1.0,
    }
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "params": (10000000.0, 1000000000000.0),
        "tokens": (1000000000.0, 10000000000.0, 100000000000.0, 1000000000000.0),
    }
    formula = "L = exp(s N^q + S) + exp(B N^b + Q) D^-exp(A N^a + E)"
    variables = ("params", "tokens")
    parameters = (
        Parameter("s", "slope of the log floor over N^q", "params^-q", -1e9, 1e9),
        Parameter("q", "exponent of params in the floor", "", 1e-3, 2.0),
        Parameter("S", "offset of the log floor", "", -1e3, 1e3),
        Parameter("B", "slope of the log amplitude over N^b", "params^-b", -1e9, 1e9),
        Parameter("b", "exponent of params in the amplitude", "", -2.0, -1e-3),
        Parameter("Q", "offset of the log amplitude", "", -1e3, 1e3),
        Parameter("A", "slope of the log exponent of data over N^a", "params^-a", -1e9, 1e9),
        Parameter("a", "exponent of params in the exponent of data", "", 1e-3, 2.0),
        Parameter("E", "offset of the log exponent of data", "", -1e3, 1e3),
    )
    log_amplitudes: ClassVar[tuple[str, ...]] = ("S", "Q")

    def respond(self, p: Mapping[str, Any], x: Mapping[str, Any]) -> Derivatives:
        """See `SmoothLaw.respond`."""
        log_n, log_d = np.log(x["params"]), np.log(x["tokens"])
        n_q, n_b, n_a = (np.exp(p[k] * log_n) for k in ("q", "b", "a"))
        floor = np.exp(p["s"] * n_q + p["S"])
        exponent = np.exp(p["A"] * n_a + p["E"])
        data = np.exp(p["B"] * n_b + p["Q"] - exponent * log_d)
        by_exponent = -data * log_d * exponent
        return floor + data, {
            "s": floor * n_q,
            "q": floor * p["s"] * n_q * log_n,
            "S": floor,
            "B": data * n_b,
            "b": data * p["B"] * n_b * log_n,
            "Q": data,
            "A": by_exponent * n_a,
            "a": by_exponent * p["A"] * n_a * log_n,
            "E": by_exponent,
        }

    def bind(self, **variables: Array) -> BoundFarseer:
        """See `Law.bind`."""
        self.check_variables(variables)
        return BoundFarseer(self, variables)

    def box(self, response: Array, x: Mapping[str, Array]) -> Mapping[str, tuple[float, float]]:
        """The slopes and the log exponent of data at the centre of the data, turned into parameters by `place`."""
        return {
            "s": (-3.0, -0.02),
            "q": (0.03, 0.6),
            "B": (0.2, 15.0),
            "b": (-0.5, -0.03),
            "A": (-3.0, -0.02),
            "a": (0.03, 0.5),
            "E": (np.log(0.1), 0.0),
        }

    def place(self, p: dict[str, Array], x: Mapping[str, Array]) -> dict[str, Array]:
        """See `box`."""
        centre = float(np.log(x["params"]).mean())
        return {
            **p,
            "s": p["s"] * np.exp(-p["q"] * centre),
            "B": p["B"] * np.exp(-p["b"] * centre),
            "A": p["A"] * np.exp(-p["a"] * centre),
            "E": p["E"] - p["A"],
        }


class BoundFarseer(BoundSmooth):
    """Coordinates of each curve k N^r + K: its slope over ln N and its level at the centre N0, and r.

    k N^r + K = level + slope ((N/N0)^r − 1)/r, which tells the three apart where k, r and K trade off.
    """

    def __init__(self, law: Farseer, variables: Mapping[str, Array]) -> None:
        super().__init__(law, variables)
        self.centre = float(self.x[0].mean())
        self.lower[[0, 3, 6]], self.upper[[0, 3, 6]] = -1e3, 1e3

    def open(self, theta: Array) -> tuple[Array, Array | None]:
        """See `BoundSmooth.open`."""
        t, slopes = theta.copy(), np.zeros((*theta.shape, theta.shape[1]))
        for k in (0, 3, 6):
            slope, r = theta[:, k], theta[:, k + 1]
            unit = np.exp(-r * self.centre) / r
            t[:, k], t[:, k + 2] = slope * unit, theta[:, k + 2] - slope / r
            slopes[:, k, k], slopes[:, k, k + 1] = unit, -slope * unit * (1.0 / r + self.centre)
            slopes[:, k + 1, k + 1] = slopes[:, k + 2, k + 2] = 1.0
            slopes[:, k + 2, k], slopes[:, k + 2, k + 1] = -1.0 / r, slope / r**2
        return t, slopes

    def close(self, t: Array) -> Array:
        """See `BoundSmooth.close`."""
        theta = t.copy()
        for k in (0, 3, 6):
            theta[:, k] = t[:, k] * t[:, k + 1] * np.exp(t[:, k + 1] * self.centre)
            theta[:, k + 2] = t[:, k + 2] + theta[:, k] / t[:, k + 1]
        return theta
