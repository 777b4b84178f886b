"""Rolling origin through the real launcher and ledger, with a training function whose losses follow a known law."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from law_world import install, law_sweep

from scaling import ledger
from scaling.store import Store
from sweeps.run import run_sweep
from sweeps.studies.base import Options
from sweeps.studies.frontier_parts import rolling
from sweeps.studies.frontier_parts.rolling import TRAINED, Family, targets, train, train_beyond

REPEATS = """\
include: sweep-law.yaml
name: law-seeds
seeds: [1]
design:
  budgets: [1e12]
  sizes: {number: 1}
"""


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """A study's folder with one family, trained by the law."""
    install(monkeypatch)
    (tmp_path / "sweep-law.yaml").write_text(law_sweep("[1e12, 2.5e12, 6.3e12, 1.6e13]", 5))
    (tmp_path / "sweep-law-seeds.yaml").write_text(REPEATS)
    return Options("smoke", tmp_path, serial=True, quiet=True)


def family(options: Options) -> Family:
    return Family.of(options.out, "law", ["law-seeds"])


def entries(options: Options) -> dict[float, ledger.Prediction]:
    return {e.target.flops: e for e in ledger.predictions(Store.open(options.out / "store"))}


@pytest.mark.slow
def test_every_rung_is_predicted_from_those_below_before_its_runs_begin(options: Options) -> None:
    """And the predictions of a law's own runs are right; a second call registers and trains nothing."""
    assert train(family(options), options)
    assert train_beyond([family(options)], options)
    made, rows = entries(options), Store.open(options.out / "store").rows()
    assert list(made) == [6.3e12, 1.6e13, 4e13, 1.6e14]
    for flops, entry in made.items():
        fitted = rows[rows.run_id.isin(entry.fitted_on.run_ids)]
        assert len(fitted) == len(entry.fitted_on.run_ids)
        assert set(fitted.budget) == {b for b in (1e12, 2.5e12, 6.3e12, 1.6e13) if b < flops}
        assert (fitted.seed == 1).sum() == 1
        assert len(entry.target.run_ids) == 2
        later = rows[(rows.budget >= flops) & ~rows.run_id.isin(entry.fitted_on.run_ids)]
        begun = [datetime.fromisoformat(json.loads(p)["started_at"]) for p in later.provenance]
        assert min(begun) > datetime.fromisoformat(entry.registered_at)
    found = targets(family(options), options.out / "store")
    assert [t.state for t in found] == ["scored"] * 4
    for t in found:
        assert t.outcome is not None
        assert t.outcome.score is not None
        assert not t.outcome.made_after_training
        assert abs(t.outcome.score.error_relative) < 0.03
        assert set(t.outcome.score.skill) == {"power_law", "last_two"}
    before = {p.name: p.stat().st_mtime_ns for p in (options.out / "store").rglob("*.json")}
    assert train(family(options), options)
    assert train_beyond([family(options)], options)
    assert {p.name: p.stat().st_mtime_ns for p in (options.out / "store").rglob("*.json")} == before
    assert len(Store.open(options.out / "store").rows()) == len(rows)


@pytest.mark.slow
def test_a_rung_that_is_trained_first_is_never_predicted(options: Options) -> None:
    mine = family(options)
    run_sweep(mine.file, options.out / "store", overrides=["design.budgets=[6.3e12]"], serial=True, quiet=True)
    assert train(mine, options)
    assert 6.3e12 not in entries(options)
    first, second, *_ = targets(mine, options.out / "store")
    assert (first.state, first.reason) == ("not predicted", TRAINED)
    assert second.state == "scored"
    assert train(mine, options)
    assert 6.3e12 not in entries(options)


@pytest.mark.slow
def test_a_rung_above_that_is_trained_first_leaves_those_below_without(options: Options) -> None:
    """Its loss would bound theirs."""
    mine = family(options)
    run_sweep(mine.file, options.out / "store", overrides=["design.budgets=[1.6e13]"], serial=True, quiet=True)
    assert train(mine, options)
    assert set(entries(options)) == set(mine.beyond)
    assert [t.state for t in targets(mine, options.out / "store")] == ["not predicted"] * 2 + ["registered"] * 2


def test_a_stopped_study_goes_on_with_the_forecast_that_stands(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after a forecast and before its runs, the next call trains them and keeps the forecast."""
    launched: list[int] = []
    real = rolling.launch

    def stopping(sweeps: object, options: Options, seconds: float | None) -> bool:
        launched.append(1)
        return len(launched) <= rolling.FIRST and real(sweeps, options, seconds)  # type: ignore[arg-type]

    monkeypatch.setattr(rolling, "launch", stopping)
    assert not train(family(options), options)
    standing = entries(options)
    assert list(standing) == [6.3e12]
    states = [t.state for t in targets(family(options), options.out / "store")]
    assert states == ["registered", "to come", "to come", "to come"]
    monkeypatch.setattr(rolling, "launch", real)
    assert train(family(options), options)
    assert entries(options)[6.3e12] == standing[6.3e12]
    assert targets(family(options), options.out / "store")[0].state == "scored"


def test_no_time_trains_and_predicts_nothing(options: Options) -> None:
    assert not train(family(options), options, 0.0)
    assert entries(options) == {}
    assert len(Store.open(options.out / "store").rows()) == 0


def test_targets_beyond_wait_for_every_rung(options: Options) -> None:
    mine = family(options)
    run_sweep(mine.file, options.out / "store", overrides=["design.budgets=[1e12]"], serial=True, quiet=True)
    assert train_beyond([mine], options)
    assert entries(options) == {}
