"""The detectors on published tables and on the committed stores, whose faults are known."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import read_table
from analysis.checks import Subject, check, get_check
from analysis.checks.tuning import tuning_gaps

RESULTS = Path(__file__).resolve().parents[2] / "results"
FOLDER = os.environ.get("SCALING_TEST_DATA", "")
published = pytest.mark.skipif(not FOLDER, reason="SCALING_TEST_DATA is not set: no published tables")


def tables(name: str) -> Path:
    return Path(FOLDER) / "tables" / name


@published
def test_step_law_grids_give_rates_near_the_published_law():
    """Li et al. 2025 (arXiv 2503.04715): lr = 1.79 N^-.713 D^.307, batch = .58 D^.571 tokens, over 17 rungs."""
    frame = pd.read_csv(tables("steplaw") / "dense_lr_bs_loss.csv").drop(columns="loss")
    frame = frame.rename(columns={"N": "params", "D": "tokens", "smooth loss": "loss"}).assign(cost=0.0)
    frame["batch_tokens"] = frame["bs"] * 2048
    subject = Subject(read_table(frame))
    rungs = subject.rungs
    assert len(rungs) == 17
    good = [r for r in rungs if r.status == "converged"]
    assert len(good) >= 10
    law = np.array([1.79 * r.params**-0.713 * r.tokens**0.307 for r in good])
    batch = np.array([0.58 * r.tokens**0.571 for r in good])
    optima = np.exp([r.optimum for r in good])
    assert np.median(np.abs(np.log(optima[:, 0] / law))) < np.log(2)
    assert np.median(np.abs(np.log(optima[:, 1] / batch))) < np.log(2.5)
    gaps = tuning_gaps(subject)
    assert np.nanmax(gaps.gap) < 0.01  # the best of a hundred runs is within a hundredth of the surface's optimum
    assert get_check("rate_edge").look(subject).measured["rungs"][good[0].name]["verdict"] == "clear"


@published
def test_checkpoints_of_unfinished_runs_are_seen():
    columns = {"N": "params", "D": "tokens", "C": "flops", "peak_lr": "lr"}
    early = get_check("read_early")
    whole = pd.read_csv(tables("misfitting") / "scaling_results.csv").rename(columns=columns)
    last = pd.read_csv(tables("misfitting") / "scaling_results_last_ckpt_only.csv").rename(columns=columns)
    found = early.look(Subject(read_table(whole)))
    assert found.verdict == "suspected"
    assert len(found.rows) == (whole["portion_steps_elapsed"] < 0.99).sum()
    assert early.look(Subject(read_table(last))).verdict == "clear"


@published
def test_five_protocols_in_one_table_are_mixed_schedules_and_each_alone_is_not():
    """Porian et al. 2024 (arXiv 2406.19146): untuned protocols and a tuned one on one corpus."""
    frame = pd.read_csv(tables("porian_owt2") / "isoflop_points.csv")
    mixed = get_check("mixed_schedules")
    assert mixed.look(Subject(read_table(frame))).verdict == "suspected"
    for setting in range(5):
        own = frame[frame["setting"] == setting].drop(columns="setting")
        assert mixed.look(Subject(read_table(own))).verdict == "clear"
        report = check(own, names="size_residuals,narrow_range", budget=False)
        assert report["narrow_range"].verdict == "clear"
        if setting == 2:  # short warmup, one rate for all sizes, decay by Kaplan's schedule
            assert report.undertuned.verdict == "suspected"
        if setting == 4:  # tuned at every size
            assert report.undertuned.verdict != "suspected"


def test_committed_grids_show_the_rungs_that_the_log_names():
    decoder = check(RESULTS / "tuning-decoder" / "store", count="non_embedding", budget=False)
    edge = decoder["rate_edge"].measured["rungs"]
    assert [v["verdict"] for v in edge.values()] == ["clear", "clear", "suspected"]
    assert len(decoder["rate_edge"].rows) == 6
    assert decoder["narrow_range"].verdict == "suspected"
    encoder = check(RESULTS / "tuning-encoder" / "store", count="non_embedding", budget=False)
    by_rung = {name: v["verdict"] for name, v in encoder["rate_edge"].measured["rungs"].items()}
    assert sorted(name for name, v in by_rung.items() if v == "suspected") == [
        "N = 2.49e+05, C = 3e+12",
        "N = 6.14e+04, C = 3e+12",
    ]
    assert by_rung["N = 1.38e+04, C = 3e+12"] == "clear"
    assert encoder.undertuned.verdict == "suspected"
    assert encoder.gaps.status == "non_interior"


def test_the_committed_study_is_clear_where_it_was_tuned():
    decoder = check(
        RESULTS / "hoffmann-toy" / "store", count="non_embedding", where="objective == 'causal'", budget=False
    )
    assert decoder.undertuned.verdict == "clear"
    assert decoder["curve_collapse"].verdict == "clear"
    assert decoder["uneven_shapes"].verdict == "clear"
    assert decoder.collapse is not None
    assert decoder.collapse.spread.mean() < 0.1
    assert decoder.diagnostics.leverage.sum() == pytest.approx(5)


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_uneven_depths_of_a_committed_store_are_found(objective):
    found = check(
        RESULTS / "uneven-depth" / "store",
        names="uneven_shapes",
        count="non_embedding",
        where=f"objective == '{objective}'",
        budget=False,
    )["uneven_shapes"]
    assert found.verdict == "suspected"
    assert found.measured["log_loss_per_log_depth"] < 0
