"""Other people's training code: the contract, the example in the documentation, interruptions, and wrong functions."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scaling.errors import InputError, SweepError
from scaling.store import Store
from scaling.trainer import Task, Trained, Trainer, resolve
from scaling.trial import Trial
from sweeps.definition import load_sweep
from sweeps.expand import expand
from sweeps.run import Outcome, plan_sweep, run_sweep

EXAMPLES = Path(__file__).resolve().parents[2] / "docs/examples"

SWEEP = """\
name: foreign
architecture: {type: decoder, n_layer: 1, d_model: 16, n_head: 2, seq_len: 32}
objective: causal
corpus: {type: markov, order: 1, symbols: 8, n_documents: 512, document_length: 512}
optimizer: {type: adamw, lr: 0.01}
trainer: TARGET
precision: fp32
heldout: nested
batch_tokens: 128
design:
  type: grid
  axes: {steps: [400]}
"""


@pytest.fixture(autouse=True)
def _place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "trainer-cache"))
    monkeypatch.syspath_prepend(str(EXAMPLES))


def run(folder: Path, target: str, **options: Any) -> tuple[Outcome, Store]:
    sweep = folder / "foreign.yaml"
    sweep.write_text(SWEEP.replace("TARGET", target))
    outcome = run_sweep(sweep, folder / "store", serial=True, quiet=True, **options)
    return outcome, Store.open(folder / "store")


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the user's that a test puts functions into."""
    module = ModuleType("my_training")
    monkeypatch.setitem(sys.modules, "my_training", module)
    return module


def test_the_documented_example_trains_and_is_short(tmp_path: Path) -> None:
    """It learns: an order-1 chain of 8 symbols is far below a uniform guess over 256 bytes."""
    assert len((EXAMPLES / "plain_pytorch.py").read_text().splitlines()) < 40
    outcome, store = run(tmp_path, "plain_pytorch:train")
    assert outcome.counts == {"finished": 1}
    row = store.rows().iloc[0]
    assert 1.0 < row["loss"] < math.log(8) + 0.2
    assert row["params_non_embedding"] == 16 * 16
    assert row["params_total"] == 2 * 256 * 16 + 256 + 16 * 16 + 16
    assert row["flops_exact"] == row["flops_exact_other"] == 6 * 16 * 16 * 400 * 128
    assert row["flops_6nd_non_embedding"] == row["flops_exact"]
    curve = store.curves()
    assert curve["step"].tolist() == list(range(50, 401, 50))
    assert curve["train_loss"].iloc[-1] < curve["train_loss"].iloc[0]
    assert json.loads(row["provenance"])["trainer"] == {"target": "plain_pytorch:train", "version": "1"}
    assert not list((tmp_path / "store/checkpoints").glob("*"))
    assert run(tmp_path, "plain_pytorch:train")[0].ran == 0


def test_an_interrupted_function_goes_on_from_its_folder(tmp_path: Path, mine: ModuleType) -> None:
    """Stopped by a deadline, it saves and returns; the next call resumes, and the curve has every point once."""
    calls: list[int] = []

    def train(task: Task) -> Trained | None:
        kept = task.folder / "step"
        step = int(kept.read_text()) if kept.exists() else 0
        calls.append(step)
        while step < task.trial.steps:
            step += 100
            task.report(step, 5.0 - step / 100)
            if len(calls) == 1 and step == 200:
                import time

                while not task.stop():
                    time.sleep(0.01)
                kept.write_text(str(step))
                return None
        return Trained(loss=1.25, loss_se=0.01, notes={"resumed": calls[-1]})

    mine.train = train  # type: ignore[attr-defined]
    first, store = run(tmp_path, "my_training:train", seconds=2.0)
    assert (first.drained, first.counts) == (True, {"missing": 1})
    second, store = run(tmp_path, "my_training:train")
    assert second.counts == {"finished": 1}
    assert calls == [0, 200]
    assert store.curves()["step"].tolist() == [100, 200, 300, 400]
    row = store.rows().iloc[0]
    assert (row["loss"], row["loss_se"]) == (1.25, 0.01)
    assert json.loads(row["provenance"])["trainer_notes"] == {"resumed": 200}


def test_a_loss_that_is_not_finite_is_a_diverged_run(tmp_path: Path, mine: ModuleType) -> None:
    mine.train = lambda task: Trained(loss=math.nan)  # type: ignore[attr-defined]
    outcome, store = run(tmp_path, "my_training:train")
    assert outcome.counts == {"diverged": 1}
    assert store.rows().iloc[0]["reason"] == "trainer my_training:train returned loss nan"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda task: 1.5, "returned float; return a scaling.trainer.Trained"),
        (lambda task: None, "returned None without being asked to stop"),
        (lambda task: Trained(loss="low"), "loss is 'low'; it must be a number"),
        (lambda task: Trained(loss=1.0, params={"total": 3}), "params must map total, non_embedding"),
        (lambda task: task.report(0, 1.0), "reported step 0; steps are whole numbers from 1 to 400"),
        (lambda task: task.report(1.5, 1.0), "reported step 1.5"),
        (lambda task: task.report(401, 1.0), "reported step 401"),
        (lambda task: 1 / 0, "ZeroDivisionError"),
        (lambda task: sys.exit(3), "SystemExit"),
    ],
)
def test_a_wrong_result_fails_the_run_and_says_why(
    function: Any, message: str, tmp_path: Path, mine: ModuleType
) -> None:
    mine.train = function  # type: ignore[attr-defined]
    outcome, _ = run(tmp_path, "my_training:train")
    assert outcome.counts == {"failed": 1}
    assert message in next(iter(outcome.failures.values()))


def test_the_task_gives_the_data_in_our_order(tmp_path: Path, mine: ModuleType) -> None:
    seen: dict[str, Any] = {}

    def train(task: Task) -> Trained:
        batches = task.batches()
        first, second = next(batches), next(batches)
        assert (next(task.batches(1)) == second).all()
        held = task.heldout()
        seen.update(first=first, held=held, seed=task.seed, device=task.device, vocab=task.vocab_size)
        return Trained(loss=2.0, tokens=12_800)

    mine.train = train  # type: ignore[attr-defined]
    _, store = run(tmp_path, "my_training:train")
    assert seen["first"].shape == (128 // 32, 33)
    assert seen["held"].shape[1] == 33
    assert (seen["seed"], seen["vocab"]) == (0, 256)
    row = store.rows().iloc[0]
    assert row["tokens"] == 12_800
    assert row["flops_6nd_total"] == 6 * row["params_total"] * 12_800


def test_name_and_version_are_part_of_a_runs_identity(tmp_path: Path) -> None:
    def trial(trainer: object) -> Trial:
        sweep = tmp_path / "s.yaml"
        sweep.write_text(SWEEP.replace("trainer: TARGET\n", "" if trainer is None else f"trainer: {trainer}\n"))
        return expand(load_sweep(sweep))[0].trial

    ids = [trial(t).run_id("d") for t in (None, "a:f", "b:f", "{target: 'a:f', version: '2'}")]
    assert len(set(ids)) == 4
    assert trial("a:f").run_id("d") == trial("{target: 'a:f'}").run_id("d")
    assert trial("a:f").trainer == Trainer(target="a:f", version="1")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module:train", "no_such_module:train: there is no module no_such_module; run from the folder"),
        ("json:no_such", "trainer json:no_such: json has no no_such; it has "),
        ("sys:path", "trainer sys:path: is list, not a function"),
        ("my_training:two", "must take one argument, a scaling.trainer.Task: two(a, b)"),
        ("my_training:yields", "must return a Trained; it is a generator or a coroutine"),
        ("scaling.trainer.nowhere:f", "there is no module scaling.trainer.nowhere"),
    ],
)
def test_what_cannot_be_called_is_refused_before_any_work(
    target: str, message: str, tmp_path: Path, mine: ModuleType
) -> None:
    def two(a, b):  # type: ignore[no-untyped-def]
        return a + b

    def yields(task: Task) -> Any:
        yield task

    mine.two, mine.yields = two, yields  # type: ignore[attr-defined]
    with pytest.raises(InputError) as caught:
        run(tmp_path, target)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_a_module_that_fails_to_import_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_training.py").write_text("import a_missing_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"importing it raises ModuleNotFoundError: No module named 'a_missing_pack"):
        resolve(Trainer(target="broken_training:train"))


@pytest.mark.parametrize("target", ["no colon", "3", "'a:b:c'", "{version: '2'}", "{target: 'a:f', verson: '2'}"])
def test_a_target_of_another_form_has_its_place(target: str, tmp_path: Path) -> None:
    sweep = tmp_path / "foreign.yaml"
    sweep.write_text(SWEEP.replace("TARGET", target))
    with pytest.raises(SweepError) as caught:
        load_sweep(sweep)
    assert len(caught.value.problems) == 1
    assert (caught.value.problems[0].line, caught.value.problems[0].field.split(".")[0]) == (6, "trainer")


def test_a_plan_says_that_its_times_are_not_the_functions(tmp_path: Path) -> None:
    sweep = tmp_path / "foreign.yaml"
    sweep.write_text(SWEEP.replace("TARGET", "plain_pytorch:train"))
    (notice,) = plan_sweep(sweep).notices
    assert notice == "times, FLOPs and memory are those of the built-in trainer, not of plain_pytorch:train"
