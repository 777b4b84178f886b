"""Whatever table the fitters get: a result with a status and a reason, or one line; never a number that is not one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from analysis import fit, frontier, predict
from analysis.laws import list_laws
from analysis.types import Estimate, FitResult, Status
from scaling.errors import InputError

# The same examples each time, so that no test fails by chance.
FUZZ = settings(
    max_examples=45,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
OBJECTIVES = ["huber_log", "ls_log", "ls", "student_t"]
LAWS = ["chinchilla", "power:params", "power:tokens", "power:flops", "power_floor:params", "power_floor:flops"]


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """1 to 30 runs with some degenerate structure: one size, one loss, repeated rows, collinear, extreme, exact."""
    n = draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1.0, 1e-3, 1e6, 1e12]))
    params = scale * 10 ** rng.uniform(3, 9, n)
    tokens = scale * 10 ** rng.uniform(5, 11, n)
    shape = draw(st.sampled_from(["free", "one size", "one amount", "one run", "collinear", "two sizes", "narrow"]))
    if shape in ("one size", "one run"):
        params[:] = params[0]
    if shape in ("one amount", "one run"):
        tokens[:] = tokens[0]
    if shape == "collinear":
        tokens = 20.0 * params
    if shape == "two sizes":
        params = rng.choice(params[:2], n)
    if shape == "narrow":
        params, tokens = (v[0] * np.exp(1e-9 * rng.standard_normal(n)) for v in (params, tokens))
    losses = {
        "law": 1.5 + 300.0 * (params / scale) ** -0.4 + 500.0 * (tokens / scale) ** -0.35,
        "flat": np.full(n, 2.0),
        "rising": 1.0 + 0.1 * np.log(params / params.min() + 1.0),
        "noise": np.exp(rng.standard_normal(n)),
        "huge": np.full(n, 1e30) * np.exp(rng.standard_normal(n)),
        "tiny": np.full(n, 1e-30) * np.exp(rng.standard_normal(n)),
        "one outlier": np.where(np.arange(n) == 0, 1e30, 3.0),
        "steep": (params / params.max()) ** -6.0,
    }
    loss = losses[draw(st.sampled_from(sorted(losses)))] * np.exp(
        draw(st.sampled_from([0.0, 0.01])) * rng.standard_normal(n)
    )
    frame = pd.DataFrame({"params": params, "tokens": tokens, "loss": loss})
    if draw(st.booleans()):
        frame["lineage"] = rng.choice(["a", "b", "c"], n)
    return frame.loc[rng.integers(0, n, n)] if draw(st.booleans()) else frame


def sound(found: FitResult) -> None:
    """Finite numbers where it says converged; a reason where it does not; JSON without NaN either way."""
    assert isinstance(found.status, Status)
    for name, e in found.params.items():
        sound_estimate(name, e)
        if found.status is Status.CONVERGED:
            assert math.isfinite(e.value), name
    if found.status is Status.CONVERGED:
        assert math.isfinite(found.objective_value)
    else:
        assert found.reason
        assert "\n" not in found.reason
    assert "\n" not in repr(found.command)
    found.to_json()
    assert repr(found)


def sound_estimate(name: str, e: Estimate) -> None:
    lo, hi = e.ci
    assert math.isnan(lo) == math.isnan(hi), name
    assert not lo > hi, name


def tried(what: Any) -> Any:
    """The result, or None where it was refused in one line."""
    try:
        return what()
    except InputError as error:
        message = str(error)
    assert message.strip()
    assert "\n" not in message
    return None


@FUZZ
@given(table=tables(), law=st.sampled_from(LAWS), objective=st.sampled_from(OBJECTIVES), draws=st.sampled_from([0, 20]))
def test_any_table_is_fitted_or_refused(table: pd.DataFrame, law: str, objective: Any, draws: int) -> None:
    found = tried(lambda: fit(table, law, objective=objective, bootstrap=draws))
    if found is not None:
        sound(found)


@settings(FUZZ, max_examples=15)
@given(table=tables(), law=st.sampled_from([item["name"] for item in list_laws()]))
def test_every_law_takes_any_table(table: pd.DataFrame, law: str) -> None:
    """Laws over other columns get them, made up, too."""
    rng = np.random.default_rng(len(table))
    more = {c: 10 ** rng.uniform(2, 6, len(table)) for c in ("unique_tokens", "steps", "batch_tokens")}
    more |= {"lr": 10 ** rng.uniform(-4, -2, len(table)), "error": rng.uniform(0.05, 0.9, len(table))}
    found = tried(lambda: fit(table.assign(**more), law, bootstrap=0))
    if found is not None:
        sound(found)


@settings(FUZZ, max_examples=15)
@given(table=tables(), scheme=st.sampled_from(["auto", "case", "noise"]))
def test_frontiers_and_predictions_of_any_table(table: pd.DataFrame, scheme: Any) -> None:
    found = tried(lambda: frontier(table, bootstrap=20, scheme=scheme))
    for f in found or ():
        for name in ("N_exponent", "D_exponent", "N_coefficient", "D_coefficient"):
            e = getattr(f, name)
            sound_estimate(name, e)
            if f.status is Status.CONVERGED:
                assert math.isfinite(e.value), (f.approach, name)
        assert f.status is Status.CONVERGED or f.reason
        for p in f.points:
            assert p.status is not Status.CONVERGED or all(map(math.isfinite, (p.flops, p.params, p.tokens, p.loss)))
    made = tried(lambda: predict(table, flops=1e15, bootstrap=20))
    if made is not None:
        for name in ("params", "tokens", "loss"):
            sound_estimate(name, getattr(made, name))
            assert made.status is not Status.CONVERGED or math.isfinite(getattr(made, name).value)
        assert made.status is Status.CONVERGED or made.reason


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_runs_than_parameters_is_a_status(law: str, n: int) -> None:
    table = pd.DataFrame({"params": [1e6, 2e6, 4e6][:n], "tokens": [1e8, 3e8, 2e8][:n], "loss": [3.0, 2.9, 2.8][:n]})
    found = fit(table, law, bootstrap=0)
    if n <= len(found.params):
        assert found.status is Status.TOO_FEW_POINTS
        assert f"{n} distinct" in found.reason


def test_one_size_and_identical_rows_are_not_converged() -> None:
    grid = pd.DataFrame({"params": [1e6] * 12, "tokens": np.geomspace(1e7, 1e9, 12), "loss": np.linspace(4, 3, 12)})
    assert fit(grid, bootstrap=0).status is Status.UNIDENTIFIED
    same = pd.DataFrame({"params": [1e6] * 9, "tokens": [1e8] * 9, "loss": np.linspace(3, 3.1, 9)})
    assert fit(same, bootstrap=0).status is Status.TOO_FEW_POINTS
    assert fit(same, "power", bootstrap=0).status is Status.TOO_FEW_POINTS
