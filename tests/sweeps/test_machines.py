"""Machines: shares of GPUs, whole ones, a cluster somebody started; and the pace beside the machine's ceiling."""

from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from scaling.errors import InputError
from scaling.job import Execution
from scaling.store import Store
from sweeps.calibration import Calibration, save
from sweeps.executions import ExecutionChooser
from sweeps.progress import SweepProgress
from sweeps.run import Outcome, _ceiling, check_gpus, prepare_sweep, run_sweep

SWEEP = """\
name: tiny
architecture: {type: decoder, n_layer: 1, d_model: 16, n_head: 2, seq_len: 32}
objective: causal
corpus: {type: markov, order: 1, symbols: 8, n_documents: 512, document_length: 512}
optimizer: adamw
precision: fp32
heldout: nested
batch_tokens: 128
seeds: [0]
design:
  type: grid
  axes: {optimizer.lr: [0.003, 0.01], steps: [300]}
"""

ON_A_CLUSTER = """\
import os
import sys
from pathlib import Path
from ray.cluster_utils import Cluster
from sweeps.run import run_sweep

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1})
# The driver's machine has no compiler and so no kernels; those of the cluster have.
os.environ.update(CXX="none", SCALING_CACHE=sys.argv[3])
try:
    outcome = run_sweep(Path(sys.argv[1]), Path(sys.argv[2]), address=cluster.address, gpus_per_trial=0.5, quiet=True)
finally:
    cluster.shutdown()
print(outcome.counts, outcome.ran)
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "machines-cache"))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SWEEP)
    return path


def test_shares_of_gpus_are_fractions_or_whole_numbers(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fine in (0.0, 0.25, 1.0, 2.0):
        check_gpus(fine)
    for wrong in (1.5, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"give a fraction of one GPU, as 0.25, or a whole number"):
            check_gpus(wrong)
    with pytest.raises(InputError, match="leave it out with --serial"):
        run_sweep(sweep, tmp_path / "store", serial=True, gpus_per_trial=0.5)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(InputError, match=r"--gpus-per-trial 0.5: this machine has 0 GPUs; leave it out, or name"):
        run_sweep(sweep, tmp_path / "store", gpus_per_trial=0.5, quiet=True)
    with pytest.raises(InputError, match="--gpus-per-trial 2: the built-in trainer uses one GPU"):
        run_sweep(sweep, tmp_path / "store", gpus_per_trial=2, quiet=True)


def test_a_share_of_a_gpu_is_recorded_as_its_share_of_memory(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = prepare_sweep(sweep)
    trial = ready.wanted[0].trial
    for device, expected in (("cuda", 0.25), ("cpu", None)):
        chosen = Execution(device=device)  # type: ignore[arg-type]
        monkeypatch.setattr("sweeps.executions.choose_execution", lambda *a, found=chosen, **k: found)
        assert ExecutionChooser([trial], 256, None, 0.25)(trial, 256).memory_fraction == expected
        assert ExecutionChooser([trial], 256, None, 1.0)(trial, 256).memory_fraction is None


@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_that_somebody_started_runs_the_sweep(sweep: Path, tmp_path: Path) -> None:
    """Through --address, two trials to a GPU, with the losses and executions that a machine like its workers has."""
    assert run_sweep(sweep, tmp_path / "here", serial=True, quiet=True).counts == {"finished": 2}
    done = subprocess.run(
        [sys.executable, "-c", ON_A_CLUSTER, str(sweep), str(tmp_path / "there"), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("{'finished': 2} 2")
    here, there = (Store.open(tmp_path / name).rows() for name in ("here", "there"))
    assert here["run_id"].tolist() == there["run_id"].tolist()
    assert here["loss"].tolist() == there["loss"].tolist()
    assert here["execution"].tolist() == there["execution"].tolist()


def test_the_pace_is_shown_beside_the_ceiling(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [SimpleNamespace(flops=9e9, planned=[1]), SimpleNamespace(flops=1e9, planned=[1])]
    progress = SweepProgress("s", jobs, already=0, out=StringIO(), ceiling=1e9)  # type: ignore[arg-type]
    clock = SimpleNamespace(monotonic=lambda now=progress.started + 10.0: now)
    monkeypatch.setattr("sweeps.progress.time", clock)
    progress.update(1, SimpleNamespace(done=True, step=0, flops_done=1e9, statuses={"a": "finished"}))  # type: ignore[arg-type]
    assert "10% of FLOPs, 0.1 GFLOP/s (10% of matmul), 10s" in progress.line()
    ready = prepare_sweep(sweep)
    assert _ceiling([ready], 1) is None
    save(Calibration(measured=True, matmul_flops_per_s=3e11, concurrency=1, precision="fp32"))
    assert _ceiling([ready], 1) == 3e11


def test_failures_come_last_with_the_path_of_their_log() -> None:
    outcome = Outcome(
        "s", Path("runs/s"), {"a": "failed"}, 0, False, {"a": "ValueError: x; log: logs/a.txt"}, ("an edge",)
    )
    assert outcome.lines[1:] == ["note: an edge", "failed a: ValueError: x; log: runs/s/logs/a.txt"]


def test_trials_that_still_compile_count_as_running() -> None:
    jobs = [SimpleNamespace(flops=1e9, planned=[1])]
    progress = SweepProgress("s", jobs, already=0, out=StringIO(), at_work=lambda: 1)  # type: ignore[arg-type]
    assert "0/1 finished, 1 running" in progress.line()
