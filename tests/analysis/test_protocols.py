"""Exponents by protocol on surfaces that are known, their paired steps, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from simulated_arms import BUDGETS, FIRST, LONGEST, ended, exponent, midway

from analysis.protocols import PUBLISHED, Protocols, measure_protocols
from analysis.types import Status
from scaling.errors import InputError

LATE = 4e5
"""Tokens that every run of the handicapped protocol loses, as to a long warmup: it costs short runs most."""


@pytest.fixture(scope="module")
def found() -> Protocols:
    arms = [
        midway("kaplan", handicap=LATE, sigma=0.001, seed=1, count="non_embedding", cost="6nd"),
        midway("counting", handicap=LATE, sigma=0.001, seed=1, cost="6nd"),
        midway("flops", handicap=LATE, sigma=0.001, seed=1),
        midway("warmup", sigma=0.001, seed=1),
        ended("decay", sigma=0.001, seed=2),
        replace(ended("decay", sigma=0.001, seed=2), name="again"),
        ended("tuned", sigma=0.001, seed=3),
    ]
    arms[3] = replace(arms[3], rows=arms[3].rows.assign(run_id=arms[3].rows.run_id + "w"),
                      curves=arms[3].curves.assign(run_id=arms[3].curves.run_id + "w"))  # fmt: skip
    return measure_protocols(arms, bootstrap=300)


@pytest.mark.parametrize(
    ("arm", "handicap"), [("flops", LATE), ("warmup", 0.0), ("decay", 0.0), ("tuned", 0.0)], ids=lambda v: str(v)
)
def test_exponents_of_known_surfaces_lie_in_their_intervals(found: Protocols, arm: str, handicap: float) -> None:
    truth = exponent(handicap)
    for approach in ("porian", "isoflop"):
        frontier = found.arms[arm].frontiers[approach]
        assert frontier.status == "converged", frontier.reason
        lo, hi = frontier.N_exponent.ci
        assert lo - 0.02 < truth < hi + 0.02, (arm, approach, truth, frontier)
    assert found.arms[arm].frontiers["porian"].N_exponent.value == pytest.approx(truth, abs=0.05)


def test_a_handicap_of_short_runs_steepens_and_counting_without_the_head_steepens_more(found: Protocols) -> None:
    assert exponent(LATE) > exponent() + 0.02
    exact = found.arms["flops"].frontiers["porian"].N_exponent.value
    assert found.arms["kaplan"].frontiers["porian"].N_exponent.value > exact + 0.05
    # The same optima, counted otherwise: ln N without the head moves more for the same width.
    assert exponent(LATE, "non_embedding") > exponent(LATE) + 0.05
    change = found.change("kaplan", "flops")
    assert change.value.value < 0
    assert change.status is Status.CONVERGED


def test_steps_are_paired(found: Protocols) -> None:
    """An arm of the same runs differs by exactly nothing; counting anew is known better than training anew."""
    nothing = found.change("decay", "again")
    assert nothing.value.value == 0.0
    assert nothing.value.ci == (0.0, 0.0)
    assert nothing.status is Status.NOT_RESOLVED
    recount = np.ptp(found.change("counting", "flops").value.ci)
    retrain = np.ptp(found.change("flops", "warmup").value.ci)
    assert recount < retrain


def test_contrasts_add_up(found: Protocols) -> None:
    names = ["kaplan", "counting", "flops", "warmup", "decay", "tuned"]
    steps = [found.change(a, b).value.value for a, b in pairwise(names)]
    assert sum(steps) == pytest.approx(found.change("kaplan", "tuned").value.value, abs=1e-12)
    terms = ((1.0, "tuned"), (-1.0, "decay"), (-1.0, "warmup"), (1.0, "flops"))
    expected = steps[4] - steps[2]
    assert found.contrast(terms).value.value == pytest.approx(expected, abs=1e-12)


def test_noise_is_measured_on_all_arms_and_is_what_was_put_in(found: Protocols) -> None:
    assert 0.0003 < found.noise < 0.003
    assert found.noise_dof >= 12
    assert found.noise_shared > 0.1  # curves were shaken as a whole; the polynomial takes up some of it
    assert set(found.arms["flops"].reads.budget.round(3)) == {round(b, 3) for b in BUDGETS}
    # Recounted budgets are of the same part of the plane: without the head its runs cost less.
    assert (np.sort(found.arms["kaplan"].reads.budget.unique()) < np.array(BUDGETS)).all()


def test_reads_before_the_first_point_or_after_the_last_are_none(found: Protocols) -> None:
    reads = found.arms["flops"].reads
    assert reads.tokens.min() >= FIRST
    assert reads.tokens.max() <= LONGEST * (1 + 1e-6)
    assert any("above the least" in d.reason for d in found.arms["flops"].dropped)
    for _, group in reads.groupby("budget"):
        assert (group.loss <= 1.2 * group.loss.min()).sum() >= len(group) - 1


def test_an_arm_that_reaches_no_budget_says_so() -> None:
    short = midway("short")
    curves = short.curves[short.curves.tokens < 1e6]
    made = measure_protocols([replace(short, curves=curves), ended("ends")], bootstrap=40)
    frontier = made.arms["short"].frontiers["porian"]
    assert not frontier.known
    assert frontier.reason
    change = made.change("short", "ends")
    assert not change.value.known
    assert change.reason.startswith("short: ")


def test_what_cannot_be_asked_is_an_error() -> None:
    with pytest.raises(InputError, match="two arms have one name"):
        measure_protocols([ended("a"), ended("a")])
    with pytest.raises(InputError, match="needed for the budgets"):
        measure_protocols([midway("a")])
    with pytest.raises(InputError, match="take cost exact"):
        measure_protocols([replace(ended("a"), cost="6nd")])
    with pytest.raises(InputError, match="rows without a budget"):
        measure_protocols([replace(ended("a"), rows=ended("a").rows.drop(columns="budget"))])
    made = measure_protocols([ended("a")], bootstrap=20)
    with pytest.raises(InputError, match="no arm 'b'"):
        made.change("a", "b")


def test_the_published_chain_falls_at_every_step() -> None:
    for chain in PUBLISHED.values():
        values = list(chain.values())
        assert values == sorted(values, reverse=True)
