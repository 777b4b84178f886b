"""Hoffmann's law of size and data: L = E + A N^−alpha + B D^−beta, and its compute-optimal frontier.

Hoffmann et al. 2022 (arXiv 2203.15556) eqs. 2 and 4; constants also from Besiroglu et al. 2024 (arXiv 2404.10102).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from analysis.laws.base import Array, SumOfPowers, Term


class Optimum(NamedTuple):
    """Compute-optimal parameters, tokens and loss (nats), shaped as the budgets asked for."""

    params: Array
    tokens: Array
    loss: Array


@dataclass(frozen=True)
class Chinchilla(SumOfPowers):
    """L = E + A N^−alpha + B D^−beta; N parameters, D tokens, L nats per token."""

    name: ClassVar[str] = "chinchilla"
    summary: ClassVar[str] = "loss of size and data, L = E + A N^-alpha + B D^-beta"
    source: ClassVar[str] = "Hoffmann et al. 2022, arXiv 2203.15556"
    needs: ClassVar[str] = (
        "A grid, or five isoFLOP budgets of five to seven sizes, over two decades of compute; sizes and tokens "
        "must not move together."
    )
    misleads: ClassVar[str] = (
        "It holds the exponents fixed over all scales and the gain from data the same at every size; repeated "
        "tokens, untuned rungs and unfinished schedules all pass for exponents. A and B alone mean little: only "
        "with alpha and beta."
    )
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "params": (1000000.0, 1000000000000.0),
        "tokens": (1000000000.0, 10000000000.0, 100000000000.0, 1000000000000.0),
    }
    formula = "L = E + A N^-alpha + B D^-beta"
    floor: ClassVar[str | None] = "E"
    instances: ClassVar[Mapping[str, Mapping[str, float]]] = {
        # The TeX source's ln A, ln B, ln E; the rounded values of eq. 10 move the exponent of N* from .457 to .452.
        "hoffmann_2022": {
            "E": exp(0.5267228),
            "A": exp(6.0073404),
            "alpha": 0.33917084,
            "B": exp(6.0179186),
            "beta": 0.2849083,
        },
        "hoffmann_2022_rounded": {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28},
        "besiroglu_2024": {"E": 1.8172, "A": 482.01, "alpha": 0.3478, "B": 2085.43, "beta": 0.3658},
    }

    @property
    def terms(self) -> tuple[Term, ...]:
        """Size, then data."""
        return (Term("A", "alpha", "params"), Term("B", "beta", "tokens"))

    def frontier(self, params: Mapping[str, Any], flops: ArrayLike, kappa: float = 6.0) -> Optimum:
        """N*, D*, L* at budgets `flops` where a run costs C = kappa·N·D (eq. 4); parameters and budgets broadcast.

        N* = G (C/kappa)^(beta/(alpha+beta)), D* = (C/kappa)/N*, G = (alpha A/(beta B))^(1/(alpha+beta)). Where an
        amplitude is 0 there is no interior optimum: 0, infinity or NaN comes back.
        """
        alpha, beta = np.asarray(params["alpha"]), np.asarray(params["beta"])
        with np.errstate(all="ignore"):
            log_nd = np.log(np.asarray(flops, dtype=np.float64) / kappa)
            log_n = self.log_scale(params) + beta / (alpha + beta) * log_nd
            n, d = np.exp(log_n), np.exp(log_nd - log_n)
            return Optimum(n, d, self.predict(params, params=n, tokens=d))

    @staticmethod
    def log_scale(params: Mapping[str, Any]) -> Array:
        """ln G of the frontier."""
        alpha, beta = np.asarray(params["alpha"]), np.asarray(params["beta"])
        with np.errstate(all="ignore"):
            ratio = np.log(alpha) + np.log(params["A"]) - np.log(beta) - np.log(params["B"])
            return np.asarray(ratio / (alpha + beta), dtype=np.float64)
