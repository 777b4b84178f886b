"""The figure of trunks: runs, laws and shares are those given, nothing is cut, and without runs it says so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from figure_checks import check_nothing_is_cut
from sweeps_by_law import LAW, SURFACES

from analysis import fit
from analysis.figures.base import NotDrawable
from analysis.figures.trunks import plot_trunks
from analysis.trunks import Saving, saving
from analysis.types import FitResult

WORDS = {"alpha": "alpha", "beta": "beta", "a": "a", "log_loss": "ln of the loss at twice the longest horizon"}


def design(sigma: float, seed: int) -> tuple[pd.DataFrame, FitResult]:
    rng = np.random.default_rng(seed)
    grid = [(n, d) for n in np.geomspace(1e7, 1e9, 4) for d in np.geomspace(1e9, 2e10, 6)]
    law = [float(LAW.predict(SURFACES["asymmetric"], params=n, tokens=d)) for n, d in grid]
    rows = pd.DataFrame(grid, columns=["params", "tokens"]).assign(loss=law * np.exp(sigma * rng.normal(size=len(law))))
    rows["params_non_embedding"] = rows.params
    return rows, fit(rows, objective="ls_log", bootstrap=50, verify=False, seed=seed)


@pytest.fixture(scope="module")
def designs() -> list[tuple[pd.DataFrame, FitResult]]:
    return [design(0.004, 1), design(0.006, 2)]


@pytest.fixture(scope="module")
def found(designs: list[tuple[pd.DataFrame, FitResult]]) -> Saving:
    (_, one), (_, other) = designs
    return saving(one, other, trunk_flops=0.47e20, separate_flops=1e20, lineages=4, at=(1e9, 4e10))


@pytest.mark.parametrize("width", [85.0, 170.0])
def test_it_shows_runs_laws_and_shares_and_cuts_nothing(
    designs: list[tuple[pd.DataFrame, FitResult]], found: Saving, width: float
) -> None:
    made = plot_trunks(found, *designs, WORDS, width_mm=width)
    for name, (rows, law) in zip(("trunks", "separate runs"), designs, strict=True):
        part = made.table[(made.table.design == name) & (made.table.element == "run")]
        order = ["params", "tokens"]
        np.testing.assert_array_equal(
            part[[*order, "loss"]].sort_values(order).to_numpy(), rows[[*order, "loss"]].sort_values(order).to_numpy()
        )
        line = made.table[(made.table.design == name) & (made.table.element == "law")]
        np.testing.assert_allclose(line.loss, law.predict(params=line.params.to_numpy(), tokens=line.tokens.to_numpy()))
    shares = made.table[made.table.element == "quantity"]
    assert shares.share.tolist() == [q.share.value for q in found.quantities]
    assert made.table.loc[made.table.element == "cost", "share"].tolist() == [found.cost]
    check_nothing_is_cut(made.figure)


def test_without_runs_there_is_no_figure(designs: list[tuple[pd.DataFrame, FitResult]], found: Saving) -> None:
    (rows, law), other = designs
    with pytest.raises(NotDrawable, match="needs finished runs of both designs"):
        plot_trunks(found, (rows.iloc[:0], law), other, WORDS)
