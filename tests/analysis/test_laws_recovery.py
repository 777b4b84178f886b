"""Every law of a plain table comes back from its own noiseless table through `fit`, on several surfaces."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from law_cases import POINTS, case, laws

from analysis import fit
from analysis.laws.broken_power import BrokenPower

LAWS = laws()


def table(law, values, rows: int = 90, seed: int = 1, sigma: float = 0.0) -> pd.DataFrame:
    """Rows spread over decades of each variable; tokens are seen at least once."""
    rng = np.random.default_rng(seed)
    x = {v: np.exp(rng.uniform(np.log(POINTS[v].min()), np.log(POINTS[v].max()), rows)) for v in law.variables}
    if "unique_tokens" in x:
        x["unique_tokens"] = np.minimum(x["unique_tokens"], x["tokens"])
    return pd.DataFrame({**x, law.response: law.predict(values, **x) * np.exp(sigma * rng.standard_normal(rows))})


def surfaces(name: str, law) -> list[dict[str, float]]:
    """The case of the law, and two surfaces off by up to 10 %, less where the response would turn negative."""
    values, x = case(name, law)
    rng = np.random.default_rng(7)
    found = [values]
    for _ in range(2):
        shift, size = {k: rng.uniform(-1, 1) for k in values}, 0.1
        while not (law.predict(off := {k: v * np.exp(size * shift[k]) for k, v in values.items()}, **x) > 0).all():
            size /= 2
        found.append(off)
    return found


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("surface", range(3))
def test_parameters_come_back(name, surface):
    law = LAWS[name]
    values = surfaces(name, law)[surface]
    found = fit(table(law, values), law, objective="ls_log", bootstrap=0)
    assert found.status == "converged", found.reason
    assert found.values == pytest.approx(values, rel=1e-6)
    assert found.data["predicted"] == pytest.approx(found.data[law.response], rel=1e-9)


@pytest.mark.parametrize("name", ["data_constrained", "farseer", "bounded", "broken_power"])
def test_two_objectives_agree_within_the_noise(name):
    law = LAWS[name]
    values, _ = case(name, law)
    noisy = table(law, values, rows=200, sigma=0.003)
    truth = law.predict(values, **{v: noisy[v].to_numpy() for v in law.variables})
    for objective in ("huber_log", "ls_log"):
        found = fit(noisy, law, objective=objective, bootstrap=0)
        assert np.sqrt(np.mean(np.log(found.data["predicted"] / truth) ** 2)) < 0.0015
        assert found.diagnostics["starts_at_optimum"] > 0


def test_one_break_is_not_two():
    law = BrokenPower()
    values, _ = case("broken_power", law)
    one = table(law, values, rows=150, sigma=0.002)
    straight = fit(one, "power_floor:params", objective="ls_log", bootstrap=0)
    broken = fit(one, "broken_power:params", objective="ls_log", bootstrap=0)
    assert straight.sigma > 3 * broken.sigma
    assert broken.sigma == pytest.approx(0.002, rel=0.25)
    assert broken.values["d1"] == pytest.approx(values["d1"], rel=0.5)


def test_intervals_of_a_smooth_law_hold_the_truth():
    law = LAWS["data_constrained"]
    values, _ = case("data_constrained", law)
    found = fit(table(law, values, rows=60, sigma=0.002), law, objective="ls_log", bootstrap=100, level=0.99)
    assert found.status == "converged"
    for name in ("alpha", "beta", "R_D"):
        lo, hi = found.interval(name)
        assert lo < values[name] < hi


def test_too_few_and_unidentified_are_statuses():
    law = LAWS["farseer"]
    values, _ = case("farseer", law)
    assert fit(table(law, values, rows=9), law, bootstrap=0).status == "too_few_points"
    rows = table(law, values, rows=40)
    flat = rows.assign(params=1e9, loss=law.predict(values, params=1e9, tokens=rows["tokens"].to_numpy()))
    assert fit(flat, law, bootstrap=0).status == "unidentified"


@pytest.mark.parametrize("name", LAWS)
def test_values_of_overflow_scale_are_no_silent_number(name):
    law = LAWS[name]
    values, _ = case(name, law)
    rows = table(law, values, rows=30)
    first = law.variables[0]
    rows.loc[3, first] = 1e30
    rows.loc[7, law.response] = 1e30
    found = fit(rows, law, objective="huber_log", bootstrap=0)
    known = np.array(list(found.values.values()))
    assert np.isfinite(known).all() or found.status != "converged"
