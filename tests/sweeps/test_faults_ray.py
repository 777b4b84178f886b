"""Faults on Ray: a node that goes away, trials that hang or run out of memory, a disk that refuses, no telemetry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fault_world import check, ended, environment, losses, reference, start, sweep_file, wait_for

from scaling.store import Store

pytestmark = pytest.mark.ray

CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
node = cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(node, allow_graceful=False)
    print("removed", flush=True)
cluster.shutdown()
"""

FAULTS = """
import ctypes, torch
from scaling.store import Store
real = module.TrialRun._train_step
fault = {faults!r}
def step(self):
    kind = fault.get(self.planned[0].run_id, "")
    size = self.execution.micro_batch_tokens
    if self.step == 5 and kind == "hang":
        import time
        time.sleep(600)
    if self.step == 5 and kind == "hang in C":
        mutex = ctypes.create_string_buffer(64)
        for _ in range(2):  # A deadlock that holds the interpreter and that no signal ends.
            ctypes.PyDLL(None).pthread_mutex_lock(mutex)
    if kind == "memory" and size == 128 or kind == "no memory":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    real(self)
module.TrialRun._train_step = step
import scaling.guard
scaling.guard.FACTOR, scaling.guard.GRACE_SECONDS = 0.0, 2.0
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "faults-cache"))


@pytest.fixture
def cluster() -> Iterator[subprocess.Popen[str]]:
    # A lost node is noticed within seconds instead of half a minute.
    checks = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}
    env = environment(RAY_USAGE_STATS_ENABLED="0", RAY_health_check_timeout_ms="3000", **checks)
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )
    family = [psutil.Process(process.pid)]
    yield process
    family += family[0].children(recursive=True)
    for member in family:
        try:
            member.kill()
        except psutil.Error:
            continue
    process.communicate()


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_node_removed_mid_sweep_loses_nothing(cluster: subprocess.Popen[str], tmp_path: Path) -> None:
    truth = reference(tmp_path / "reference", steps=2000)
    assert cluster.stdin is not None
    assert cluster.stdout is not None
    address = cluster.stdout.readline().strip()
    store = tmp_path / "store"
    driver = start(sweep_file(tmp_path, steps=2000), store, workers=2, address=address)

    def pids() -> set[int]:
        notes = Store.open(store).running() if (store / "format.json").exists() else {}
        return {note["pid"] for note in notes.values() if note["info"]["step"]}

    before = wait_for(lambda: len(found := pids()) == 2 and found)
    cluster.stdin.write("remove\n")
    cluster.stdin.flush()
    assert cluster.stdout.readline() == "removed\n"
    wait_for(lambda: not all(alive(pid) for pid in before), 30)
    ended(driver)
    assert check(store, truth) == truth


def test_hangs_and_lack_of_memory_are_recorded_and_the_sweep_goes_on(tmp_path: Path) -> None:
    truth = reference(tmp_path / "reference", seeds=3)
    hang, deep, memory, none, *whole = sorted(truth)
    faults = {hang: "hang", deep: "hang in C", memory: "memory", none: "no memory"}
    env = environment(("scaling.train", FAULTS.format(faults=faults)), tmp_path, SCALING_HANG_SECONDS="3")
    store = tmp_path / "store"
    said = ended(start(sweep_file(tmp_path, seeds=3), store, env, workers=2), status=1)
    opened = Store.open(store)
    failed = opened.failed()
    assert set(failed) == {hang, deep, none}
    assert failed[hang].startswith("Hung: a slice of work took over 3 s")
    assert failed[deep].startswith("Hung: an earlier attempt heard no alarm")
    assert "in step" in (store / f"logs/{hang}.txt").read_text()
    assert "Timeout" in (store / f"logs/{deep}.txt").read_text()
    assert failed[none].startswith("OutOfMemoryError: ")
    for run_id, reason in failed.items():
        assert f"failed {run_id}: {reason.split('; log:')[0]}; log: {store}/logs/{run_id}.txt" in said
    assert set(losses(store)) == {memory, *whole}
    rows = opened.rows().set_index("run_id")
    assert json.loads(rows.loc[memory, "execution"])["micro_batch_tokens"] == 64
    assert rows.loc[memory, "loss"] == pytest.approx(truth[memory], abs=1e-3)
    assert {rows.loc[run_id, "loss"] for run_id in whole} == {truth[run_id] for run_id in whole}
    ended(start(sweep_file(tmp_path, seeds=3), store, serial=True))
    after = losses(store)
    assert {run_id: after[run_id] for run_id in (hang, deep, *whole)} == {
        run_id: truth[run_id] for run_id in (hang, deep, *whole)
    }
    assert set(after) == set(truth)


def test_a_full_disk_ends_the_sweep_with_one_error_and_a_rerun_works(tmp_path: Path) -> None:
    """Under Ray too the worker's error is the driver's, nobody retries, and no trial is called failed."""
    full = "import errno, os\ndef refuse(point):\n    if point == 'row:after-write':\n"
    full += "        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\nmodule.fault = refuse\n"
    truth = reference(tmp_path / "reference")
    store = tmp_path / "store"
    # Another cluster named in the environment is not joined: local runs start their own.
    env = environment(("scaling.store.files", full), tmp_path, RAY_ADDRESS="127.0.0.1:1")
    said = ended(start(sweep_file(tmp_path), store, env, workers=2), status=2)
    assert said.startswith("DiskError ")
    assert "No space left on device; free some space and run again" in said
    assert said.count("\n") == 1
    assert losses(store) == Store.open(store).failed() == {}
    assert not list((store / ".staging").glob("*-*"))
    ended(start(sweep_file(tmp_path), store, serial=True))
    assert check(store, truth) == truth


def test_nothing_is_reported_to_anybody(tmp_path: Path) -> None:
    code = """
from sweeps.launch import set_environment
set_environment(None)
import ray, os
from ray._common.usage import usage_lib
assert not usage_lib.usage_stats_enabled()
assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
assert os.environ["RAY_AUTH_MODE"] == "token" and len(os.environ["RAY_AUTH_TOKEN"]) == 64
"""
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, timeout=60)
