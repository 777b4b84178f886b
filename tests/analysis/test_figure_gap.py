"""The figure of the chain: exponents and steps are those measured, published ones stand beside, nothing is cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from figure_checks import check_nothing_is_cut
from simulated_arms import ended, midway

from analysis.figures.base import NotDrawable
from analysis.figures.gap_chain import plot_gap_chain
from analysis.protocols import PUBLISHED, Protocols, measure_protocols

ORDER = ("kaplan", "counting", "flops", "decay", "tuned")
LABELS = ("Kaplan's protocol", "N counts the head", "C counts head and attention", "decay matched to the run",
          "rate tuned by size and budget")  # fmt: skip


@pytest.fixture(scope="module")
def found() -> Protocols:
    noisy = {"sigma": 0.002, "seed": 4}
    made = [
        midway("kaplan", handicap=4e5, count="non_embedding", cost="6nd", **noisy),
        replace(midway("counting", handicap=4e5, cost="6nd", **noisy), cost_count="non_embedding"),
        midway("flops", handicap=4e5, **noisy),
        ended("decay", handicap=2e5, sigma=0.002, seed=5),
        ended("tuned", sigma=0.002, seed=6),
    ]
    return measure_protocols([replace(a, label=label) for a, label in zip(made, LABELS, strict=True)], bootstrap=100)


@pytest.mark.parametrize("width", [85.0, 170.0])
def test_it_shows_what_was_measured_and_cuts_nothing(found: Protocols, width: float) -> None:
    made = plot_gap_chain(found, ORDER, width_mm=width)
    table = made.table
    for approach in found.approaches:
        part = table[(table.panel == "exponent") & (table.source == approach)]
        values = [found.arms[name].frontiers[approach].N_exponent.value for name in ORDER]
        np.testing.assert_array_equal(part.value, values)
        steps = table[(table.panel == "step") & (table.source == approach)]
        changes = [found.change(a, b, approach).value.value for a, b in zip(steps.before, steps.arm, strict=True)]
        np.testing.assert_array_equal(steps.value, changes)
        np.testing.assert_allclose(steps.value, np.diff(values), atol=1e-12)
    for source, chain in PUBLISHED.items():
        beside = table[table.source == source].value.tolist()
        assert beside == [chain[name] for name in ORDER if name in chain]
    check_nothing_is_cut(made.figure)


def test_arms_without_exponents_are_not_drawn() -> None:
    short = midway("short")
    made = measure_protocols([replace(short, curves=short.curves[short.curves.tokens < 6e5]), ended("ends")],
                             bootstrap=20)  # fmt: skip
    with pytest.raises(NotDrawable, match="needs an arm with an exponent"):
        plot_gap_chain(made, ("short",))
