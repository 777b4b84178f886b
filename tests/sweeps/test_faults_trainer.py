"""A signal while somebody's own training function works: it saves and leaves, and a rerun ends as if undisturbed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from fault_world import ended, environment, losses, start, sweep_file, wait_for

from scaling.store import Store, verify

TRAINER = """\
import json, os, time
from scaling.trainer import Trained

def train(task):
    saved, step, total = task.folder / "state.json", 0, 0.0
    if saved.exists():
        step, total = json.loads(saved.read_text())
    for windows in task.batches(step):
        total += float(windows.sum()) / windows.size
        step += 1
        time.sleep(float(os.environ.get("SLOW", "0")))
        if step % 10 == 0:
            task.report(step, total / step)
        if task.stop():
            saved.write_text(json.dumps([step, total]))
            return None
    return Trained(total / task.trial.steps)
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "faults-cache"))


@pytest.mark.parametrize(
    ("number", "serial"),
    [(signal.SIGINT, True), pytest.param(signal.SIGTERM, False, marks=pytest.mark.ray)],
    ids=["serial", "ray"],
)
def test_a_signal_lets_it_save_and_a_rerun_goes_on(number: signal.Signals, serial: bool, tmp_path: Path) -> None:
    (tmp_path / "own_trainer.py").write_text(TRAINER)
    sweep = sweep_file(tmp_path, seeds=1)
    sweep.write_text(sweep.read_text() + "trainer: own_trainer:train\n")
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    fast, slow = (environment(PYTHONPATH=paths, SLOW=pause) for pause in ("0", "0.05"))
    ended(start(sweep, tmp_path / "whole", fast, serial=True))
    truth = losses(tmp_path / "whole")

    store = tmp_path / "store"
    process = start(sweep, store, slow, serial=serial, workers=1)
    at_work = (store / "format.json").exists
    wait_for(lambda: at_work() and any(n["info"]["step"] for n in Store.open(store).running().values()))
    process.send_signal(number)
    ended(process, 128 + number, 40)
    assert list(store.glob("checkpoints/*/trainer/state.json"))
    assert losses(store) == {}
    ended(start(sweep, store, fast, serial=serial, workers=1))
    assert losses(store) == truth
    assert verify(Store.open(store)) == []
    assert set(Store.open(store).curves().groupby("run_id").step.max()) == {300}
