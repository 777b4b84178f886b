"""Each schedule at the steps where its value is known."""

import math

import pytest

from scaling.schedules.base import Schedule
from scaling.schedules.constant import Constant
from scaling.schedules.cosine import Cosine
from scaling.schedules.linear import Linear
from scaling.schedules.wsd import Wsd

ALL = [Cosine(), Linear(), Constant(), Wsd()]


@pytest.mark.parametrize("schedule", ALL)
@pytest.mark.parametrize("steps", [300, 1000, 12_345])
def test_warmup_is_a_share_of_the_run_and_nothing_exceeds_the_peak(schedule: Schedule, steps: int) -> None:
    factors = [schedule.factor(s, steps) for s in range(steps)]
    assert all(0 < f <= 1 for f in factors[:-1])
    warmup = math.ceil(0.1 * steps)
    assert factors[:warmup] == sorted(factors[:warmup])
    assert factors[warmup] == pytest.approx(1.0, abs=2 / steps * 10)


def test_cosine_halves_between_peak_and_floor() -> None:
    schedule = Cosine(warmup_fraction=0.0, final_fraction=0.1)
    assert schedule.factor(0, 1000) == 1.0
    assert schedule.factor(500, 1000) == pytest.approx(0.55)
    assert schedule.factor(999, 1000) == pytest.approx(0.1, abs=1e-4)


def test_linear_and_constant() -> None:
    assert Linear(warmup_fraction=0.0).factor(250, 1000) == pytest.approx(0.75)
    assert {Constant(warmup_fraction=0.0).factor(s, 1000) for s in range(1000)} == {1.0}


def test_cooldown_starts_where_it_should() -> None:
    schedule = Wsd(decay_fraction=0.2)
    assert schedule.factor(799, 1000) == schedule.factor(800, 1000) == 1.0
    assert schedule.factor(850, 1000) == pytest.approx(1 - math.sqrt(0.25))
    assert Wsd(decay_fraction=0.2, decay="linear").factor(900, 1000) == pytest.approx(0.5)


def test_only_schedules_with_a_trunk_share_it() -> None:
    assert Cosine().trunk() is None
    assert Linear().trunk() is None
    assert Wsd(decay_fraction=0.2).trunk() == Wsd(decay_fraction=0.4).trunk() == Constant()
