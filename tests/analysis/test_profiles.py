"""Profiles and the second solver: known quantiles and calibrations, flatness, agreement and its failure."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student
from sweeps_by_law import LAW, SURFACES, isoflop

from analysis import confirm as confirming
from analysis.confirm import confirm
from analysis.estimation import estimate_law
from analysis.objectives import Loss
from analysis.profiles import flat_ends, huber_calibration, student_quantile
from analysis.solve import minimise, multistart, solve_spd

BUDGETS = np.geomspace(1e17, 1e19, 5)


def points(sigma: float, seed: int = 0):
    table = isoflop(SURFACES["chinchilla"], BUDGETS, sigma=sigma, seed=seed)
    return {v: table[v].to_numpy() for v in ("params", "tokens")}, table["loss"].to_numpy()


@pytest.mark.parametrize("dof", [1, 2, 4, 10, 30, 235])
def test_students_quantile(dof):
    assert student_quantile(0.95, dof) == pytest.approx(student.ppf(0.95, dof), rel=2e-3)
    assert student_quantile(0.975, dof) == pytest.approx(student.ppf(0.975, dof), rel=4e-3)


def test_hubers_calibration_is_that_of_normal_noise():
    # For delta far below sigma E psi' = 2 delta f(0), E psi² = delta²; for delta far above, 1 and sigma².
    r = 0.01 * np.random.default_rng(0).standard_normal(20000)
    low = huber_calibration(r, 1e-5, r.size)
    assert low == pytest.approx(2 / (1e-5 * np.sqrt(2 * np.pi) * 0.01), rel=0.05)
    assert huber_calibration(r, 1.0, r.size) == pytest.approx(1e4, rel=0.03)


def test_small_systems_are_solved_as_lapack_does():
    rng = np.random.default_rng(0)
    for p in (1, 2, 5, 9):
        a = rng.standard_normal((40, p, p + 3))
        matrix, right = a @ a.swapaxes(1, 2), rng.standard_normal((40, p))
        expected = np.linalg.solve(matrix, right[..., None])[..., 0]
        np.testing.assert_allclose(solve_spd(matrix, right), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("objective", ["huber_log", "ls_log", "ls", "student_t"])
def test_a_second_solver_agrees_at_the_optimum(objective):
    x, loss = points(0.01)
    found = estimate_law(LAW, x, loss, objective, None, verify=True)
    assert found.status == "converged"
    report = found.diagnostics["second_solver"]
    assert report["agrees"]
    assert report["objective"] == pytest.approx(found.objective_value, rel=1e-3)


def test_a_wrong_optimum_is_replaced_by_the_second_solvers():
    x, loss = points(0.01)
    bound, y, ones = LAW.bind(**x), np.log(loss), np.ones(loss.size)
    best, _ = multistart(bound, y, ones, "ls_log")
    # Frozen at a wrong exponent the first solver ends too high; free, it is at the optimum again.
    wrong = best.theta.copy()
    wrong[0, 2] = 1.5
    stuck = minimise(bound, y, ones, wrong, "ls_log", max_iterations=1)
    again = confirm(bound, y, ones, stuck.theta[0], Loss("ls_log"))
    assert again.agrees
    assert again.objective == pytest.approx(best.objective[0], rel=1e-3)


def test_disagreement_is_not_converged(monkeypatch):
    x, loss = points(0.01)
    lost = lambda bound, y, w, start, kind, scale: (1.0, start)
    monkeypatch.setattr(confirming, "_descend", lost)
    found = estimate_law(LAW, x, loss, "ls_log", None, verify=True)
    assert found.status == "not_converged"
    assert "second solver" in found.reason


def test_flat_profiles_are_unidentified():
    # Sizes hardly matter in these runs: the term of N may be absent, and alpha anything.
    rng = np.random.default_rng(0)
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e8, 1e9, 5), np.geomspace(1e8, 1e11, 6)))
    loss = (1.8 + 2000.0 * d**-0.36) * np.exp(0.01 * rng.standard_normal(n.size))
    found = estimate_law(LAW, {"params": n, "tokens": d}, loss, "ls_log", None)
    assert found.status in ("unidentified", "bound_hit")
    assert found.reason
    x, loss = points(0.003)
    good = estimate_law(LAW, x, loss, "ls_log", None)
    assert good.status == "converged"
    assert flat_ends(good.problem, 0.95) == {}
