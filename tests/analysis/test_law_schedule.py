"""Laws over schedules: the formulas step by step, their limits, derivatives, and the condensed sums."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.laws import get_law
from analysis.schedules import condense, flat_warmup, sample, warmup_end
from scaling.errors import InputError

WARMUP, T, PEAK = 60, 900, 3e-3
MULTI = {"L0": 2.6, "A": 0.6, "alpha": 0.45, "B": 60.0, "C": 2.0, "beta": 0.6, "gamma": 0.6}
ANNEAL = {"L0": 2.6, "A": 0.6, "alpha": 0.45, "C": 0.8, "memory": 80.0}


def warmed(tail: np.ndarray) -> np.ndarray:
    return np.concatenate([np.linspace(0, PEAK, WARMUP), tail])


def schedules() -> dict[str, np.ndarray]:
    """Constant, cosine, to zero, with a jump, with a jump inside a decay, and rising again."""
    x = np.linspace(0, 1, T - WARMUP)
    half = (T - WARMUP) // 2
    steps = np.where(np.arange(T - WARMUP) < half, PEAK, 0.3 * PEAK)
    return {
        "constant": warmed(np.full(T - WARMUP, PEAK)),
        "cosine": warmed(0.1 * PEAK + 0.45 * PEAK * (1 + np.cos(np.pi * x))),
        "to_zero": warmed(PEAK * (1 - x)),
        "jump": warmed(steps),
        "jump_in_decay": warmed(steps * (1 - 0.5 * x)),
        "cyclic": warmed(PEAK * (0.6 + 0.4 * np.cos(6 * np.pi * x))),
    }


def multi_power(p: dict[str, float], rates: np.ndarray, t: int) -> float:
    """The law as its authors write it, a sum over every step."""
    loss = p["L0"] + p["A"] * rates[: t + 1].sum() ** -p["alpha"]
    for k in range(1, t + 1):
        if rates[k] != rates[k - 1]:
            x = max(rates[k], 1e-7 * rates.max()) ** -p["gamma"] * rates[k : t + 1].sum()
            loss -= p["B"] * (rates[k - 1] - rates[k]) * (1 - (p["C"] * x + 1) ** -p["beta"])
    return float(loss)


def annealing(p: dict[str, float], rates: np.ndarray, t: int) -> float:
    """The law as its authors' code writes it: momentum, then its sum; the warmup at the full rate."""
    rates = flat_warmup(rates)
    momentum, area = 0.0, 0.0
    for i in range(1, t + 1):
        momentum = (1 - 1 / p["memory"]) * momentum + rates[i - 1] - rates[i]
        area += momentum
    return float(p["L0"] + p["A"] * rates[: t + 1].sum() ** -p["alpha"] - p["C"] * area)


LAWS = {"multi_power": (MULTI, multi_power), "annealing": (ANNEAL, annealing)}


@pytest.mark.parametrize("kind", schedules())
@pytest.mark.parametrize("name", LAWS)
def test_the_law_is_the_sum_over_every_step(name, kind):
    p, reference = LAWS[name]
    rates, steps = schedules()[kind], np.array([899, 70, 200, 470, 485, 899, 640])
    found = get_law(name).predict(p, rates=rates, steps=steps)
    np.testing.assert_allclose(found, [reference(p, rates, t) for t in steps], atol=1e-7, rtol=0)
    assert get_law(name).predict(p, rates=rates, steps=640) == pytest.approx(found[-1], abs=1e-7)


@pytest.mark.parametrize("name", LAWS)
def test_jacobian_is_the_derivative(name):
    law, (p, _) = get_law(name), LAWS[name]
    x = {"rates": schedules()["cyclic"], "steps": np.array([70, 300, 500, 899])}
    for key, column in law.jacobian(p, **x).items():

        def difference(h, key=key):
            up, down = (law.predict({**p, key: p[key] + s * h}, **x) for s in (1, -1))
            return (up - down) / (2 * h)

        h = 1e-3 * p[key]
        numeric = (4 * difference(h / 2) - difference(h)) / 3
        assert np.abs(column - numeric).max() <= 1e-8 * np.abs(numeric).max(), key


@pytest.mark.parametrize("name", LAWS)
def test_solver_coordinates_round_trip_and_differentiate(name):
    law, (p, _) = get_law(name), LAWS[name]
    curves = [(schedules()[k], np.arange(70, 900, 30)) for k in ("cosine", "jump")]
    bound = law.bind_curves(curves)
    theta = bound.coordinates(p)
    for key, value in bound.named(theta[None]).items():
        assert value[0] == pytest.approx(p[key], rel=1e-10)
    log_loss, jac = bound.evaluate(np.stack([theta, theta]))
    together = np.concatenate([law.predict(p, rates=r, steps=s) for r, s in curves])
    np.testing.assert_allclose(np.exp(log_loss[1]), together, atol=2e-6)
    for j in range(theta.size):
        step = 1e-5 * np.eye(theta.size)[j]
        numeric = (bound.evaluate((theta + step)[None])[0] - bound.evaluate((theta - step)[None])[0])[0] / 2e-5
        np.testing.assert_allclose(jac[0, j], numeric, atol=1e-8 + 1e-6 * np.abs(numeric).max())


def test_without_a_lower_rate_only_the_area_counts():
    p = ANNEAL
    rates = np.full(500, 1e-3)
    found = get_law("annealing").predict(p, rates=rates, steps=np.array([9, 499]))
    np.testing.assert_allclose(found, p["L0"] + p["A"] * np.array([0.01, 0.5]) ** -p["alpha"], rtol=1e-13)
    same = get_law("multi_power").predict(MULTI, rates=rates, steps=499)
    assert same == pytest.approx(MULTI["L0"] + MULTI["A"] * 0.5 ** -MULTI["alpha"], rel=1e-13)


def test_limits_of_the_drop():
    # Long after a drop of the rate by d, multi-power has gained B d, annealing C d memory.
    low = np.concatenate([np.full(10, 1e-3), np.full(200_000, 0.5e-3)])
    last = low.size - 1
    p = {**MULTI, "A": 1e-12, "beta": 2.0}
    assert p["L0"] - get_law("multi_power").predict(p, rates=low, steps=last) == pytest.approx(60 * 0.5e-3, rel=1e-4)
    q = {**ANNEAL, "A": 1e-12}
    assert q["L0"] - get_law("annealing").predict(q, rates=low, steps=last) == pytest.approx(
        0.8 * 0.5e-3 * 80, rel=1e-9
    )
    # Two drops gain what each gains alone where gamma = 0 and the areas are the same, as the sum is linear in changes.
    flat = {**MULTI, "gamma": 0.0}
    later = np.concatenate([np.full(10, 1e-3), np.full(200_000, 0.5e-3), np.full(50, 0.4e-3)])
    t = later.size - 1
    both = get_law("multi_power").predict(flat, rates=later, steps=t)
    assert both == pytest.approx(multi_power(flat, later, t), abs=1e-9)


def test_condensed_changes_add_up_and_are_few():
    rates = warmed(0.5 * PEAK * (1 + np.cos(np.linspace(0, np.pi, 50_000))))
    steps = np.arange(1000, rates.size, 2500)
    at, weight = condense(rates, steps, 6)
    assert at.size < rates.size / 20
    assert (np.diff(at) > 0).all()
    for step in steps:  # polynomials below the order, from every evaluated step
        inside = at <= step
        changes = rates[:step] - rates[1 : step + 1]
        for power in range(4):
            exact = (changes * (np.arange(1, step + 1) / rates.size) ** power).sum()
            assert (weight[inside] * (at[inside] / rates.size) ** power).sum() == pytest.approx(exact, abs=1e-12)


def test_constant_stretches_vanish_and_jumps_stay():
    rates = np.concatenate([np.full(100, 2.0), np.full(100, 1.0), np.full(100, 0.5)])
    at, weight = condense(rates, np.array([299]), 6)
    assert at.tolist() == [100, 200]
    assert weight.tolist() == [1.0, 0.5]
    found = sample([(rates, np.array([50, 250]))])
    assert found.area.tolist() == [102.0, 200 + 100 + 25.5]
    assert found.total(np.ones(found.pair_node.size)).tolist() == [0.0, 2.0]


def test_warmup_ends_where_the_rate_stops_rising():
    rates = schedules()["cosine"]
    assert warmup_end(rates) in (WARMUP - 1, WARMUP)
    assert warmup_end(np.full(10, 1.0)) == 0
    assert warmup_end(np.array([3.0, 2.0, 1.0])) == 0
    assert (flat_warmup(rates)[:WARMUP] == PEAK).all()
    assert (flat_warmup(rates)[WARMUP:] == rates[WARMUP:]).all()


def test_draws_come_as_a_last_axis():
    law = get_law("annealing")
    draws = {k: np.array([v, 1.01 * v, v]) for k, v in ANNEAL.items()}
    x = {"rates": schedules()["cosine"], "steps": np.array([200, 899])}
    found = law.predict(draws, **x)
    assert found.shape == (2, 3)
    np.testing.assert_array_equal(found[:, 0], law.predict(ANNEAL, **x))
    assert (found[:, 1] != found[:, 0]).all()


@pytest.mark.parametrize(
    ("rates", "steps", "message"),
    [
        (np.full((3, 3), 1e-3), 2, "one-dimensional"),
        ([1e-3, np.nan], 1, "rate of step 1 is nan"),
        ([1e-3, -1e-3], 1, "rate of step 1"),
        ([0.0, 0.0], 1, "every rate is 0"),
        (np.full(9, 1e-3), 9, "lie in 0…8"),
        (np.full(9, 1e-3), 1.5, "whole"),
    ],
)
def test_a_schedule_that_is_none_is_refused(rates, steps, message):
    with pytest.raises(InputError, match=message):
        get_law("multi_power").predict(MULTI, rates=rates, steps=steps)
