"""Objectives: their derivatives, their limits, and Student's t against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import huber
from scipy.stats import t as student

from analysis.objectives import Loss, penalty, profile_nu, student_scale, working
from scaling.errors import InputError

RNG = np.random.default_rng(0)
R = 0.01 * RNG.standard_normal((3, 40))
W = RNG.uniform(0.5, 2.0, (3, 40))


@pytest.mark.parametrize("loss", [Loss("huber_log"), Loss("huber_log", delta=0.01), Loss("ls_log"), Loss("student_t")])
def test_weights_are_the_derivative_of_the_value(loss):
    value, u, _ = working(R, W, loss)
    step = 1e-8
    for i in (0, 7, 39):
        moved = R.copy()
        moved[:, i] += step
        slope = (working(moved, W, loss)[0] - value) / step
        expected = W[:, i] * R[:, i] * (1.0 if u is None else u[:, i])
        np.testing.assert_allclose(slope, expected, rtol=2e-4, atol=1e-9)


def test_huber_is_scipys():
    assert penalty(R[0], Loss("huber_log", delta=0.004)) == pytest.approx(huber(0.004, R[0]), rel=1e-12)
    assert working(R, W, Loss("huber_log"))[0] == pytest.approx((W * huber(1e-3, R)).sum(axis=1), rel=1e-12)


def test_students_scale_and_likelihood_are_scipys():
    for nu in (1.5, 4.0, 30.0):
        scale = np.sqrt(student_scale(R**2, np.ones_like(R), nu))

        def minus_log_likelihood(log_s, i, nu=nu):
            return -student.logpdf(R[i], nu, scale=np.exp(log_s)).sum()

        for i in range(3):
            best = minimize_scalar(minus_log_likelihood, bounds=(-8, -2), args=(i,), options={"xatol": 1e-10})
            assert scale[i] == pytest.approx(np.exp(best.x), rel=1e-5)
        # Twice the log likelihood ratio of two sets of residuals is n ln(S/S').
        value = working(R, np.ones_like(R), Loss("student_t", nu=nu))[0]
        ratio = 2 * (minus_log_likelihood(np.log(scale[1]), 1) - minus_log_likelihood(np.log(scale[0]), 0))
        assert 40 * np.log(value[1] / value[0]) == pytest.approx(ratio, rel=1e-8)


def test_student_t_tends_to_least_squares():
    squares = working(R, W, Loss("ls_log"))[0]
    assert working(R, W, Loss("student_t", nu=1e7))[0] == pytest.approx(squares, rel=1e-5)


@pytest.mark.parametrize(("nu", "low", "high"), [(2.0, 1.5, 3.0), (60.0, 10.0, 100.0)])
def test_degrees_of_freedom_are_found(nu, low, high):
    r = np.random.default_rng(3).standard_t(nu, 4000) * 0.01
    assert low <= profile_nu(r, np.ones(r.size)) <= high


def test_bad_constants_are_refused():
    with pytest.raises(InputError, match="no objective"):
        Loss("huber")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="delta is 0"):
        Loss("huber_log", delta=0.0)
    with pytest.raises(InputError, match="nu is nan"):
        Loss("student_t", nu=float("nan"))
