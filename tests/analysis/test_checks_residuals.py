"""Diagnostics and the residual detector: identities of least squares, and simulated rates of alarm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sweeps_by_law import LAW, SURFACES, isoflop

from analysis import fit, read_table
from analysis.checks import Subject, Verdict
from analysis.checks.residuals import diagnose, log_jacobian
from analysis.checks.size_residuals import SizeResiduals, candidates, cleared, t_statistics
from scaling.errors import InputError

BUDGETS = np.geomspace(1e17, 1e19, 5)
SURFACE = SURFACES["chinchilla"]


def fitted(table, **rest):
    return fit(table, "chinchilla", objective="ls_log", bootstrap=0, **rest)


def look(table, seed=0):
    runs = read_table(table)
    return SizeResiduals().look(Subject(runs, fit=fitted(runs), seed=seed))


def test_leverage_is_the_hat_matrix_and_sums_to_the_parameters():
    found = fitted(isoflop(SURFACE, BUDGETS, sigma=0.005))
    d = diagnose(found)
    jac = log_jacobian(found)
    hat = jac @ np.linalg.solve(jac.T @ jac, jac.T)
    np.testing.assert_allclose(d.leverage, np.diag(hat), rtol=1e-6)
    assert d.leverage.sum() == pytest.approx(5, rel=1e-9)
    assert d.parameters == 5
    s2 = (d.residual**2).sum() / (35 - 5)
    np.testing.assert_allclose(d.studentised, d.residual / np.sqrt(s2 * (1 - np.diag(hat))), rtol=1e-6)
    assert d.sigma == pytest.approx(found.sigma, rel=1e-9)


def test_cook_and_deleted_residuals_are_those_of_leaving_a_run_out():
    # A straight line in log–log is linear in its parameters' coordinates, so that both identities are exact.
    rng = np.random.default_rng(0)
    n = np.geomspace(1e6, 1e9, 12)
    table = {"params": n, "tokens": np.full(12, 1e9), "loss": 50 * n**-0.1 * np.exp(0.02 * rng.standard_normal(12))}
    import pandas as pd

    found = fit(pd.DataFrame(table), "power:params", objective="ls_log", bootstrap=0)
    d = diagnose(found)
    x, y = np.stack([np.ones(12), np.log(n)], axis=1), np.log(table["loss"])
    whole = np.linalg.lstsq(x, y, rcond=None)[0]
    s2 = ((y - x @ whole) ** 2).sum() / 10
    for i in range(12):
        keep = np.arange(12) != i
        left, rss = np.linalg.lstsq(x[keep], y[keep], rcond=None)[:2]
        cook = ((x @ (whole - left)) ** 2).sum() / (2 * s2)
        assert d.cook[i] == pytest.approx(cook, rel=1e-5)
        leverage = x[i] @ np.linalg.solve(x.T @ x, x[i])
        t = (y[i] - x[i] @ whole) / np.sqrt(float(rss[0]) / 9 * (1 - leverage))
        assert d.deleted[i] == pytest.approx(t, rel=1e-4)


def test_quantiles_of_normal_residuals_lie_on_the_diagonal_and_an_outlier_does_not():
    table = isoflop(SURFACE, np.geomspace(1e17, 1e20, 12), sigma=0.01, seed=1)
    d = diagnose(fitted(table))
    assert np.corrcoef(d.quantile[d.order], d.studentised[d.order])[0, 1] > 0.98
    assert d.quantile[d.order][0] == pytest.approx(stats.norm.ppf((1 - 0.375) / (84 + 0.25)))
    assert d.outlying.size == 0
    table.loc[40, "loss"] *= 1.08
    assert diagnose(fitted(table)).outlying.tolist() == [40]


def test_a_fit_without_values_has_no_diagnostics():
    with pytest.raises(InputError, match="it has no residuals"):
        diagnose(fitted(isoflop(SURFACE, BUDGETS[:1], sizes=4)))


def test_the_score_test_is_student_where_one_shape_is_tried():
    rng = np.random.default_rng(2)
    jac = np.stack([np.ones(20), np.linspace(0, 1, 20)], axis=1)
    q, _ = np.linalg.qr(jac)
    parts, kept = cleared([np.linspace(0, 1, 20) ** 3, np.linspace(0, 1, 20)], jac)
    assert kept == [0]  # what the line itself holds cannot be told from it
    noise = rng.standard_normal((20_000, 20))
    t = t_statistics(noise - (noise @ q) @ q.T, parts, 18)[:, 0]
    assert stats.kstest(t, stats.t(17).cdf).pvalue > 0.01


def test_shapes_are_one_at_the_largest_size_and_zero_at_the_smallest():
    table = isoflop(SURFACE, BUDGETS)
    runs = read_table(table)
    shapes = candidates(np.log(runs.params()), runs.budget)
    assert len(shapes) == 6
    for shape in shapes:
        assert shape.max() == pytest.approx(1)
        assert shape[np.argmin(runs.params())] == 0


def test_tuned_sweeps_are_left_alone_and_undertuned_ones_are_flagged():
    """Tuned sweeps over three surfaces, few alarms; the benchmark `checks` has the rates over hundreds."""
    alarms, caught = 0, 0
    for k in range(42):
        table = isoflop(list(SURFACES.values())[k % 3], BUDGETS, sigma=0.007, seed=k)
        alarms += look(table, k).verdict is Verdict.SUSPECTED
    for k in range(12):
        table = isoflop(SURFACE, BUDGETS, sigma=0.007, seed=k)
        log_n = np.log(table["params"])
        table["loss"] *= np.exp(0.03 * np.maximum(log_n - np.quantile(log_n, 0.7), 0))
        found = look(table, k)
        caught += found.verdict is Verdict.SUSPECTED
    assert alarms / 42 < 0.10
    assert caught / 12 > 0.75


def test_a_flagged_sweep_says_how_much_and_where():
    table = isoflop(SURFACE, BUDGETS, sigma=0.002, seed=1)
    log_n = np.log(table["params"])
    excess = 0.05 * np.maximum(log_n - np.quantile(log_n, 0.7), 0)
    found = look(table.assign(loss=table["loss"] * np.exp(excess)))
    assert found.verdict is Verdict.SUSPECTED
    assert found.measured["p_value"] < 0.001
    assert found.measured["excess_of_loss_at_largest"] == pytest.approx(excess.max(), rel=0.5)
    flagged = [int(str(r).split()[1]) for r in found.rows]
    assert log_n[flagged].min() > np.quantile(log_n, 0.5)
    small = 0.05 * np.maximum(np.quantile(log_n, 0.3) - log_n, 0)
    assert look(table.assign(loss=table["loss"] * np.exp(small))).verdict is not Verdict.SUSPECTED


def test_a_distortion_that_the_law_can_take_up_is_not_seen_and_a_short_table_cannot_tell():
    # Another A and alpha: a beautiful fit of another surface.
    table = isoflop(SURFACE, BUDGETS, sigma=0.003)
    bent = LAW.predict({**SURFACE, "A": 300.0, "alpha": 0.30}, params=table["params"], tokens=table["tokens"])
    assert look(table.assign(loss=bent)).verdict is Verdict.CLEAR
    assert look(isoflop(SURFACE, BUDGETS[:2], sizes=4, sigma=0.003)).verdict is Verdict.CANNOT_TELL
    subject = Subject(read_table(table))
    assert SizeResiduals().look(subject).verdict is Verdict.CANNOT_TELL
    assert SizeResiduals().look(replace(subject, fit=fit(table, "power:params", bootstrap=0))).verdict == "cannot_tell"
