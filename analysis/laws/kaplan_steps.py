"""Kaplan's law of size and steps: L = A N^−alpha + B S^−beta, S = S_min; Kaplan et al. 2020 (2001.08361) eq. 1.6.

In Kaplan's terms (N_c/N)^alpha_N + (S_c/S_min)^alpha_S: the loss after warmup, with data in plenty, where S_min =
S/(1 + B_crit/B) are the steps that a batch far above the critical size would take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from analysis.laws.base import SumOfPowers, Term


class EfficientExponents(NamedTuple):
    """Exponents over C_min of compute-efficient training: L falls, the others grow."""

    loss: float
    params: float
    batch: float
    steps: float
    tokens: float


@dataclass(frozen=True)
class KaplanSteps(SumOfPowers):
    """N non-embedding parameters, S_min optimizer steps, L nats per token."""

    name: ClassVar[str] = "kaplan_steps"
    summary: ClassVar[str] = "Kaplan's loss of size and optimizer steps, L = A N^-alpha + B S^-beta"
    source: ClassVar[str] = "Kaplan et al. 2020, arXiv 2001.08361"
    needs: ClassVar[str] = (
        "Learning curves after their warmup, from sizes over two decades, with steps corrected to a batch far "
        "below the critical one."
    )
    misleads: ClassVar[str] = (
        "A point in the middle of a decaying schedule is not the loss of a run of that length: curves of one long"
        " run bias the exponent of steps."
    )
    view: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "params": (100000.0, 10000000000.0),
        "steps": (1000.0, 10000.0, 100000.0, 1000000.0),
    }
    formula = "L = A N^-alpha + B S^-beta"
    instances: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "kaplan_2020": {"A": 6.5e13**0.077, "alpha": 0.077, "B": 2.1e3**0.76, "beta": 0.76},
    }

    @property
    def terms(self) -> tuple[Term, ...]:
        """Size, then steps."""
        return (Term("A", "alpha", "params"), Term("B", "beta", "steps"))

    @staticmethod
    def efficient_exponents(params: Mapping[str, float], alpha_B: float = 0.21) -> EfficientExponents:
        """Exponents at the critical batch; that of the loss is 1/(1/alpha_S + 1/alpha_B + 1/alpha_N).

        `alpha_B` is that of the law `critical_batch`; Kaplan et al. 2020 eq. B.7.
        """
        alpha_n, alpha_s = params["alpha"], params["beta"]
        loss = 1.0 / (1.0 / alpha_s + 1.0 / alpha_B + 1.0 / alpha_n)
        batch, steps = loss / alpha_B, loss / alpha_s
        return EfficientExponents(loss, loss / alpha_n, batch, steps, batch + steps)
