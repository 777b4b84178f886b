"""Where a compiled training step's time goes, by width: products, attention, everything else in the graph, the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHAPES = ((32, 2, 2), (64, 3, 4), (128, 4, 8), (256, 4, 8))
BATCHES = (512, 2048)
STEPS = 40
KINDS = ("matrix products", "attention", "other kernels", "optimizer and clipping", "data", "rest")


def parts(width: int, layers: int, heads: int, batch_tokens: int) -> dict[str, float]:
    """Milliseconds of a step by part, from torch's profiler with the compiler's own kernel marks."""
    import tempfile
    import time

    import torch._inductor.config as inductor
    from torch.profiler import ProfilerActivity, profile

    from scaling import execution as chosen
    from tests.benchmarks.worlds import decoder, planned, runner

    plan = planned(decoder(width, layers, heads, batch_tokens=batch_tokens, steps=1_000_000), True)
    put_in_force = chosen.put_in_force
    with tempfile.TemporaryDirectory() as folder:
        work = runner(Path(folder) / "store", plan)
        # Kernel marks need the compiler's Python wrapper, so the graph is compiled apart from the cached ones.
        import scaling.job_runner

        def marked(execution: object) -> object:
            device = put_in_force(execution)  # type: ignore[arg-type]
            inductor.cpp.enable_kernel_profile, inductor.cpp_wrapper = True, False
            return device

        scaling.train.put_in_force = marked  # type: ignore[assignment]
        work.advance(0.5)
        run = work.run
        assert run is not None
        start = run.step
        started = time.perf_counter()
        run.advance(lambda: run.step >= start + STEPS)
        whole = (time.perf_counter() - started) / STEPS * 1e3
        started = time.perf_counter()
        for step in range(STEPS):
            list(run._micro_batches(run.step + step))
        data = (time.perf_counter() - started) / STEPS * 1e3
        start = run.step
        with profile(activities=[ProfilerActivity.CPU]) as found:
            run.advance(lambda: run.step >= start + STEPS)
    times = dict.fromkeys(KINDS, 0.0)
    for event in found.key_averages():
        ms = event.self_cpu_time_total / STEPS / 1e3
        if event.key in ("aten::mm", "aten::bmm", "aten::addmm"):
            times["matrix products"] += ms
        elif event.key.startswith("scaling::attention"):
            times["attention"] += ms
        elif "_cpp_fused" in event.key or event.key.startswith("graph_"):
            times["other kernels"] += ms
        elif "adamw" in event.key or event.key in ("aten::linalg_vector_norm", "aten::mul_"):
            times["optimizer and clipping"] += ms
    times["data"] = data
    times["rest"] = max(0.0, whole - sum(times.values()))
    return {**times, "whole": whole}


def table() -> str:
    """The table, as Markdown."""
    lines = [
        "# Where a compiled step's time goes",
        "",
        "Share of a step by part, one process and thread; the step is timed without the profiler, the parts with it.",
        "`rest` is the call of the graph and Python between the parts. Command: `python -m tests.benchmarks profile`.",
        "",
        "| width × layers | batch, tokens | ms a step | " + " | ".join(KINDS) + " |",
        "|---" * (len(KINDS) + 3) + "|",
    ]
    for shape in SHAPES:
        for batch in BATCHES:
            code = (
                f"import json; from tests.benchmarks.profile import parts; print(json.dumps(parts(*{shape}, {batch})))"
            )
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
            found = json.loads(done.stdout.splitlines()[-1])
            cells = [f"{found[k] / found['whole']:.0%}" for k in KINDS]
            lines.append(f"| {shape[0]} × {shape[1]} | {batch} | {found['whole']:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
