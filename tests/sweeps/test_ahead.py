"""Compiling ahead: which shapes, only on spare cores, found by the trial that needs it, and never orphaned."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil
import pytest
from fault_world import survivors

from scaling.execution import can_compile
from scaling.job import Execution, Job, Planned
from scaling.trial import Trial
from sweeps.ahead import CompileAhead, compile_shape, shapes_ahead


def planned(width: int, seed: int = 0, compiled: bool = True) -> Planned:
    trial = Trial.model_validate_json(
        json.dumps(
            {
                "architecture": {"type": "decoder", "n_layer": 1, "d_model": width, "n_head": 1, "seq_len": 16},
                "objective": "causal",
                "corpus": {"type": "markov", "order": 1, "symbols": 8},
                "optimizer": {"type": "adamw", "lr": 0.01},
                "batch_tokens": 64,
                "steps": 300,
                "seed": seed,
            }
        )
    )
    execution = Execution(compiled=compiled, micro_batch_tokens=64)
    name = f"{width:08x}{seed:08x}"
    return Planned(
        trial=trial, run_id=name, lineage=name, data_digest="0" * 16, sweep="t", execution=execution, vocab_size=32
    )


def jobs(*plans: Planned) -> list[Job]:
    return [Job(planned=(p,)) for p in plans]


def test_each_shape_once_but_for_those_the_workers_begin_with() -> None:
    launched = jobs(planned(32), planned(24), planned(32, 1), planned(16), planned(16, 1), planned(8, compiled=False))
    assert [p.trial.architecture.d_model for p in shapes_ahead(launched, 2)] == [16]
    assert [p.trial.architecture.d_model for p in shapes_ahead(launched, 1)] == [24, 16]


def test_no_spare_core_no_helper() -> None:
    with CompileAhead(jobs(planned(32), planned(24)), workers=2, cores=2) as ahead:
        assert ahead.process is None


@pytest.mark.slow
@pytest.mark.skipif(can_compile() is not None, reason="no C++ compiler on this machine")
def test_the_helper_ends_with_the_launch_and_what_it_made_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    launched = jobs(planned(32), planned(16), planned(24))
    with CompileAhead(launched, workers=1, cores=2) as ahead:
        assert ahead.process is not None
        helper = psutil.Process(ahead.process.pid)
        end = time.monotonic() + 240
        while len(list((tmp_path / "inductor").rglob("*.so"))) < 1 and time.monotonic() < end:
            time.sleep(0.2)
        family = [helper, *helper.children(recursive=True)]
    # Its children are killed with it.
    assert not survivors(family)
    made = set((tmp_path / "inductor").rglob("*.so"))
    assert made
    compile_shape(planned(16))
    assert {p for p in (tmp_path / "inductor").rglob("*.so") if p.stat().st_mtime_ns} >= made
