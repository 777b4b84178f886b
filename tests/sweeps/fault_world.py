"""A tiny sweep, drivers of it in processes of their own, faults put into them, and storms of kills with their truth.

Run as a program it makes a storm: children forked from a process that has everything imported run the sweep with
`--serial`'s code and are killed at seeded moments or named points, until so many kills are spent; after each the store
is read and compared with an unfaulted run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

SWEEP = """\
name: tiny
architecture: {{type: decoder, n_layer: 1, d_model: 16, n_head: 2, seq_len: 32}}
objective: causal
corpus: {{type: markov, order: 1, symbols: 8, n_documents: 512, document_length: 512}}
optimizer: adamw
precision: fp32
heldout: nested
batch_tokens: 128
repeat: true
seeds: {seeds}
design:
  type: grid
  axes: {{optimizer.lr: [0.003, 0.01], steps: [{steps}]}}
"""

POINTS = [
    *(f"{kind}:{step}" for kind in ("curve", "eval", "row") for step in ("after-write", "after-fsync", "after-link")),
    *(f"execution:{step}" for step in ("after-write", "after-link")),
    *(f"format:{step}" for step in ("after-write", "after-link", "after-replace")),
    *(f"checkpoint:{step}" for step in ("after-write", "after-fsync", "after-replace")),
    *(f"checkpoint-note:{step}" for step in ("after-write", "after-replace")),
    "running:after-write",
]

SITE = """
import importlib.machinery, os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != {module!r}:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            exec(compile({code!r}, "fault", "exec"), {{"module": module}})
        spec.loader.exec_module = exec_module
        return spec
sys.meta_path.insert(0, Finder())
"""


def sweep_file(folder: Path, steps: int = 300, seeds: int = 2) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(SWEEP.format(steps=steps, seeds=list(range(seeds))))
    return path


def losses(store: Path) -> dict[str, float]:
    """Final loss by run id, of the runs that ended; a run that is there twice is an error."""
    from scaling.store import Store

    rows = Store.open(store).row_table(failures=False).to_pylist()
    found = {row["run_id"]: row["loss"] for row in rows}
    assert len(found) == len(rows), "a run is counted twice"
    return found


def environment(fault: tuple[str, str] | None = None, folder: Path | None = None, **more: str) -> dict[str, str]:
    """An environment in which every Python process, Ray's workers too, runs `code` right after importing `module`.

    `fault` is (module, code); the code sees the module as `module`.
    """
    found = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    if fault is not None:
        assert folder is not None
        place = folder / "site"
        place.mkdir(exist_ok=True)
        (place / "sitecustomize.py").write_text(SITE.format(module=fault[0], code=textwrap.dedent(fault[1])))
        found["PYTHONPATH"] = os.pathsep.join([str(place), *filter(None, [os.environ.get("PYTHONPATH")])])
    return found


def start(sweep: Path, store: Path, env: dict[str, str] | None = None, **arguments: Any) -> subprocess.Popen[str]:
    """A driver as the command line starts it."""
    arguments = {"compile_trials": False, "quiet": True, **arguments}
    code = f"""
import sys
from pathlib import Path
from scaling.errors import ScalingError
from sweeps.run import run_sweep
try:
    o = run_sweep(Path({str(sweep)!r}), Path({str(store)!r}), **{arguments!r})
except ScalingError as e:
    print(type(e).__name__, e, file=sys.stderr); sys.exit(e.exit_status)
print("\\n".join(o.lines)); sys.exit(o.exit_status)
"""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env or environment(),
    )


def ended(process: subprocess.Popen[str], status: int = 0, seconds: float = 120.0) -> str:
    """What a driver said that ended with `status`."""
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == status, (process.returncode, out, err[-2000:])
    assert "Traceback" not in err, err
    return out + err


def survivors(family: Sequence[psutil.Process], seconds: float = 10.0) -> list[psutil.Process]:
    """Which of some processes still run after so long: the kernel may take a moment over each that was killed."""
    _, left = psutil.wait_procs(family, timeout=seconds)
    return [p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def reference(folder: Path, steps: int = 300, seeds: int = 2) -> dict[str, float]:
    """Run ids and losses of an unfaulted run."""
    folder.mkdir(parents=True, exist_ok=True)
    ended(start(sweep_file(folder, steps, seeds), folder / "store", serial=True))
    return losses(folder / "store")


def check(store: Path, truth: dict[str, float]) -> dict[str, float]:
    """What a store holds after a fault is part of the truth, whole, undamaged, and once."""
    from scaling.store import Store, verify

    if not (store / "format.json").exists():
        return {}
    found = losses(store)
    assert found.items() <= truth.items(), "a loss differs from that of the unfaulted run"
    opened = Store.open(store)
    assert opened.failed() == {}
    assert set(opened.curves().run_id) == set(opened.evals().run_id) == set(found), "a row without its curve"
    assert verify(opened) == [], verify(opened)
    return found


def storm(sweep: Path, folder: Path, truth: dict[str, float], kills: int, seed: int) -> dict[str, int]:
    """Kills `kills` drivers, half at seeded moments and half at named points, in as many stores as that takes."""
    chooser = random.Random(seed)
    stores, spent = 0, {"moments": 0, "points": 0}
    while sum(spent.values()) < kills:
        store = folder / f"store-{stores}"
        stores += 1
        while check(store, truth) != truth:
            left = kills - sum(spent.values())
            kind = "points" if left and spent["points"] <= spent["moments"] else "moments"
            point = (chooser.choice(POINTS), chooser.randint(1, 3)) if left and kind == "points" else None
            after = chooser.uniform(0.02, 0.6) if left and kind == "moments" else None
            if _driver(sweep, store, point, after) == -signal.SIGKILL:
                spent[kind] += 1
    return {**spent, "stores": stores}


def _driver(sweep: Path, store: Path, point: tuple[str, int] | None, after: float | None) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            _child(sweep, store, point)
            os._exit(0)
        finally:
            os._exit(70)
    if after is not None:
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL), f"a driver ended with status {status}"
    return status


def _child(sweep: Path, store: Path, point: tuple[str, int] | None) -> None:
    import functools

    import scaling.job_runner
    import sweeps.serial
    from scaling.store import files
    from sweeps.run import run_sweep

    scaling.job_runner.JobRunner = functools.partial(scaling.job_runner.JobRunner, checkpoint_seconds=0.2)  # type: ignore
    sweeps.serial.SLICE_SECONDS = 0.1
    if point is not None:
        left = [point[1]]

        def kill(now: str) -> None:
            left[0] -= now == point[0]
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        files.fault = kill
    run_sweep(sweep, store, serial=True, quiet=True, compile_trials=False)


def run_storm(folder: Path, kills: int, seed: int, timeout: float = 600.0) -> dict[str, int]:
    """A storm in a process of its own; what it spent."""
    truth = reference(folder / "reference")
    (folder / "truth.json").write_text(json.dumps(truth))
    done = subprocess.run(
        [sys.executable, __file__, str(folder), str(kills), str(seed)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """A storm: FOLDER KILLS SEED. What children would each import is imported here, once."""
    import importlib

    for name in ("torch._dynamo", "pandas", "safetensors.torch", "scaling.job_runner", "sweeps.serial", "sweeps.run"):
        importlib.import_module(name)
    importlib.import_module("scaling.store.maintenance")
    folder = Path(sys.argv[1])
    truth = json.loads((folder / "truth.json").read_text())
    print(json.dumps(storm(sweep_file(folder), folder, truth, int(sys.argv[2]), int(sys.argv[3]))))


if __name__ == "__main__":
    main()
