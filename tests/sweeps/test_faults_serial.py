"""Faults of `--serial`: signals, memory, NaN, hangs, full disks, clocks, rival drivers, damage; a rerun mends each."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fault_world import check, ended, environment, losses, reference, start, survivors, sweep_file, wait_for

from scaling.errors import DiskError, StoreError
from scaling.store import Store, files, gc
from sweeps.run import run_sweep


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "faults-cache"


@pytest.fixture(autouse=True)
def _cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(cache))


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> dict[str, float]:
    os.environ["SCALING_CACHE"] = str(cache)
    return reference(tmp_path_factory.mktemp("truth"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, truth: dict[str, float]) -> Path:
    """A finished store, to be copied."""
    return tmp_path_factory.getbasetemp() / "truth0" / "store"


def rerun(folder: Path, store: Path, seeds: int = 2) -> int:
    """Runs what a store lacks, in this process; how many trials ran."""
    return run_sweep(sweep_file(folder, seeds=seeds), store, serial=True, quiet=True, compile_trials=False).ran


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory, truth: dict[str, float]) -> Path:
    """A store whose first trial was killed after three checkpoints, to be copied."""
    folder = tmp_path_factory.mktemp("half")
    code = (
        "import os, signal\nfrom scaling.store import files\n"
        "class Brisk(module.JobRunner):\n"
        "    def __init__(self, job, store):\n        super().__init__(job, store, checkpoint_seconds=0.0)\n"
        "    def advance(self, seconds, should_stop):\n        return super().advance(0.05, should_stop)\n"
        "module.JobRunner = Brisk\nleft = [3]\n"
        "def kill(now):\n    left[0] -= now == 'checkpoint-note:after-replace'\n"
        "    if not left[0]:\n        os.kill(os.getpid(), signal.SIGKILL)\nfiles.fault = kill\n"
    )
    env = environment(("scaling.job_runner", code), folder)
    ended(start(sweep_file(folder), folder / "store", env, serial=True), -signal.SIGKILL)
    return folder / "store"


@pytest.mark.parametrize("serial", [True, pytest.param(False, marks=pytest.mark.ray)], ids=["serial", "ray"])
def test_a_second_signal_leaves_at_once_and_leaves_no_process(serial: bool, tmp_path: Path) -> None:
    """The first one cannot be obeyed here: the trial hangs."""
    hang = "import time\nmodule.TrialRun._train_step = lambda self: time.sleep(60)\n"
    env = environment(("scaling.train", hang), tmp_path)
    store = tmp_path / "store"
    process = start(sweep_file(tmp_path), store, env, serial=serial, workers=1)
    wait_for(lambda: Store.open(store).running() if (store / "format.json").exists() else False)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    second = time.monotonic()
    ended(process, 130, 30)
    assert time.monotonic() - second < 5
    assert not survivors(family)
    assert not list(store.glob(".drain-*"))


def test_a_signal_that_nobody_hears_ends_the_process_in_time(tmp_path: Path) -> None:
    hang = "import time\nmodule.TrialRun._train_step = lambda self: time.sleep(60)\n"
    hang += "import sweeps.drain\nsweeps.drain.GRACE_SECONDS = 1.0\n"
    process = start(
        sweep_file(tmp_path), tmp_path / "store", environment(("scaling.train", hang), tmp_path), serial=True
    )
    wait_for(lambda: list((tmp_path / "store").glob("running/*.json")))
    process.send_signal(signal.SIGTERM)
    first = time.monotonic()
    ended(process, 143, 30)
    assert time.monotonic() - first < 8


def test_hangs_lack_of_memory_and_losses_that_are_no_numbers(truth: dict[str, float], tmp_path: Path) -> None:
    """Each has its status and reason, the others run; a rerun tries the failed again and the diverged not."""
    hang, memory, not_a_number, infinite = sorted(truth)
    code = f"""
import dataclasses, math, scaling.guard
scaling.guard.FACTOR = 0.0
real, evaluate = module.TrialRun._train_step, module.TrialRun.evaluate
def step(self):
    run_id = self.planned[0].run_id
    if run_id == {hang!r} and self.step == 3:
        import time
        time.sleep(60)
    if run_id == {memory!r} and self.execution.micro_batch_tokens == 128:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
    if run_id == {infinite!r} and self.step == 7:
        self.theta.mul_(math.inf)
    real(self)
def judged(self, index, stop):
    held, scored = evaluate(self, index, stop)
    wrong = self.planned[0].run_id == {not_a_number!r}
    return (dataclasses.replace(held, loss=math.nan) if wrong else held), scored
module.TrialRun._train_step, module.TrialRun.evaluate = step, judged
"""
    env = environment(("scaling.train", code), tmp_path, SCALING_HANG_SECONDS="4")
    store = tmp_path / "store"
    said = ended(start(sweep_file(tmp_path), store, env, serial=True), status=1)
    rows = Store.open(store).rows().set_index("run_id")
    assert rows.status.to_dict() == {
        hang: "failed",
        memory: "finished",
        not_a_number: "diverged",
        infinite: "diverged",
    }
    assert rows.loc[hang, "reason"].startswith("Hung: a slice of work took over 4 s")
    assert f"failed {hang}: Hung" in said
    assert rows.loc[not_a_number, "reason"] == "held-out loss is nan after 300 steps"
    assert rows.loc[infinite, "reason"] == "loss or gradient not finite at step 8 of 300"
    assert '"micro_batch_tokens":64' in rows.loc[memory, "execution"]
    (before,) = Store.open(store).execution_changes(memory)
    assert before["execution"]["micro_batch_tokens"] == 128
    assert rerun(tmp_path, store) == 1
    assert losses(store)[hang] == truth[hang]


def test_memory_that_stays_short_is_a_failure_after_one_halving(tmp_path: Path) -> None:
    code = "def step(self):\n    raise MemoryError\nmodule.TrialRun._train_step = step\n"
    env = environment(("scaling.train", code), tmp_path)
    store = tmp_path / "store"
    for _ in range(2):
        ended(start(sweep_file(tmp_path), store, env, serial=True, limit=1), status=1)
    opened = Store.open(store)
    (run_id,) = opened.failed()
    kept = opened.execution(run_id)
    assert kept is not None
    assert kept.micro_batch_tokens == 64
    assert len(opened.execution_changes(run_id)) == 1
    assert len(list((store / "rows").glob("*.failed-*"))) == 2


KINDS = ["format", "execution", "running", "curve", "eval", "row", "checkpoint", "checkpoint-note"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_at_each_write_is_one_error_and_a_rerun_works(
    kind: str, truth: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(point: str) -> None:
        if point == f"{kind}:after-write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    from scaling import job_runner

    class Brisk(job_runner.JobRunner):
        def __init__(self, job: object, store: Store) -> None:
            super().__init__(job, store, checkpoint_seconds=0.0)  # type: ignore[arg-type]

    monkeypatch.setattr(job_runner, "JobRunner", Brisk)
    monkeypatch.setattr("sweeps.serial.SLICE_SECONDS", 0.05)
    monkeypatch.setattr(files, "fault", refuse)
    store = tmp_path / "store"
    with pytest.raises(DiskError, match=r"cannot be written: .*No space left on device.* free some space"):
        rerun(tmp_path, store, seeds=1)
    monkeypatch.setattr(files, "fault", lambda point: None)
    assert check(store, truth) == {}
    assert not list(store.glob(".staging/*-*"))
    assert rerun(tmp_path, store, seeds=1) == 2
    assert len(check(store, truth)) == 2


def limited() -> None:
    """SIGXFSZ is ignored by Python, so that a write past the limit is an error."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))


def test_a_file_size_limit_is_one_error_and_a_rerun_works(truth: dict[str, float], tmp_path: Path) -> None:
    store = tmp_path / "store"
    code = (
        f"import sys; sys.argv = ['scaling', 'run', {str(sweep_file(tmp_path))!r}, '--store', {str(store)!r},"
        " '--serial', '--eager', '--quiet']; from scaling.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=limited, env=environment(), timeout=60
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert "cannot be written: File too large; raise the size limit and run again" in line
    assert check(store, truth) == {}
    assert rerun(tmp_path, store, seeds=1) == 2
    assert len(check(store, truth)) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB; where none can be mounted, a store of which the 40th write finds the disk full."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", place], capture_output=True)
    yield place
    if mounted.returncode == 0:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_fills_up_loses_nothing_that_was_published(
    small_disk: Path, truth: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not os.path.ismount(small_disk):
        writes = iter(range(10**6))

        def refuse(point: str) -> None:
            if point.endswith("after-write") and next(writes) >= 40:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(files, "fault", refuse)
    else:
        (small_disk / "filler").write_bytes(os.urandom(150 << 10))
    store = small_disk / "store"
    with pytest.raises(StoreError, match="No space left on device"):
        rerun(tmp_path, store)
    before = losses(store)
    assert before.items() < truth.items()
    (small_disk / "filler").unlink(missing_ok=True)
    monkeypatch.setattr(files, "fault", lambda point: None)
    moved = tmp_path / "store"
    shutil.copytree(store, moved)
    assert rerun(tmp_path, moved) == 4 - len(before)
    assert check(moved, truth) == truth


@pytest.mark.parametrize("shift", [-86400.0, 86400.0], ids=["back", "forth"])
def test_a_clock_set_by_a_day_changes_nothing(shift: float, truth: dict[str, float], tmp_path: Path) -> None:
    """Set within the first trial, for the process; and the files' dates lie a day off for housekeeping."""
    code = f"""
import time, datetime as d
real, step = time.time, module.TrialRun._train_step
def shifted(self):
    if self.step == 100:
        time.time = lambda: real() + {shift}
    step(self)
module.TrialRun._train_step = shifted
"""
    store = tmp_path / "store"
    ended(start(sweep_file(tmp_path), store, environment(("scaling.train", code), tmp_path), serial=True))
    assert check(store, truth) == truth
    opened = Store.open(store, write=True)
    victim = next(iter(truth))
    opened.mark_running(victim, {"sweep": "tiny"})
    (store / f"rows/{victim}.parquet").rename(tmp_path / "row")
    staged = files.new_staged(store)
    staged.write_bytes(b"being written")
    for path in (staged, *(store / "curves").iterdir(), *(store / "running").iterdir()):
        os.utime(path, (time.time() - shift, time.time() - shift))
    assert not opened.running()[victim]["stale"]
    gc(opened)
    (tmp_path / "row").rename(store / f"rows/{victim}.parquet")
    assert staged.exists()
    staged.unlink()
    assert check(store, truth) == truth


@pytest.mark.parametrize("drivers", [2, 4])
def test_drivers_on_one_store_at_once_count_each_run_once(
    drivers: int, truth: dict[str, float], tmp_path: Path
) -> None:
    store, sweep = tmp_path / "store", sweep_file(tmp_path)
    code = "import functools\nmodule.JobRunner = functools.partial(module.JobRunner, checkpoint_seconds=0.0)\n"
    code += "import sweeps.serial\nsweeps.serial.SLICE_SECONDS = 0.1\n"
    env = environment(("scaling.job_runner", code), tmp_path)
    for process in [start(sweep, store, env, serial=True) for _ in range(drivers)]:
        assert "4 finished" in ended(process)
    assert check(store, truth) == truth
    assert Store.open(store).quarantined() == []
    assert len(list((store / "rows").iterdir())) == 4


def test_a_store_that_cannot_be_written_is_refused_before_any_work(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    shutil.copytree(whole, store)
    for row in (store / "rows").iterdir():
        row.unlink()

    def refuse(point: str) -> None:
        if point == "probe:after-write":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files, "fault", refuse)
    monkeypatch.setattr("sweeps.serial.run_serial", lambda *_: pytest.fail("work began"))
    with pytest.raises(StoreError, match=r"store: cannot be written: Read-only file system; .* choose another store"):
        rerun(tmp_path, store)


def damaged(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 3] ^= 16
    path.write_bytes(data[: {"cut": len(data) // 2, "emptied": 0}.get(how, len(data))])


@pytest.mark.parametrize("how", ["cut", "flipped", "emptied"])
def test_a_damaged_row_curve_and_evals_are_named_and_made_again(
    how: str, whole: Path, truth: dict[str, float], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(whole, store)
    first, second, third, _ = sorted(truth)
    names = [f"rows/{first}.parquet", f"curves/{second}.parquet", f"evals/{third}.parquet"]
    for name in names:
        damaged(store / name, how)
    opened = Store.open(store, write=True)
    opened.curves(), opened.evals()
    assert set(names) <= {q["file"] for q in opened.quarantined()}
    assert rerun(tmp_path, store) == 3
    assert losses(store) == truth
    assert len(Store.open(store).curves().run_id.unique()) == 4


@pytest.mark.parametrize("how", ["cut", "flipped", "emptied"])
def test_a_damaged_checkpoint_is_named_and_the_run_ends_with_the_same_bits(
    how: str, half: Path, truth: dict[str, float], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(half, store)
    (place,) = (store / "checkpoints").iterdir()
    newest = max(place.glob("*.safetensors"))
    damaged(newest, how)
    assert rerun(tmp_path, store) == 4
    assert f"checkpoints/{place.name}/{newest.name}" in {q["file"] for q in Store.open(store).quarantined()}
    assert losses(store) == truth
