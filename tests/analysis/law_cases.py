"""One set of parameters and points for each law of a plain table, for the tests that run over the registry."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.laws import get_law
from analysis.laws.base import Law, SumOfPowers
from analysis.laws.broken_power import BrokenPower
from analysis.laws.smooth import SmoothLaw

_RNG = np.random.default_rng(0)
POINTS = {
    "params": np.exp(_RNG.uniform(np.log(1e7), np.log(1e10), 40)),
    "tokens": np.exp(_RNG.uniform(np.log(1e9), np.log(1e12), 40)),
    "flops": np.exp(_RNG.uniform(np.log(1e18), np.log(1e23), 40)),
    "unique_tokens": np.exp(_RNG.uniform(np.log(1e9), np.log(1e11), 40)),
    "steps": np.exp(_RNG.uniform(np.log(1e3), np.log(1e6), 40)),
    "batch_tokens": np.exp(_RNG.uniform(np.log(1e4), np.log(1e7), 40)),
    "lr": np.exp(_RNG.uniform(np.log(1e-5), np.log(1e-1), 40)),
    "loss": np.exp(_RNG.uniform(np.log(2.0), np.log(6.0), 40)),
}
VALUES: dict[str, dict[str, float]] = {
    "batch_trade_off": {"S_min": 2e4, "B_crit": 4e5},
    "bounded": {
        "E": 1.9, "L0": 10.8, "a": 60.0, "alpha": 0.35, "b": 200.0, "beta": 0.36,
        "c": 8e3, "gamma": 0.35, "delta": 0.75,
    },
    "broken_power": {"E": 1.5, "A": 40.0, "c0": 0.15, "c1": 0.2, "d1": 3e8, "f1": 0.7},
    "broken_power_2": {
        "E": 1.5, "A": 40.0, "c0": 0.3, "c1": -0.25, "d1": 6e7, "f1": 0.3, "c2": 0.3, "d2": 2e9, "f2": 0.4,
    },
    "chinchilla": dict(get_law("chinchilla").instances["besiroglu_2024"]),
    "downstream": {"eps": 0.85, "k": 2.0, "gamma": 0.7},
    "downstream_sigmoid": {"low": 0.3, "high": 0.75, "k": 3.0, "L0": 3.5},
    "farseer": {
        "s": -0.05, "q": 0.14, "S": 0.1, "B": 90.0, "b": -0.11, "Q": -6.0, "A": -0.09, "a": 0.13, "E": 0.2,
    },
    "power": {"A": 12.0, "alpha": 0.08},
    "power_floor": {"E": 1.6, "A": 80.0, "alpha": 0.2},
    "tied": {"E": 1.8, "A": 400.0, "B": 1500.0, "alpha": 0.34},
}  # fmt: skip


def laws() -> dict[str, Law]:
    """Every registered law of a plain table by name, and the broken power law with two breaks."""
    from analysis.registry import classes

    found = {name: cls() for name, cls in classes("analysis.laws", Law).items() if issubclass(cls, PLAIN)}
    return {**found, "broken_power_2": BrokenPower(breaks=2)}


PLAIN = (SumOfPowers, SmoothLaw)


def case(name: str, law: Law) -> tuple[dict[str, float], dict[str, Any]]:
    """Parameters and points of a law: those above, or its first published constants."""
    values = VALUES.get(name) or dict(next(iter(law.instances.values())))
    return values, {v: POINTS[v] for v in law.variables}
