"""Each detector on tables made to trip it, on tables made not to, and on tables that say nothing."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sweeps_by_law import SURFACES, isoflop

from analysis import fit, read_table
from analysis.checks import Subject, Verdict, check, get_check, list_checks
from analysis.checks.large_batch import least_steps
from scaling.errors import InputError

BUDGETS = np.geomspace(1e17, 1e19, 5)
SURFACE = SURFACES["chinchilla"]
SUSPECTED, CLEAR, CANNOT_TELL = Verdict.SUSPECTED, Verdict.CLEAR, Verdict.CANNOT_TELL


def table(sigma=0.003, **columns):
    return isoflop(SURFACE, BUDGETS, sigma=sigma, seed=5).assign(**columns)


def look(name, frame, **rest):
    return get_check(name).look(Subject(read_table(frame, allow_mixed_data=True, **rest)))


def grid(rates, batches, best_rate, best_batch, curvature=0.05, sigma=0.0, seed=0, **cell):
    """A rung: log loss quadratic in ln rate and ln batch about its optimum."""
    rng = np.random.default_rng(seed)
    cell = {"params": 1e7, "tokens": 1e9, "loss": 3.0, **cell}
    rows = []
    for lr in rates:
        for batch in batches:
            away = 0.5 * curvature * (np.log(lr / best_rate) ** 2 + np.log(batch / best_batch) ** 2)
            loss = cell["loss"] * np.exp(away + sigma * rng.standard_normal())
            rows.append({**cell, "lr": lr, "batch_tokens": batch, "loss": loss})
    return pd.DataFrame(rows)


RATES, BATCHES = 1e-3 * 2.0 ** np.arange(-2, 3), 1e5 * 2.0 ** np.arange(-2, 3)


def test_every_detector_is_listed_and_says_what_it_cannot_tell_of_a_plain_table():
    listed = list_checks()
    assert {c["name"] for c in listed} >= {
        "size_residuals", "rate_edge", "curve_collapse", "mixed_schedules", "read_early", "narrow_range", "mixed_data",
        "repeated_data", "large_batch",
    }  # fmt: skip
    assert all(c["summary"] and c["source"] for c in listed)
    report = check(table(), budget=False)
    verdicts = {f.check: f.verdict for f in report.findings}
    known = {"size_residuals", "narrow_range"}
    assert {v for c, v in verdicts.items() if c not in known} == {CANNOT_TELL}
    assert {verdicts[c] for c in known} == {CLEAR}
    assert all(f.reason for f in report.findings)
    assert report.undertuned.verdict is CLEAR
    assert "rate_edge" in report.undertuned.reason
    json.dumps(report.to_json(), allow_nan=False)
    assert "noise budget" not in repr(report)
    with pytest.raises(InputError, match="did you mean mixed_data"):
        check(table(), names="mixd_data")
    with pytest.raises(InputError, match="the fit holds 35 rows and the table 28"):
        check(isoflop(SURFACE, BUDGETS[:4]), fit(table(), bootstrap=0))


@pytest.mark.parametrize(
    ("best", "verdict", "word"),
    [(1e-3, CLEAR, "interior"), (1e-5, SUSPECTED, "lowest rate"), (1e-1, SUSPECTED, "highest rate")],
)
def test_a_rate_at_the_edge_of_its_grid(best, verdict, word):
    found = look("rate_edge", grid(RATES, BATCHES, best, 1e5))
    assert found.verdict is verdict
    assert word in found.reason
    assert (len(found.rows) == 25) is (verdict is SUSPECTED)


def test_rates_that_tie_or_are_two_cannot_tell():
    assert look("rate_edge", grid(RATES[:2], BATCHES, 1e-3, 1e5)).verdict is CANNOT_TELL
    assert look("rate_edge", table(lr=1e-3)).verdict is CANNOT_TELL
    means, away = [3.0, 3.005, 3.1, 3.2, 3.4], [-0.01, 0.01, 0.0]
    rows = [(lr, seed, m + a) for lr, m in zip(RATES, means, strict=True) for seed, a in enumerate(away)]
    flat = pd.DataFrame(rows, columns=["lr", "seed", "loss"]).assign(params=1e7, tokens=1e9, batch_tokens=1e5)
    seeded = look("rate_edge", flat)
    assert seeded.verdict is CANNOT_TELL
    assert "ties" in seeded.reason


def test_schedules_that_differ():
    assert look("mixed_schedules", table(schedule="cosine", warmup_fraction=0.1)).verdict is CLEAR
    mixed = table(schedule="cosine", warmup_fraction=0.1)
    mixed.loc[:2, "schedule"] = "constant"
    mixed.loc[30, "warmup_fraction"] = 0.02
    found = look("mixed_schedules", mixed)
    assert found.verdict is SUSPECTED
    assert found.rows == ("row 0", "row 1", "row 2", "row 30")
    spec = json.dumps({"schedule": {"type": "wsd", "decay_fraction": 0.1}})
    found = look("mixed_schedules", table(spec=[spec] * 20 + [spec.replace("0.1", "0.3")] * 15, schedule="wsd"))
    assert found.verdict is SUSPECTED
    assert "decay_fraction" in found.reason


def test_rows_read_before_the_end():
    assert look("read_early", table(steps=1000, total_steps=1000)).verdict is CLEAR
    found = look("read_early", table(portion_steps_elapsed=[0.4] * 5 + [1.0] * 30))
    assert found.verdict is SUSPECTED
    assert found.rows == tuple(f"row {i}" for i in range(5))
    trunk = table(schedule="cosine", lineage=[f"run {i // 7}" for i in range(35)])
    found = look("read_early", trunk)
    assert found.verdict is SUSPECTED
    assert len(found.rows) == 30  # of each lineage all but its longest
    assert look("read_early", trunk.assign(schedule="constant")).verdict is CANNOT_TELL
    spec = [json.dumps({"steps": 1000})] * 35
    curves = pd.concat(
        [pd.DataFrame({"run_id": f"r{i}", "tokens": [1.0, 2.0], "loss": 3.0, "lr": [1.0, 0.1]}) for i in range(35)],
        ignore_index=True,
    )
    whole = table(run_id=[f"r{i}" for i in range(35)], steps=1000, spec=spec, schedule="cosine")
    assert look("read_early", whole, curves=curves).verdict is CLEAR
    curves.loc[curves["run_id"] == "r3", "lr"] = 1.0
    found = look("read_early", whole, curves=curves)
    assert (found.verdict, found.rows) == (SUSPECTED, ("r3",))


def test_narrow_ranges():
    assert look("narrow_range", table()).verdict is CLEAR
    found = look("narrow_range", isoflop(SURFACE, BUDGETS[:1], sizes=3, ratio=1.5))
    assert found.verdict is SUSPECTED
    for word in ("N spans", "D spans", "C spans", "3 sizes"):
        assert word in found.reason


def test_mixed_data():
    assert look("mixed_data", table(data_digest="d", tokenizer="byte")).verdict is CLEAR
    found = look("mixed_data", table(data_digest=["d"] * 34 + ["e"], tokenizer="byte"))
    assert (found.verdict, found.rows) == (SUSPECTED, ("row 34",))


def test_repeated_data():
    assert look("repeated_data", table(epochs=0.5)).verdict is CLEAR
    found = look("repeated_data", table(epochs=[1.0] * 30 + [6.0] * 5))
    assert found.verdict is SUSPECTED
    assert len(found.rows) == 5
    unique = table()
    assert look("repeated_data", unique.assign(tokens_unique=unique["tokens"].min() * 2)).verdict is SUSPECTED


def test_batches_that_leave_too_few_steps():
    # Kaplan's table 6 at one PF-day, and at the budget of a toy sweep.
    assert least_steps(np.array(8.64e19)) == pytest.approx(5.4e3)
    assert least_steps(np.array(2e12)) == pytest.approx(5.4e3 * (2e12 / 8.64e19) ** 0.03)
    base = table()
    fixed = look("large_batch", base.assign(batch_tokens=2e6))
    assert fixed.verdict is SUSPECTED
    steps = base["tokens"] / 2e6
    few = np.flatnonzero(steps < 0.5 * least_steps(base["flops"].to_numpy()))
    assert fixed.rows == tuple(f"row {i}" for i in few)
    assert look("large_batch", base.assign(batch_tokens=base["tokens"] / 8000)).verdict is CLEAR
    assert look("large_batch", base.assign(batch_tokens=base["tokens"] / 3000)).verdict is CANNOT_TELL
    small = grid(RATES, BATCHES, 1e-3, 1e4, tokens=1e8)
    found = look("large_batch", small)
    assert found.verdict is SUSPECTED
    assert "smallest batch tried" in found.reason


def test_a_fixed_batch_hides_from_residuals_and_not_from_its_steps():
    """A smooth excess that grows as the steps run out: a wrong exponent with a beautiful fit."""
    tuned = isoflop(SURFACE, BUDGETS, sigma=0.003, seed=1)
    tuned["batch_tokens"] = tuned["tokens"] / 10_000
    batch = float(tuned["tokens"].median() / 3000)
    bad = tuned.assign(batch_tokens=batch)
    bad["loss"] *= np.exp(0.25 * np.sqrt(166 / (bad["tokens"] / batch)))
    good, caught = check(tuned, budget=False), check(bad, budget=False)
    assert good.undertuned.verdict is CLEAR
    assert caught.undertuned.verdict is SUSPECTED
    assert caught.undertuned.measured["by"] == ["large_batch"]
    a, b = (fit(t, bootstrap=0).values for t in (tuned, bad))
    exponent = [v["beta"] / (v["alpha"] + v["beta"]) for v in (a, b)]
    assert abs(exponent[1] - exponent[0]) > 0.02


def test_uneven_depths():
    base = isoflop(SURFACE, BUDGETS, sigma=0.003, seed=2)
    rng = np.random.default_rng(0)
    depth = rng.choice([2, 4, 8], 35)
    assert look("uneven_shapes", base.assign(n_layer=4)).verdict is CLEAR
    even = get_check("uneven_shapes")
    for slope, verdict in ((0.0, CLEAR), (-0.03, SUSPECTED)):
        frame = base.assign(n_layer=depth, loss=base["loss"] * (depth / 4.0) ** slope)
        runs = read_table(frame)
        found = even.look(Subject(runs, fit=fit(runs, objective="ls_log", bootstrap=0)))
        assert found.verdict is verdict
    assert found.measured["log_loss_per_log_depth"] == pytest.approx(-0.03, abs=0.006)
