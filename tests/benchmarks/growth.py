"""How time and memory grow: with width, depth, window and vocabulary, with steps, and with the runs in a store."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
BASE = {"width": 64, "layers": 3, "seq_len": 128, "vocab": 256}
VARIED = {"width": (32, 64, 128, 256), "layers": (2, 4, 8), "seq_len": (64, 128, 256, 512), "vocab": (256, 1024, 4096)}
STEPS, RUNS = 20_000, 10_000


def training(width: int, layers: int, seq_len: int, vocab: int) -> dict[str, float]:
    """Nanoseconds a token, and MiB of its own, of a process that trains one model, eager, bf16."""
    from tests.benchmarks.worlds import decoder, planned, tokens_per_s

    tokenizer = {"type": "byte"} if vocab == 256 else {"type": "bpe", "vocab_size": vocab}
    trial = decoder(
        width, layers, width // 16, batch_tokens=2048, steps=1_000_000, seq_len=seq_len, tokenizer=tokenizer
    )
    with tempfile.TemporaryDirectory() as folder:
        rate = tokens_per_s(Path(folder) / "store", 2.0, planned(trial, compiled=False))
    # Freed blocks are kept, so what it has now is its peak; getrusage's is handed down by the parent process.
    return {"ns": 1e9 / rate, "mib": _status("RssAnon")}


def _status(field: str) -> float:
    """A field of this process's status, MiB."""
    (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def slope() -> dict[str, float]:
    """Memory of its own, MiB, after a tenth and after all of a run of 20,000 steps; pages of the mapped text apart."""
    from tests.benchmarks.worlds import decoder, planned, runner

    with tempfile.TemporaryDirectory() as folder:
        work = runner(Path(folder) / "store", planned(decoder(16, 1, 1, batch_tokens=128, steps=STEPS), compiled=False))
        work.advance(0.0)
        run = work.run
        assert run is not None
        run.advance(lambda: run.step >= STEPS // 10)
        early = _status("RssAnon")
        run.advance(lambda: run.step >= STEPS - 1)
        return {"early": early, "late": _status("RssAnon")}


def store() -> dict[str, float]:
    """Seconds to read 10,000 rows cold (no index) and warm, and to subtract a sweep of as many from them."""
    from scaling.row import row_of
    from scaling.store import Store
    from tests.benchmarks.worlds import decoder, planned

    plan = planned(decoder(16, 1, 1, batch_tokens=128, steps=300), compiled=False)
    template = row_of(plan, "finished", "", tokens_unique=1000) | {"loss": 2.0, "loss_se": 0.01}
    with tempfile.TemporaryDirectory() as folder:
        made = Store.create(Path(folder) / "store")
        wanted = [f"{i:016x}" for i in range(RUNS)]
        for run_id in wanted:
            made.publish({**template, "run_id": run_id, "lineage": run_id}, [], None)
        (Path(folder) / "store" / "index.cache").unlink(missing_ok=True)
        seconds = {}
        for name in ("cold", "warm"):
            started = time.perf_counter()
            assert len(Store.open(Path(folder) / "store").rows()) == RUNS
            seconds[name] = time.perf_counter() - started
        started = time.perf_counter()
        done = Store.open(Path(folder) / "store").done()
        assert not [run_id for run_id in wanted if run_id not in done]
        return {**seconds, "subtract": time.perf_counter() - started}


def _apart(call: str) -> dict[str, float]:
    """What a call of this module gives in a process of its own."""
    code = f"import json; from tests.benchmarks.growth import *; print(json.dumps({call}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table() -> str:
    """The table, as Markdown."""
    lines = [
        "# Growth of time and memory",
        "",
        "Eager bf16 training of one model in one process and thread, 2,048 tokens a step; from 64 × 3, windows of 128,",
        "bytes, one thing varied at a time. Memory is the process's own, libraries included, the mapped text apart.",
        "Command: `python -m tests.benchmarks growth`.",
        "",
        "| varied | value | ns a token | MiB |",
        "|---|---|---|---|",
    ]
    for name, values in VARIED.items():
        found = [_apart(f"training(**{ {**BASE, name: value} })") for value in values]
        lines += [f"| {name} | {v} | {f['ns']:.0f} | {f['mib']:.0f} |" for v, f in zip(values, found, strict=True)]
        power = np.polyfit(np.log(values), np.log([f["ns"] for f in found]), 1)[0]
        lines.append(f"| {name} | growth | time ∝ {name}^{power:.2f} | |")
    memory, reading = _apart("slope()"), _apart("store()")
    lines += [
        "",
        f"A run of {STEPS:,} steps has {memory['early']:.1f} MiB of its own after a tenth of them,",
        f"{memory['late']:.1f} at the end (pages of the text, mapped from disk, apart).",
        f"A store of {RUNS:,} runs: read cold {reading['cold']:.1f} s, warm (index) {reading['warm']:.2f} s;"
        f" a sweep of as many subtracted in {reading['subtract']:.2f} s.",
    ]
    return "\n".join(lines) + "\n"
