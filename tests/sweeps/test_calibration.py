"""The model of a step's time: recovered from its own predictions, kept per machine, right on the committed study."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scaling.store import Store
from scaling.trial import Trial
from sweeps import calibration, measure
from sweeps.calibration import Calibration, Measured, Shape, fitted

STUDY = Path(__file__).resolve().parents[2] / "results/hoffmann-toy/store"


def shape(width: int, batch: int, layers: int = 3) -> Shape:
    return Shape.of(measure._trial(layers, width, batch, "bf16"), 256, min(batch, 2048))


POINTS = [shape(w, b, n) for w in (16, 48, 96) for b in (128, 512, 2048) for n in (2, 4)]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path))


def test_a_machine_three_times_as_fast_is_recovered() -> None:
    truth = Calibration()
    points = [Measured(s, False, truth.step_seconds(s, False) / 3) for s in POINTS]
    found = fitted(points, matmul_flops_per_s=1e11)
    assert found.measured
    assert not found.compiled_measured
    for s in POINTS:
        assert found.step_seconds(s, False) == pytest.approx(truth.step_seconds(s, False) / 3, rel=0.02)
        # never measured, so by the shipped ratio
        assert found.step_seconds(s, True) == pytest.approx(truth.step_seconds(s, True) / 3, rel=0.02)


def test_another_kind_of_machine_is_recovered() -> None:
    """Slow products and quick launches, so that no scaling of the shipped table gives it."""
    truth = Calibration(eager=(1e-3, 1e-4, 3e-2, 0.2, 1.0, 5e-3))
    points = [Measured(s, False, truth.step_seconds(s, False)) for s in POINTS]
    found = fitted(points, matmul_flops_per_s=None)
    worst = max(abs(found.step_seconds(s, False) / truth.step_seconds(s, False) - 1) for s in POINTS)
    assert worst < 0.1


def test_a_measurement_is_kept_by_precision_and_trials_at_once() -> None:
    mine = fitted([Measured(POINTS[0], False, 0.01)], matmul_flops_per_s=3e11, concurrency=1, precision="fp32")
    assert calibration.load(1, "fp32") is None
    calibration.save(mine)
    assert calibration.load(1, "fp32") == mine
    assert calibration.load(1, "bf16") is None
    assert calibration.at_once(10_000) == calibration.cores()
    calibration.calibration_file(1, "fp32").write_text('{"version": 1, "eager": [1, 2]}')
    assert calibration.load(1, "fp32") is None
    assert Calibration.from_json({**mine.to_json(), "version": 0}) is None


def test_what_cannot_be_measured_follows_the_shipped_table(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def refuse(*arguments: object) -> None:
        raise RuntimeError("no torch")

    monkeypatch.setattr(measure, "_run_processes", refuse)
    assert measure.calibrate(1, when="missing", say=said.append) == Calibration()
    assert said[-1] == "could not measure: no torch; the plan's times follow the shipped table"
    assert measure.calibrate(1, when="never") == Calibration()


def test_the_model_gives_every_run_of_the_committed_study() -> None:
    """Fitted to the study's own times, training seconds of each decoder run within a quarter, their sum within a tenth.

    Six coefficients for each way of running, some thirty runs, two trials at once on one machine.
    """
    rows = Store.open(STUDY).rows()
    trials = [Trial.model_validate_json(str(spec)) for spec in rows["spec"]]
    how = [json.loads(str(e)) for e in rows["execution"]]
    shapes = [Shape.of(t, 256, e["micro_batch_tokens"]) for t, e in zip(trials, how, strict=True)]
    seconds = (rows["wall_s"] / rows["steps"]).tolist()
    points = [Measured(s, e["compiled"], t) for s, e, t in zip(shapes, how, seconds, strict=True)]
    model = fitted(points, matmul_flops_per_s=None)
    found = [
        model.training_seconds(t, 256, e["compiled"], e["micro_batch_tokens"]) for t, e in zip(trials, how, strict=True)
    ]
    mine = (rows["sweep"] == "hoffmann-decoder-toy").to_numpy()
    ratio = (np.array(found) / rows["wall_s"].to_numpy())[mine]
    assert len(ratio) == 15
    assert (abs(ratio - 1) < 0.25).all()
    assert np.array(found)[mine].sum() == pytest.approx(rows["wall_s"][mine].sum(), rel=0.1)


@pytest.mark.slow
def test_this_machine_is_measured_through_the_training_path() -> None:
    """One trial at once, a wide model slower than a narrow one, and no step beyond the matrix products' rate."""
    found = measure.measure(1)
    assert found is not None
    assert found.measured
    assert calibration.load(1) == found
    small, large = shape(16, 128), shape(128, 2048)
    assert 0 < found.step_seconds(small, False) < found.step_seconds(large, False)
    assert found.matmul_flops_per_s is not None
    assert large.flops / found.step_seconds(large, False) < found.matmul_flops_per_s
