"""Every law's analytic Jacobian against complex steps or extrapolated differences, and the solver's view of it."""

from __future__ import annotations

import numpy as np
import pytest
from law_cases import case, laws

from analysis.laws.smooth import SmoothLaw

LAWS = laws()


@pytest.mark.parametrize("name", LAWS)
def test_jacobian_is_the_derivative(name):
    law = LAWS[name]
    values, x = case(name, law)
    jacobian = law.jacobian(values, **x)
    assert set(jacobian) == {p.name for p in law.parameters} == set(values)
    for key, column in jacobian.items():
        if isinstance(law, SmoothLaw):
            stepped = {**values, key: values[key] + 1e-30j * max(abs(values[key]), 1e-3)}
            with np.errstate(all="ignore"):
                response = law.respond(stepped, x)[0]
            truth, tolerance = np.imag(response) / (1e-30 * max(abs(values[key]), 1e-3)), 1e-11
        else:
            truth, tolerance = _extrapolated(law, values, key, x), 1e-8
        assert np.abs(column - truth).max() <= tolerance * np.abs(truth).max(), key


def _extrapolated(law, values, key, x):
    """Central differences at h and h/2, extrapolated."""

    def difference(h):
        up, down = (law.predict({**values, key: values[key] + s * h}, **x) for s in (1, -1))
        return (up - down) / (2 * h)

    h = 1e-3 * values[key]
    return (4 * difference(h / 2) - difference(h)) / 3


@pytest.mark.parametrize("name", LAWS)
def test_solver_coordinates_give_the_law_back(name):
    law = LAWS[name]
    values, x = case(name, law)
    bound = law.bind(**x)
    theta = bound.coordinates(values)
    assert ((theta > bound.lower) & (theta < bound.upper)).all()
    for key, value in bound.named(theta[None]).items():
        assert value[0] == pytest.approx(values[key], rel=1e-10)
    batch = theta + 1e-3 * np.random.default_rng(0).standard_normal((3, theta.size)) * np.maximum(np.abs(theta), 0.1)
    log_response, jac = bound.evaluate(batch)
    for b, draw in enumerate(batch):
        there = {key: v[0] for key, v in bound.named(draw[None]).items()}
        np.testing.assert_allclose(np.exp(log_response[b]), law.predict(there, **x), rtol=1e-11)
        for j in range(theta.size):
            h = 2e-5 * np.maximum(np.abs(draw[j]), 0.01)
            at = bound.evaluate(draw + h * np.array([[1.0], [-1.0], [0.5], [-0.5]]) * np.eye(theta.size)[j])[0]
            numeric = (4 * (at[2] - at[3]) - 0.5 * (at[0] - at[1])) / (3 * h)
            assert np.abs(jac[b, j] - numeric).max() <= 2e-6 * max(np.abs(numeric).max(), 1e-3), bound.names[j]


@pytest.mark.parametrize("name", LAWS)
def test_laws_state_what_they_are(name):
    law = LAWS[name]
    values, x = case(name, law)
    assert law.formula
    assert law.source
    assert law.summary
    assert all(p.meaning for p in law.parameters)
    assert all(p.lower <= values[p.name] <= p.upper for p in law.parameters)
    for instance in law.instances.values():
        assert set(instance) == {p.name for p in law.parameters}
    for pivoted in getattr(law, "pivots", {}):
        parameter = law.parameter(pivoted)
        assert (parameter.scale, parameter.lower, parameter.upper) == ("log", 0.0, np.inf)
    response = law.predict(values, **x)
    assert (response > 0).all()
    assert np.isfinite(response).all()


@pytest.mark.parametrize("name", LAWS)
def test_guess_is_a_finite_start_of_the_right_size(name):
    law = LAWS[name]
    values, x = case(name, law)
    response = law.predict(values, **x)
    guess = law.guess(response, **x)
    assert set(guess) == set(values)
    error = np.abs(np.log(law.predict(guess, **x) / response))
    assert np.median(error) < 0.25


@pytest.mark.parametrize("name", LAWS)
def test_values_beyond_all_reason_are_no_numbers(name):
    law = LAWS[name]
    values, x = case(name, law)
    first = next(iter(x))
    rest = {v: x[v][:3] for v in x if v != first}
    assert np.isnan(law.predict(values, **{first: np.full(3, np.nan)}, **rest)).all()
    if first != "loss":  # a law of the loss may have a value at a loss of 0
        out = law.predict(values, **{first: np.zeros(3)}, **rest)
        assert not (np.isfinite(out) & (out > 0)).any()
    bound = law.bind(**x)
    wild = np.clip(np.full((2, len(bound.names)), 1e3) * [[1], [-1]], bound.lower, bound.upper)
    log_response, jac = bound.evaluate(wild)
    if isinstance(law, SmoothLaw):
        assert np.isfinite(log_response).all()
        assert np.isfinite(jac).all()
