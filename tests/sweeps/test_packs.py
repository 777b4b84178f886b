"""Packs: which trials may share one, how they are split, and a sweep in packs against the same sweep alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaling.store import Store
from sweeps.definition import Sweep, load_sweep
from sweeps.executions import ExecutionChooser
from sweeps.packs import packable, sizes
from sweeps.plan import jobs, to_planned
from sweeps.run import prepare_sweep, run_sweep

SWEEP = """\
name: packs
architecture: {type: decoder, n_layer: 1, n_head: 2, seq_len: 32, d_model: 16}
objective: causal
corpus: {type: markov, order: 1, symbols: 8, n_documents: 512, document_length: 512}
optimizer: adamw
precision: fp32
heldout: nested
batch_tokens: 128
seeds: [0, 1, 2]
design:
  type: grid
  axes: {optimizer.lr: [0.003, 0.01], architecture.d_model: [16, 24], steps: [300, 320]}
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pack-cache")


@pytest.fixture(autouse=True)
def _cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(cache))


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    file = tmp_path / "packs.yaml"
    file.write_text(SWEEP)
    return load_sweep(file)


def test_trials_of_a_shape_are_split_evenly_into_jobs(sweep: Sweep) -> None:
    ready = prepare_sweep(sweep)
    trials = [w.trial for w in ready.wanted]
    assert len(trials) == 24
    assert sorted(sizes(trials, ready.vocab_size, 8).values()) == [6, 6]
    chooser = ExecutionChooser(trials, ready.vocab_size, compile_trials=False, pack=8)
    found = jobs(to_planned(ready.wanted, ready.digest, ready.vocab_size, "packs", chooser))
    assert [len(job.planned) for job in found] == [6, 6, 6, 6]
    for job in found:
        assert len({(p.trial.architecture, p.trial.batch_tokens, p.execution) for p in job.planned}) == 1
        steps = [p.trial.steps for p in job.planned]
        assert steps == sorted(steps, reverse=True)
        assert steps[0] == steps[-1]  # like lengths together
    assert len({p.run_id for job in found for p in job.planned}) == 24


def test_what_cannot_train_side_by_side_is_left_alone(sweep: Sweep) -> None:
    (trial, *_) = (w.trial for w in prepare_sweep(sweep).wanted)
    assert packable(trial, 256)
    shape = trial.architecture
    assert not packable(trial.model_copy(update={"architecture": shape.model_copy(update={"dropout": 0.1})}), 256)
    assert not packable(trial.model_copy(update={"architecture": shape.model_copy(update={"d_model": 2048})}), 256)


@pytest.mark.slow
def test_a_sweep_in_packs_has_the_rows_of_the_sweep_alone(sweep: Sweep, tmp_path: Path) -> None:
    small = sweep.model_copy(update={"seeds": (0,)}) if hasattr(sweep, "seeds") else sweep
    for name, pack in (("packed", 4), ("alone", None)):
        outcome = run_sweep(small, tmp_path / name, serial=True, quiet=True, compile_trials=False, pack=pack)
        assert outcome.exit_status == 0
    packed, alone = (Store.open(tmp_path / name).rows().set_index("run_id") for name in ("packed", "alone"))
    assert set(packed.index) == set(alone.index)
    assert all('"pack":4' in e.replace(" ", "") for e in packed.execution)
    for run_id in alone.index:
        assert packed.loc[run_id].loss == pytest.approx(alone.loc[run_id].loss, rel=2e-4)
        assert packed.loc[run_id].flops_exact == alone.loc[run_id].flops_exact
    again = run_sweep(small, tmp_path / "packed", serial=True, quiet=True, compile_trials=False, pack=4)
    assert again.ran == 0
