"""The figures of repetition: what was measured, nothing else, nothing cut, and why there is none."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_repetition import repetition_sweep

from analysis import fit
from analysis.figures.base import Drawn, NotDrawable
from analysis.figures.repetition import plot_repetition_loss, plot_repetition_worth
from analysis.repetition import Repetition, measure_repetition


@pytest.fixture(scope="module")
def found() -> Repetition:
    rows = repetition_sweep(sigma=0.005, hurt=0.01)
    law = fit(rows, "data_constrained", count="non_embedding", bootstrap=20, verify=False)
    return measure_repetition(rows, law, bootstrap=40)


def whole(made: Drawn) -> bool:
    renderer, page = made.figure.canvas.get_renderer(), made.figure.bbox
    boxes = [axes.get_tightbbox(renderer) for axes in made.figure.axes]
    return all(b.x0 >= page.x0 - 1 and b.x1 <= page.x1 + 1 and b.y0 >= page.y0 - 1 and b.y1 <= page.y1 + 1
               for b in boxes)  # fmt: skip


@pytest.mark.parametrize("width", [85.0, 170.0])
def test_losses_are_those_measured(found: Repetition, width: float) -> None:
    made = plot_repetition_loss(found, width_mm=width)
    table = made.table
    assert sorted(set(table.panel)) == ["a", "b", "c"]
    repeated, fresh = (table[table.element == e] for e in ("repeated", "fresh"))
    assert sorted(repeated.value) == sorted(p.loss.value for p in found.points)
    assert sorted(fresh.value) == sorted(f.loss.value for f in found.fresh)
    law = table[table.element == "law"]
    x = {"params": law.params, "tokens": law.tokens, "unique_tokens": np.minimum(law.tokens, law.unique_tokens)}
    np.testing.assert_allclose(law.value, found.law.predict(**x))
    assert whole(made)


@pytest.mark.parametrize("width", [85.0, 170.0])
def test_worths_and_excesses_are_those_measured(found: Repetition, width: float) -> None:
    made = plot_repetition_worth(found, width_mm=width)
    table = made.table
    np.testing.assert_array_equal(table[table.element == "over all"].value, [s.worth.value for s in found.by_epoch])
    np.testing.assert_array_equal(table[table.element == "by size"].value, [s.worth.value for s in found.by_size])
    np.testing.assert_array_equal(table[table.element == "law"].value, [s.law.value for s in found.by_epoch])
    excess = table[table.element == "excess"]
    assert sorted(excess.value) == sorted(100 * p.excess.value for p in found.points)
    assert whole(made)


def test_without_a_law_there_are_marks_alone() -> None:
    bare = measure_repetition(repetition_sweep(sigma=0.005), bootstrap=20)
    assert set(plot_repetition_loss(bare).table.element) == {"fresh", "repeated"}
    assert "data term" not in set(plot_repetition_worth(bare).table.element)


def test_no_repetition_is_not_drawn() -> None:
    rows = repetition_sweep()
    once = measure_repetition(rows[rows.epochs <= 1.0], bootstrap=0)
    for draw in (plot_repetition_loss, plot_repetition_worth):
        with pytest.raises(NotDrawable, match="no run saw its text again"):
            draw(once)
