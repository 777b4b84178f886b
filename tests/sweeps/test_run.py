"""Sweeps run in process and on Ray: equal results, nothing twice, signals, deadlines, lost workers, loopback only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
from fault_world import survivors, wait_for

from scaling.errors import CorpusError, SweepError
from scaling.job import Job
from scaling.store import Store
from sweeps.executions import ExecutionChooser
from sweeps.progress import SweepProgress, duration
from sweeps.run import Outcome, prepare_sweep, run_sweep, run_sweeps

SWEEP = """\
name: tiny
architecture: {{type: decoder, n_layer: 1, d_model: 16, n_head: 2, seq_len: 32}}
objective: causal
corpus: {{type: markov, order: 1, symbols: 8, n_documents: 512, document_length: 512}}
optimizer: adamw
precision: fp32
heldout: nested
batch_tokens: 128
seeds: [0, 1]
design:
  type: grid
  axes: {{optimizer.lr: [0.003, 0.01], steps: [{steps}]}}
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run-cache")


@pytest.fixture(autouse=True)
def _cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(cache))


def sweep_file(folder: Path, steps: int = 300, repeat: bool = False) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(SWEEP.format(steps=steps) + ("repeat: true\n" if repeat else ""))
    return path


def losses(store: Path) -> dict[str, float]:
    rows = Store.open(store).rows()
    return dict(zip(rows.run_id, rows.loss, strict=True))


def start(sweep: Path, store: Path, **arguments: object) -> subprocess.Popen[str]:
    """A driver of its own, as the command line starts it."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom scaling.errors import ScalingError\n"
        "from sweeps.run import run_sweep\n"
        f"try:\n    o = run_sweep(Path({str(sweep)!r}), Path({str(store)!r}), **{arguments!r})\n"
        "except ScalingError as e:\n    print(e, file=sys.stderr); sys.exit(e.exit_status)\n"
        "print(o.lines[0]); sys.exit(o.exit_status)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    )


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> dict[str, float]:
    """Run ids and losses of an unfaulted run in process."""
    folder = tmp_path_factory.mktemp("reference")
    os.environ["SCALING_CACHE"] = str(cache)
    outcome = run_sweep(sweep_file(folder), folder / "store", serial=True, quiet=True)
    assert outcome.counts == {"finished": 4}
    return losses(folder / "store")


@pytest.mark.ray
def test_ray_and_serial_give_the_same_bits(reference: dict[str, float], tmp_path: Path) -> None:
    process = start(sweep_file(tmp_path), tmp_path / "store", workers=2)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "4 finished" in out
    assert losses(tmp_path / "store") == reference


def test_a_finished_sweep_runs_nothing_and_is_quick(reference: dict[str, float], tmp_path: Path) -> None:
    sweep, store = sweep_file(tmp_path), tmp_path / "store"
    assert run_sweep(sweep, store, serial=True, quiet=True).ran == 4
    started = time.monotonic()
    process = start(sweep, store)
    out, _ = process.communicate(timeout=60)
    assert "0 ran now" in out
    assert time.monotonic() - started < 10.0
    assert losses(store) == reference


def test_limit_runs_so_many_and_the_rest_later(reference: dict[str, float], tmp_path: Path) -> None:
    sweep, store = sweep_file(tmp_path), tmp_path / "store"
    first = run_sweep(sweep, store, serial=True, quiet=True, limit=1)
    assert first.counts == {"finished": 1, "missing": 3}
    assert run_sweep(sweep, store, serial=True, quiet=True).ran == 3
    assert losses(store) == reference


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_checkpoints_and_a_rerun_ends_with_the_same_bits(
    number: signal.Signals, reference: dict[str, float], tmp_path: Path
) -> None:
    sweep, store = sweep_file(tmp_path), tmp_path / "store"
    process = start(sweep, store, serial=True)
    wait_for(lambda: (store / "rows").is_dir() and any((store / "rows").glob("*.parquet")))
    process.send_signal(number)
    stopped = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - stopped < 10.0
    assert process.returncode in (0, 128 + number)
    if process.returncode:
        assert "checkpointed" in err
        assert len(losses(store)) < 4
    run_sweep(sweep, store, serial=True, quiet=True)
    assert losses(store) == reference


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_on_ray_leaves_no_process_and_loses_nothing(number: signal.Signals, tmp_path: Path) -> None:
    sweep, store = sweep_file(tmp_path, steps=6000, repeat=True), tmp_path / "store"
    process = start(sweep, store, workers=2)
    driver = psutil.Process(process.pid)
    # A worker that still compiles, some ten seconds on a slow machine, has nothing yet to save.
    wait_for(
        lambda: (
            (store / "format.json").exists() and any(n["info"]["step"] for n in Store.open(store).running().values())
        )
    )
    family = driver.children(recursive=True)
    assert_loopback_only([driver, *family])
    process.send_signal(number)
    stopped = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    assert "***" not in err
    assert time.monotonic() - stopped < 20.0
    assert not survivors(family, 20.0)
    checkpoints = list((store / "checkpoints").rglob("*.json"))
    assert checkpoints
    assert not list(store.glob(".drain-*"))


def assert_loopback_only(processes: list[psutil.Process]) -> None:
    """Every socket that Ray listens on is bound to this machine alone."""
    for process in processes:
        try:
            connections = process.net_connections(kind="inet")
        except psutil.Error:
            continue
        for connection in connections:
            if connection.status == psutil.CONN_LISTEN:
                bound = ip_address(connection.laddr.ip)
                bound = getattr(bound, "ipv4_mapped", None) or bound
                assert bound.is_loopback, f"{process.name()} listens on {connection.laddr}"


@pytest.mark.ray
def test_a_killed_worker_is_started_again_and_resumes(reference: dict[str, float], tmp_path: Path) -> None:
    sweep, store = sweep_file(tmp_path), tmp_path / "store"
    process = start(sweep, store, workers=1)
    driver = psutil.Process(process.pid)

    def workers() -> list[psutil.Process]:
        found = []
        for child in driver.children(recursive=True):
            try:
                if "ResourceTrainable.train" in " ".join(child.cmdline()):
                    found.append(child)
            except psutil.Error:
                continue
        return found

    wait_for(workers)
    workers()[0].kill()
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert losses(store) == reference


def test_a_deadline_drains_in_time_and_exits_zero(tmp_path: Path) -> None:
    sweep, store = sweep_file(tmp_path, steps=200_000, repeat=True), tmp_path / "store"
    process = start(sweep, store, serial=True, seconds=8.0, compile_trials=False)
    started = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert time.monotonic() - started < 12.0
    assert "missing" in out


def test_several_sweeps_are_one_launch(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(SWEEP.format(steps=310).replace("name: tiny", "name: other"))
    outcomes = run_sweeps([sweep_file(tmp_path), other], tmp_path / "store", serial=True, quiet=True)
    assert [(o.sweep, o.counts) for o in outcomes] == [("tiny", {"finished": 4}), ("other", {"finished": 4})]


def test_progress_counts_the_runs_of_what_is_launched_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs of other sweeps in the store are no part of it."""
    other = tmp_path / "other.yaml"
    other.write_text(SWEEP.format(steps=310).replace("name: tiny", "name: other").replace("[0, 1]", "[0]"))
    sweep, store = sweep_file(tmp_path), tmp_path / "store"
    run_sweeps([other], store, serial=True, quiet=True)
    run_sweep(sweep, store, serial=True, limit=1)
    run_sweep(sweep, store, serial=True)
    lines = [line for line in capsys.readouterr().err.splitlines() if "finished" in line]
    assert [line.split(",")[0] for line in lines] == ["tiny: 1/1 finished", "tiny: 4/4 finished"]


def test_bad_input_is_refused_before_any_work(tmp_path: Path) -> None:
    sweep = sweep_file(tmp_path)
    sweep.write_text(sweep.read_text().replace("batch_tokens", "batch_token"))
    with pytest.raises(SweepError, match=r"tiny.yaml:8:1 batch_token: .*did you mean batch_tokens"):
        run_sweep(sweep, tmp_path / "store", serial=True)
    long = sweep_file(tmp_path, steps=100_000)
    with pytest.raises(CorpusError, match="training tokens"):
        run_sweep(long, tmp_path / "store", serial=True)
    assert not (tmp_path / "store").exists()


def test_execution_is_chosen_once_and_kept(tmp_path: Path) -> None:
    sweep, store = sweep_file(tmp_path), tmp_path / "store"
    run_sweep(sweep, store, serial=True, quiet=True, limit=1, compile_trials=False)
    ready = prepare_sweep(sweep)
    run_id = next(iter(losses(store)))
    kept = Store.open(store).execution(run_id)
    assert kept is not None
    assert not kept.compiled
    trial = ready.wanted[0].trial
    assert not ExecutionChooser([trial], ready.vocab_size)(trial, ready.vocab_size).compiled


def test_progress_counts_flops_not_trials() -> None:
    from io import StringIO
    from types import SimpleNamespace

    jobs = [SimpleNamespace(flops=9e9, planned=[1]), SimpleNamespace(flops=1e9, planned=[1])]
    progress = SweepProgress("s", jobs, already=3, out=StringIO())  # type: ignore[arg-type]
    state = SimpleNamespace(done=True, step=0, flops_done=1e9, statuses={"a": "finished"})
    progress.started -= 10.0
    progress.update(1, state)  # type: ignore[arg-type]
    assert progress.seconds_left() == pytest.approx(90.0, rel=0.01)
    assert "4/5 finished" in progress.line()
    assert "10% of FLOPs" in progress.line()
    assert [duration(s) for s in (5, 187, 7500)] == ["5s", "3m07s", "2h05m"]


def test_the_live_view_shows_what_runs(reference: dict[str, float], tmp_path: Path) -> None:
    """One line of totals, a bar on a line of its own, one line a running trial."""
    from io import StringIO

    from rich.console import Console

    from scaling.job import Progress
    from sweeps.plan import jobs, to_planned

    ready = prepare_sweep(sweep_file(tmp_path))
    chooser = ExecutionChooser([w.trial for w in ready.wanted], ready.vocab_size)
    todo = jobs(to_planned(ready.wanted, ready.digest, ready.vocab_size, "tiny", chooser))
    progress = SweepProgress("tiny", todo, already=0, out=StringIO())
    run_id = todo[0].planned[0].run_id
    progress.update(0, Progress(False, run_id, 120, 300, 0.4 * todo[0].flops, float(todo[0].flops), 1.234, {}))
    console = Console(file=StringIO(), width=100)
    console.print(progress._table())
    text = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert text[0].startswith("tiny: 0/4 finished, 1 running, 10% of FLOPs")
    assert set(text[1].strip()) <= set("━╸╺")
    assert text[2].split() == ["trial", "N", "budget", "step", "train", "loss"]
    assert text[3].split() == [run_id[:8], "3,072", "120/300", "1.234"]


def test_outcome_json_and_exit_status() -> None:
    outcome = Outcome("s", Path("x"), {"a": "finished", "b": "failed"}, 2, False, {"b": "why"})
    assert json.loads(json.dumps(outcome.to_json()))["counts"] == {"failed": 1, "finished": 1}
    assert outcome.exit_status == 1
    assert "failed b: why" in outcome.lines


def test_jobs_travel_as_json(tmp_path: Path) -> None:
    from sweeps.plan import jobs, to_planned

    ready = prepare_sweep(sweep_file(tmp_path))
    chooser = ExecutionChooser([w.trial for w in ready.wanted], ready.vocab_size)
    (first, *_) = jobs(to_planned(ready.wanted, ready.digest, ready.vocab_size, "tiny", chooser))
    assert Job.model_validate_json(first.model_dump_json()) == first
