"""SIGKILL of drivers and workers, at seeded moments and named points: after a rerun, the set of an unfaulted run."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from fault_world import check, ended, environment, losses, reference, run_storm, start, sweep_file, wait_for
from test_run import assert_loopback_only

STEPS = 1200
RAY_POINTS = [
    ("checkpoint:after-replace", "row:after-fsync"),
    ("curve:after-link", "checkpoint-note:after-write"),
    ("row:after-link", "eval:after-write", "checkpoint:after-write"),
]
"""Points at which one worker each is killed, by session; each session ends with the SIGKILL of its driver."""

KILL_ONCE = """
import os, signal
from scaling.store import files
class Brisk(module.JobRunner):
    def __init__(self, job, store):
        super().__init__(job, store, checkpoint_seconds=0.0)
    def advance(self, seconds, should_stop):
        return super().advance(0.3, should_stop)
module.JobRunner = Brisk
def kill(now):
    if now in {points!r}:
        try:
            os.close(os.open(os.path.join({folder!r}, now), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)
files.fault = kill
"""


def at_work(process: psutil.Process) -> bool:
    """Whether a process is there still; Ray's two agents look for their parent only now and then, and then leave."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and not process.name().endswith("Agent")
    except psutil.Error:
        return False


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "faults-cache"))


@pytest.mark.slow
def test_forty_killed_drivers_change_nothing(tmp_path: Path) -> None:
    """In process: half at seeded moments, half at named points of the publisher, the checkpoints and the notes."""
    found = run_storm(tmp_path, kills=40, seed=0)
    assert found["moments"] + found["points"] == 40
    assert min(found["moments"], found["points"]) >= 10


@pytest.mark.ray
def test_ten_kills_through_ray_change_nothing_and_leave_no_process(tmp_path: Path) -> None:
    truth = reference(tmp_path / "reference", STEPS)
    sweep, store = sweep_file(tmp_path, STEPS), tmp_path / "store"
    kills = 0
    for session, points in enumerate(RAY_POINTS):
        marks = tmp_path / f"session-{session}"
        marks.mkdir()
        env = environment(("scaling.job_runner", KILL_ONCE.format(points=points, folder=str(marks))), marks)
        process = start(sweep, store, env, workers=2)
        driver = psutil.Process(process.pid)
        family: set[psutil.Process] = set()

        def fired(process=process, driver=driver, family=family, marks=marks, points=points) -> bool:  # type: ignore[no-untyped-def]
            assert process.poll() is None, process.communicate()
            family.update(driver.children(recursive=True))
            return len(list(marks.glob("*:*"))) == len(points)

        wait_for(fired, 120)
        assert_loopback_only([driver, *family])
        process.kill()
        process.communicate()
        kills += len(points) + 1
        wait_for(lambda family=family: not any(at_work(p) for p in family), 30)
        check(store, truth)
    assert kills == 10
    assert len(losses(store)) < len(truth)
    ended(start(sweep, store, serial=True))
    assert check(store, truth) == truth
