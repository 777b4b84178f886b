"""A store taken to another machine: what was fixed there and does not suit is chosen anew, if nothing began."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scaling.errors import InputError
from scaling.execution import unsuited
from scaling.job import Execution, Planned
from scaling.store import Store
from scaling.trial import Trial
from sweeps.executions import fix_executions
from sweeps.run import prepare_sweep, run_sweep

SWEEP = """\
name: moved
architecture: {type: decoder, n_layer: 1, d_model: 16, n_head: 2, seq_len: 32}
objective: causal
corpus: {type: markov, order: 1, symbols: 8, n_documents: 512, document_length: 512}
optimizer: adamw
heldout: nested
batch_tokens: 128
design:
  type: grid
  axes: {optimizer.lr: [0.003, 0.01], steps: [300]}
"""
THERE = Execution(micro_batch_tokens=128)
HERE = THERE.model_copy(update={"compute": "fp32"})


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "moved-cache"))


@pytest.fixture
def emulates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaling.execution.bf16_seconds_ratio", lambda: 8.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


@pytest.fixture
def trials(tmp_path: Path) -> list[Planned]:
    path = tmp_path / "moved.yaml"
    path.write_text(SWEEP)
    ready = prepare_sweep(path, quiet=True)
    return [
        Planned(
            trial=w.trial,
            run_id=w.trial.run_id(ready.digest),
            lineage=w.trial.run_id(ready.digest),
            data_digest=ready.digest,
            sweep="moved",
            vocab_size=ready.vocab_size,
            execution=HERE,
        )
        for w in ready.wanted
    ]


def fixed_there(store: Store, trials: list[Planned], execution: Execution = THERE) -> None:
    for item in trials:
        store.fix_execution(item.run_id, execution)


@pytest.mark.usefixtures("emulates")
def test_what_was_not_begun_is_chosen_anew(store: Store, trials: list[Planned]) -> None:
    fixed_there(store, trials)
    said: list[str] = []
    found = fix_executions(trials, store, say=said.append)
    assert [p.execution for p in found] == [HERE, HERE]
    assert store.execution(trials[0].run_id) == HERE
    (before,) = store.execution_changes(trials[0].run_id)
    assert before["execution"] == THERE.model_dump(mode="json")
    assert len(said) == 1
    assert said[0].startswith("2 not begun yet: fixed for bf16 products")
    assert [p.execution for p in fix_executions(trials, store, say=said.append)] == [HERE, HERE]
    assert len(said) == 1


@pytest.mark.usefixtures("emulates")
@pytest.mark.parametrize("of", ["run", "trunk"])
def test_what_was_begun_goes_on_as_it_was(store: Store, trials: list[Planned], of: str) -> None:
    trunk = trials[0].model_copy(update={"lineage": "ab" * 8})
    begun = trunk.lineage if of == "trunk" else trunk.run_id
    fixed_there(store, trials)
    store.save_checkpoint(begun, {"x": torch.ones(2)}, {"at": 1}, keep=True)
    said: list[str] = []
    found = fix_executions([trunk, trials[1]], store, say=said.append)
    assert [p.execution for p in found] == [THERE, HERE]
    assert store.execution_changes(trunk.run_id) == []
    assert str(store.checkpoint_path(begun)) in said[1]


@pytest.mark.usefixtures("emulates")
def test_what_another_driver_trains_now_is_left_to_it(store: Store, trials: list[Planned]) -> None:
    fixed_there(store, trials)
    store.mark_running(trials[0].run_id, {})
    assert [p.execution for p in fix_executions(trials, store)] == [THERE, HERE]


@pytest.mark.usefixtures("emulates")
def test_of_the_workers_of_a_cluster_nothing_is_known(store: Store, trials: list[Planned]) -> None:
    fixed_there(store, trials)
    assert [p.execution for p in fix_executions(trials, store, runs_here=False)] == [THERE, THERE]


def test_a_trial_begun_on_a_gpu_is_refused_where_none_is(
    store: Store, trials: list[Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    fixed_there(store, trials, Execution(device="cuda"))
    assert [p.execution for p in fix_executions(trials[1:], store)] == [HERE]
    store.save_checkpoint(trials[0].run_id, {"x": torch.ones(2)}, {"at": 1})
    with pytest.raises(InputError, match="1 begun on another machine: fixed for a GPU, and none is here; finish there"):
        fix_executions(trials, store)


def test_what_suits_is_kept(store: Store, trials: list[Planned], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaling.execution.bf16_seconds_ratio", lambda: 1.5)
    fixed_there(store, trials)
    assert [p.execution for p in fix_executions(trials, store)] == [THERE, THERE]


def as_is(trial: Trial) -> Trial:
    return trial


def own_trainer(trial: Trial) -> Trial:
    return trial.model_copy(update={"trainer": "package.module:train"})


@pytest.mark.parametrize(
    ("execution", "cuda", "ratio", "compiler", "change", "expected"),
    [
        (Execution(), False, 8.0, None, as_is, "emulates"),
        (Execution(), False, 8.0, None, own_trainer, None),
        (Execution(compute="fp32"), False, 8.0, None, as_is, None),
        (Execution(), True, 1.0, None, as_is, "a GPU is here"),
        (Execution(device="cuda"), True, 8.0, None, as_is, None),
        (Execution(compiled=True), False, 1.0, "no compiler", as_is, "no C++ compiler"),
        (Execution(attention="native"), False, 1.0, "no compiler", as_is, "no C++ compiler"),
        (Execution(compiled=True), False, 1.0, None, as_is, None),
    ],
)
def test_what_does_not_suit_a_machine(
    trials: list[Planned],
    execution: Execution,
    cuda: bool,
    ratio: float,
    compiler: str | None,
    change: Callable[[Trial], Trial],
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("scaling.execution.bf16_seconds_ratio", lambda: ratio)
    monkeypatch.setattr("scaling.execution.can_compile", lambda: compiler)
    found = unsuited(change(trials[0].trial), execution)
    assert found is None if expected is None else found is not None and expected in found


@pytest.mark.usefixtures("emulates")
def test_a_sweep_taken_to_a_machine_without_bf16_trains_in_float32_there(
    tmp_path: Path, store: Store, trials: list[Planned], capfd: pytest.CaptureFixture[str]
) -> None:
    fixed_there(store, trials[:1])
    run_sweep(tmp_path / "moved.yaml", store.root, serial=True)
    rows = Store.open(store.root).rows()
    assert [json.loads(e)["compute"] for e in rows.execution] == ["fp32", "fp32"]
    assert "note: 1 not begun yet" in capfd.readouterr().err
