"""Figures of a fit: the law with its residuals and Q–Q plot, the floor's profile, two sweeps side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sweeps_by_law import SURFACES, isoflop

from analysis import FitResult, compare, fit, read_table
from analysis.figures import style
from analysis.figures.base import Drawn, NotDrawable
from analysis.figures.comparison import plot_comparison
from analysis.figures.fitted import group_means, plot_fit
from analysis.figures.profile import THRESHOLD, plot_profile, profile_ends
from analysis.figures.style import Convention

BUDGETS = np.geomspace(1e18, 1e20, 4)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return isoflop(SURFACES["chinchilla"], BUDGETS, sigma=0.003)


@pytest.fixture(scope="module")
def surface(table: pd.DataFrame) -> FitResult:
    return fit(table, bootstrap=40)


def rows_of(made: Drawn, **where: str) -> pd.DataFrame:
    found = made.table
    for column, value in where.items():
        found = found[found[column] == value]
    return found


def test_a_law_of_one_variable_is_drawn_against_it(table: pd.DataFrame) -> None:
    found = fit(table, "power_floor:tokens", bootstrap=40)
    made = plot_fit(found)
    curve = rows_of(made, element="law")
    np.testing.assert_array_equal(curve["predicted"], found.predict(tokens=curve["tokens"].to_numpy()))
    lo, hi = found.predict_interval(tokens=curve["tokens"].to_numpy())
    np.testing.assert_array_equal(curve["loss_lo"], lo)
    np.testing.assert_array_equal(curve["loss_hi"], hi)
    assert made.figure.axes[0].get_xlabel() == "D, tokens"
    assert len(made.figure.axes) == 3
    assert len(found.plot().axes) == 3


def test_a_law_of_two_has_its_residuals_by_each(surface: FitResult) -> None:
    made = plot_fit(surface)
    runs = rows_of(made, panel="all", element="run")
    residual = 100 * np.log(surface.data["loss"] / surface.data["predicted"])
    np.testing.assert_allclose(runs["residual_percent"], residual)
    panels = made.figure.axes[:4]
    assert [a.get_xlabel().partition(",")[0] for a in panels] == [
        "predicted loss", "N", "D", "normal quantile"
    ]  # fmt: skip
    assert panels[1].get_ylabel() == panels[2].get_ylabel() == "log residual, %"


def test_normal_residuals_lie_on_the_line_of_the_qq_plot() -> None:
    rng = np.random.default_rng(3)
    x = np.geomspace(1e6, 1e10, 400)
    table = pd.DataFrame({"params": x, "tokens": x, "loss": 20 * x**-0.1 * np.exp(0.01 * rng.standard_normal(x.size))})
    made = rows_of(plot_fit(fit(table, "power", objective="ls_log", bootstrap=0)), panel="qq", element="run")
    residual, quantile = made["residual_percent"].to_numpy(), made["normal_quantile"].to_numpy()
    assert (np.diff(residual) >= 0).all()
    assert float(np.polyfit(quantile, residual, 1)[0]) == pytest.approx(1.0, rel=0.06)
    inside = (made["loss_lo"] <= residual) & (residual <= made["loss_hi"])
    assert inside.mean() > 0.8
    heavy = table.assign(loss=20 * x**-0.1 * np.exp(0.01 * rng.standard_t(1.5, x.size)))
    worse = rows_of(plot_fit(fit(heavy, "power", objective="ls_log", bootstrap=0)), panel="qq", element="run")
    assert (
        (worse["loss_lo"] > worse["residual_percent"]) | (worse["residual_percent"] > worse["loss_hi"])
    ).mean() > 0.3


def test_means_of_groups() -> None:
    x = np.array([1.0, 1.0, 10.0, 100.0, 100.0])
    centres, means, errors = group_means(x, np.array([1.0, 3.0, -1.0, 0.0, 0.0]))
    np.testing.assert_allclose(centres, [1, 10, 100])
    np.testing.assert_array_equal(means, [2, -1, 0])
    np.testing.assert_allclose(errors, [1, 0, 0])
    many = np.geomspace(1, 1e6, 240)
    centres, means, _ = group_means(many, np.log(many))
    assert len(centres) == 8
    np.testing.assert_allclose(np.log(centres), means)


def test_a_fit_of_nothing_is_refused_with_its_reason() -> None:
    few = fit(pd.DataFrame({"params": [1e6, 2e6], "tokens": [1e8, 1e8], "loss": [3.0, 2.9]}), bootstrap=0)
    for draw in (plot_fit, plot_profile):
        with pytest.raises(NotDrawable, match="too_few_points"):
            draw(few)


@pytest.mark.parametrize("width", [85.0, 170.0])
def test_many_variables_and_other_responses_are_drawn(width: float) -> None:
    rng = np.random.default_rng(0)
    n, d = (10 ** rng.uniform(lo, lo + 3, 60) for lo in (7, 9))
    rate = 1.79 * n**-0.713 * d**0.307 * np.exp(0.05 * rng.standard_normal(60))
    found = fit(pd.DataFrame({"params": n, "tokens": d, "lr": rate}), "learning_rate", bootstrap=0)
    made = plot_fit(found, width_mm=width)
    assert made.figure.axes[0].get_ylabel() == "observed learning rate"
    np.testing.assert_array_equal(rows_of(made, panel="all", element="run")["observed"], rate)


def test_the_profile_is_that_of_the_fit(surface: FitResult) -> None:
    made = plot_profile(surface)
    drawn = rows_of(made, element="profile")
    assert list(drawn["E"]) == list(surface.diagnostics["profile"]["E"])
    ends = rows_of(made, element="profile interval").iloc[0]
    assert ends["lo"] < surface.values["E"] < ends["hi"]
    assert made.figure.axes[0].get_xlabel() == "E, floor of the loss, nats per token"
    with pytest.raises(NotDrawable, match="has no floor"):
        plot_profile(fit(isoflop(SURFACES["chinchilla"], BUDGETS), "power", bootstrap=0))


def test_ends_of_a_parabola_are_where_it_crosses() -> None:
    values = np.linspace(0.0, 4.0, 401)
    lo, hi = profile_ends(values, 4.0 * (values - 1.5) ** 2)
    half = np.sqrt(THRESHOLD) / 2
    assert (lo, hi) == (pytest.approx(1.5 - half, abs=1e-4), pytest.approx(1.5 + half, abs=1e-4))
    assert profile_ends(values, 0.1 * values) == (0.0, 4.0)


def test_two_sweeps_side_by_side(table: pd.DataFrame) -> None:
    other = isoflop(SURFACES["asymmetric"], BUDGETS, sigma=0.003, seed=5)
    found = compare(table, other, same_axis=True, bootstrap=60)
    made = plot_comparison(found)
    difference = rows_of(made, panel="c").iloc[0]
    assert difference["value"] == found.exponents["N"].change.value
    points = rows_of(made, panel="a", element="point", side="b")
    assert list(points["value"]) == [p.params for p in found.frontiers[1].points if p.status == "converged"]
    assert list(rows_of(made, panel="d")["value"]) == [m.multiplier.value for m in found.multipliers]
    apart = plot_comparison(compare(table, other, bootstrap=60))
    assert rows_of(apart, panel="d").empty
    said = " ".join(t.get_text().replace("\n", " ") for t in apart.figure.axes[3].texts)
    assert "same_axis" in said or "axes" in said


@pytest.mark.parametrize(
    ("tokenizers", "objectives", "token", "loss"),
    [
        ((), (), "tokens", "nats per token"),
        (["byte"], ["causal"], "tokens (bytes)", "nats per byte"),
        (["byte"], ["masked"], "tokens (bytes)", "nats per masked byte"),
        (["bpe"], ["masked"], "tokens (bpe)", "nats per masked token"),
        (["byte"], ["spans"], "tokens (bytes)", "nats per predicted byte"),
        (["byte", "bpe"], ["causal"], "tokens (bpe, byte)", "nats per token"),
    ],
)
def test_units_follow_tokenizer_and_objective(tokenizers: Any, objectives: Any, token: str, loss: str) -> None:
    assert style.units(tokenizers, objectives) == (token, loss)


def test_a_fit_knows_its_own_units() -> None:
    n = np.geomspace(1e4, 1e7, 12)
    frame = pd.DataFrame({f"params_{c}": n for c in ("total", "non_embedding", "non_embedding_head")})
    frame = frame.assign(
        tokens=n[::-1] * 20, loss=1 + 9 * n**-0.2, flops_exact=1e12, tokenizer="byte", objective="masked"
    )
    for c in ("total", "non_embedding", "non_embedding_head"):
        frame[f"flops_6nd_{c}"] = 1e12
    found = Convention.of_fit(fit(read_table(frame), "power", count="non_embedding", bootstrap=0))
    assert found.loss_label() == "held-out loss, nats per masked byte"
    assert found.params_label() == "N, non-embedding parameters"
    assert found.tokens_label() == "D, tokens (bytes)"
