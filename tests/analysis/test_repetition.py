"""What a repeated token is worth: read off simulated runs on a known law, with intervals that cover it."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from simulated_repetition import TEXTS, TRUTH, loss_of, repetition_sweep

from analysis import fit
from analysis.choosing import choose
from analysis.fresh_curves import FreshCurve
from analysis.law_worth import data_term_worth, law_equivalents
from analysis.laws import get_law
from analysis.repetition import Repetition, measure_repetition
from analysis.types import FitResult, Status
from scaling.errors import InputError


def the_law(rows: pd.DataFrame, bootstrap: int = 0) -> FitResult:
    return fit(rows, "data_constrained", count="non_embedding", bootstrap=bootstrap, verify=False)


def true_equivalent(n: float, d: float, u: float) -> float:
    at = np.geomspace(u / 8, d, 20_000)
    return float(np.interp(-loss_of(n, d, u), -loss_of(n, at, at), at))


@pytest.fixture(scope="module")
def clean() -> tuple[Repetition, FitResult]:
    rows = repetition_sweep()
    law = the_law(rows)
    return measure_repetition(rows, law, bootstrap=40), law


def test_worth_is_the_known_laws_at_every_cell_and_step(clean: tuple[Repetition, FitResult]) -> None:
    found, law = clean
    assert law.values["R_D"] == pytest.approx(TRUTH["R_D"], rel=1e-3)
    assert law.values["R_N"] == pytest.approx(TRUTH["R_N"], rel=1e-3)
    assert found.status is Status.CONVERGED
    assert len(found.points) == 42
    for p in found.points:
        truth = true_equivalent(p.params, p.unique_tokens * p.epochs, p.unique_tokens)
        assert p.equivalent.value == pytest.approx(truth, rel=0.01)
        if p.epochs > 1:
            assert p.law.value == pytest.approx((truth / p.unique_tokens - 1) / (p.epochs - 1), rel=0.01)
            fresh = loss_of(p.params, p.unique_tokens * p.epochs, math.inf)
            again = loss_of(p.params, p.unique_tokens * p.epochs, p.unique_tokens)
            assert p.excess.value == pytest.approx(float(again / fresh - 1), abs=1e-9)
    for s in found.steps:
        ends = [true_equivalent(s.params, s.unique_tokens * e, s.unique_tokens) for e in (s.first, s.last)]
        assert s.worth.value == pytest.approx((ends[1] - ends[0]) / ((s.last - s.first) * s.unique_tokens), abs=0.015)
        assert s.law.value == pytest.approx(s.worth.value, abs=0.015)
        assert s.data_term.value == pytest.approx(float(data_term_worth(TRUTH["R_D"], s.first, s.last)), rel=0.01)


def test_means_are_over_the_cells_of_a_step(clean: tuple[Repetition, FitResult]) -> None:
    found, _ = clean
    assert [(s.first, s.last) for s in found.by_epoch] == [(2.0**k, 2.0 ** (k + 1)) for k in range(6)]
    for mean in found.by_epoch:
        mine = [s.worth.value for s in found.steps if s.last == mean.last]
        assert mean.cells == len(mine)
        assert mean.worth.value == pytest.approx(np.mean(mine))
    assert {s.params for s in found.by_size} == {p.params for p in found.points}
    assert json.dumps(found.to_json(), allow_nan=False)


def test_with_noise_intervals_cover_the_truth() -> None:
    """Nominal 90 %, over the first four steps of 40 sweeps; of 8 sweeps' R_D* and R_N* at least 12 of 16."""
    truth = {s.last: s.worth.value for s in measure_repetition(repetition_sweep(), bootstrap=20).by_epoch}
    inside = []
    for seed in range(40):
        found = measure_repetition(repetition_sweep(sigma=0.007, seed=seed), bootstrap=100)
        inside += [s.worth.ci[0] <= truth[s.last] <= s.worth.ci[1] for s in found.by_epoch[:4]]
    assert 0.80 <= np.mean(inside) <= 0.98
    laws = [the_law(repetition_sweep(sigma=0.007, seed=seed), bootstrap=40) for seed in range(8)]
    held = [law.interval(name)[0] < TRUTH[name] < law.interval(name)[1] for law in laws for name in ("R_D", "R_N")]
    assert sum(held) >= 12
    assert all(law.interval("R_D")[1] / law.interval("R_D")[0] < 3.0 for law in laws)


def test_epochs_that_hurt_are_told_and_cost_worth() -> None:
    found = measure_repetition(repetition_sweep(sigma=0.002, hurt=0.05, seed=1), bootstrap=100)
    by_cell = {(s.params, s.unique_tokens): s for s in found.series}
    hurt = by_cell[(28_224.0, TEXTS[0])]
    assert hurt.status is Status.CONVERGED
    assert hurt.last_change.ci[0] > 0
    assert hurt.best_epochs < hurt.most_epochs == 64.0
    fine = by_cell[(28_224.0, TEXTS[2])]
    assert fine.last_change.ci[1] < 0
    assert fine.best_epochs == 4.0
    last = [s for s in found.steps if (s.params, s.unique_tokens, s.last) == (28_224.0, TEXTS[0], 64.0)]
    assert last[0].worth.ci[1] < 0


def test_free_epochs_end_where_the_excess_is_told_from_noise() -> None:
    found = measure_repetition(repetition_sweep(sigma=0.004, seed=2), bootstrap=200)
    for s in found.series:
        mine = [p for p in found.points if (p.params, p.unique_tokens) == (s.params, s.unique_tokens)]
        free = [p for p in mine if p.epochs <= s.free_epochs]
        assert all(p.excess.ci[0] <= 0 for p in free)
        if math.isfinite(s.resolved_at):
            assert next(p for p in mine if p.epochs == s.resolved_at).excess.ci[0] > 0


def test_worse_than_every_fresh_run_is_said_and_left_out_of_means() -> None:
    rows = repetition_sweep(sigma=0.001)
    bad = (rows.tokens_unique == TEXTS[0]) & (rows.epochs == 64.0)
    rows.loc[bad, "loss"] = 9.0
    found = measure_repetition(rows, bootstrap=40)
    lost = [p for p in found.points if p.epochs == 64.0]
    assert {p.status for p in lost} == {Status.NON_INTERIOR}
    assert all("worse than the shortest fresh run (1.31e+05)" in p.reason for p in lost)
    last = found.by_epoch[-1]
    assert (last.status, last.worth.known) == (Status.NON_INTERIOR, False)
    assert last.reason == "2 of 2 cells lie beyond the fresh runs and are left out"


def test_one_pass_stands_in_for_fresh_runs_that_are_not_there() -> None:
    rows = repetition_sweep()
    gone = rows[~((rows.tokens_unique == 1e8) & (rows.tokens == TEXTS[1]))]
    found, whole = (measure_repetition(r, bootstrap=0) for r in (gone, rows))
    assert [f.tokens for f in found.fresh] == [f.tokens for f in whole.fresh]
    for a, b in zip(found.points, whole.points, strict=True):
        assert a.equivalent.value == pytest.approx(b.equivalent.value)


def test_without_seeds_there_are_values_and_no_intervals() -> None:
    rows = repetition_sweep()
    found = measure_repetition(rows[rows.seed == 0], bootstrap=40)
    assert found.status is Status.NOT_RESOLVED
    assert "several seeds" in found.reason
    assert found.by_epoch[0].worth.known
    assert not np.isfinite(found.by_epoch[0].worth.ci).any()


def test_without_repetition_or_fresh_text_nothing_is_measured() -> None:
    rows = repetition_sweep()
    once = measure_repetition(rows[rows.epochs <= 1.0], bootstrap=0)
    assert (once.status, once.reason) == (Status.TOO_FEW_POINTS, "no run saw its text again")
    again = measure_repetition(rows[rows.epochs > 1.0], bootstrap=0)
    assert (again.status, again.reason) == (Status.TOO_FEW_POINTS, "no size has 3 horizons of fresh text")


def test_the_papers_data_term() -> None:
    """Ibid. §3: U_D R_D* (1 − e^(−R/R_D*)) is what R repetitions add; steps add up to it."""
    r = 15.387756
    steps = [(1, 2), (2, 4), (4, 8), (8, 16)]
    total = sum((b - a) * float(data_term_worth(r, a, b)) for a, b in steps)
    assert total == pytest.approx(r * (1 - math.exp(-15 / r)))
    law = get_law("data_constrained").instances["muennighoff_2023"]
    assert law["R_D"] == r


def test_law_equivalents_are_the_tokens_themselves_for_one_pass(clean: tuple[Repetition, FitResult]) -> None:
    _, law = clean
    np.testing.assert_allclose(law_equivalents(law, 1e5, 1e6, [1e6]), 1e6, rtol=1e-4)


def test_a_fresh_curve_is_inverted_and_made_to_fall() -> None:
    x = np.log([1e5, 2e5, 4e5, 8e5])
    y = np.array([[1.0, 0.8, 0.7, 0.65], [1.0, 0.7, 0.8, 0.65]])
    curve = FreshCurve(x, y)
    back, outside = curve.equivalent(np.array([[1.0, 0.75, 0.65, 1.1, 0.6]] * 2))
    assert outside.tolist() == [0, 0, 0, -1, 1]
    np.testing.assert_allclose(curve.loss(back[0, :3])[0], [1.0, 0.75, 0.65], atol=1e-4)
    assert np.isnan(curve.loss(np.log([5e4]))).all()
    assert (np.diff(curve.loss(np.linspace(x[0], x[-1], 50)), axis=1) <= 1e-12).all()
    assert back[0, 3] < x[0]
    assert back[0, 4] > x[-1]


def test_laws_are_chosen_by_the_epochs_or_texts_that_were_held_out() -> None:
    rows = repetition_sweep(sigma=0.003)
    by_epochs = choose(rows, ("chinchilla", "data_constrained"), holdout="epochs", count="non_embedding", bootstrap=40)
    assert by_epochs.best == "data_constrained"
    assert by_epochs["chinchilla"].difference.ci[0] > 0
    assert by_epochs["data_constrained"].held_out == (rows.epochs > 8.0 * (1 + 1e-9)).sum()
    by_text = choose(rows, ("data_constrained",), holdout="unique_tokens", count="non_embedding", bootstrap=20)
    assert by_text["data_constrained"].held_out == rows.tokens_unique.isin(TEXTS).sum()
    assert by_text["data_constrained"].log_rmse < 0.006
    once = choose(rows[rows.epochs <= 1], ("chinchilla",), holdout="epochs")
    assert once["chinchilla"].reason == "no run saw its text again"
    plain = rows.drop(columns="tokens_unique")
    assert choose(plain, ("chinchilla",), holdout="epochs")["chinchilla"].reason == "the table has no unique_tokens"
    with pytest.raises(InputError, match="bootstrap 3 at least 20"):
        choose(rows, ("chinchilla",), bootstrap=3)


def test_the_bounded_law_counts_no_text_that_was_not_seen() -> None:
    law = get_law("bounded")
    at = {"params": 1e5, "tokens": 1e6}
    whole, seen = (law.predict(law.example, **at, unique_tokens=u) for u in (1e9, 1e6))
    assert float(whole) == float(seen)
    assert float(law.predict(law.example, **at, unique_tokens=1e5)) > float(seen)
