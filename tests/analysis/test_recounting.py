"""Counting anew on a known surface: a dense search gives the same slopes, and embeddings are what steepens them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from simulated_arms import BUDGETS, VOCABULARY, WIDTHS, per_token, row
from sweeps_by_law import LAW

from analysis import fit
from analysis.recounting import recount
from analysis.table import read_table
from analysis.types import Status
from scaling.errors import InputError

SURFACE = {"E": 1.5, "A": 60.0, "alpha": 0.35, "B": 400.0, "beta": 0.42}


def total(width):
    return 36.0 * np.asarray(width, dtype=float) ** 2 + 2 * VOCABULARY * np.asarray(width, dtype=float)


def sweep(sigma: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for c in BUDGETS:
        for d in WIDTHS:
            tokens = c / per_token(d)
            loss = float(LAW.predict(SURFACE, params=total(d), tokens=tokens)) * np.exp(sigma * rng.standard_normal())
            rows.append(row(d, tokens, f"{c:.0f}", loss, budget=c))
    return pd.DataFrame(rows)


def slope(count: str, flops: tuple[float, float]) -> float:
    """The exponent by brute force over widths, under one count in N and C = 6ND."""
    widths = np.geomspace(WIDTHS[0], WIDTHS[-1], 20_000)
    blocks = 36 * widths**2
    size = {"total": total(widths), "non_embedding": blocks, "non_embedding_head": blocks + VOCABULARY * widths}[count]
    budgets = np.geomspace(*flops, 12)
    best = [np.argmin(LAW.predict(SURFACE, params=total(widths), tokens=c / 6 / size)) for c in budgets]
    inner = [0 < b < widths.size - 1 for b in best]
    return float(np.polyfit(np.log(budgets)[inner], np.log(size[best])[inner], 1)[0])


def test_slopes_are_those_of_a_search_and_counting_steepens():
    rows = sweep()
    surface = fit(rows, "chinchilla", count="total", bootstrap=0)
    found = recount(surface, read_table(rows))
    assert found.status is Status.CONVERGED
    for count in ("total", "non_embedding", "non_embedding_head"):
        expected = slope(count, found.flops[count])
        assert found.exponents[count].value == pytest.approx(expected, abs=0.01), count
    assert found.exponents["total"].value == pytest.approx(0.42 / 0.77, abs=0.01)
    assert found.changes["non_embedding"].value > 0.1
    assert found.exponents["non_embedding_head"].value < found.exponents["non_embedding"].value


def test_intervals_hold_the_truth_under_noise():
    rows = sweep(0.003)
    surface = fit(rows, "chinchilla", count="total", bootstrap=60, level=0.99)
    found = recount(surface, read_table(rows), level=0.99)
    lo, hi = found.exponents["total"].ci
    assert lo < 0.42 / 0.77 < hi
    assert found.changes["non_embedding"].ci[0] > 0


def test_what_is_no_surface_of_all_parameters_is_refused():
    rows = sweep()
    with pytest.raises(InputError, match="count total"):
        recount(fit(rows, "chinchilla", count="non_embedding", bootstrap=0), read_table(rows))
    plain = rows.rename(columns={"params_total": "params"})[["params", "tokens", "loss"]]
    with pytest.raises(InputError, match="plain table"):
        recount(fit(rows, "chinchilla", count="total", bootstrap=0), read_table(plain))
