"""Trials, plans and stores that several benchmarks share."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.corpora.prepare import prepare
from scaling.execution import choose_execution
from scaling.job import Execution, Job, Planned
from scaling.job_runner import JobRunner
from scaling.store import Store
from scaling.trial import Trial

if TYPE_CHECKING:
    from scaling.step import StepFunction


def decoder(width: int, layers: int, heads: int, *, batch_tokens: int, steps: int, **changes: Any) -> Trial:
    """A causal trial on bytes of the embedded corpus; `seq_len` and any field of a trial may be given."""
    shape = {"type": "decoder", "n_layer": layers, "d_model": width, "n_head": heads}
    shape["seq_len"] = changes.pop("seq_len", 128)
    spec = {
        "architecture": shape,
        "objective": "causal",
        "corpus": "python-v1",
        "optimizer": {"type": "adamw", "lr": changes.pop("lr", 4e-3 * 64 / width)},
        "batch_tokens": batch_tokens,
        "steps": steps,
        "repeat": True,
        **changes,
    }
    return Trial.model_validate(spec)


def planned(trial: Trial, compiled: bool | None = None, execution: Execution | None = None) -> Planned:
    """The trial on this machine's corpus, with the execution that would be chosen here unless one is given."""
    corpus = prepare(trial.corpus, trial.tokenizer)
    vocab_size = corpus.vocabulary.size
    return Planned(
        trial=trial,
        run_id=trial.run_id(corpus.digest),
        lineage=trial.lineage(corpus.digest),
        data_digest=corpus.digest,
        sweep="benchmark",
        execution=execution or choose_execution(trial, vocab_size, compile_trials=compiled),
        vocab_size=vocab_size,
    )


def runner(folder: Path, *plans: Planned) -> JobRunner:
    """A runner of these trials as one job, which never checkpoints of its own accord."""
    return JobRunner(Job(planned=plans), Store.create(folder), checkpoint_seconds=1e9)


def final_loss(folder: Path, plan: Planned) -> float:
    """Trains a trial to its end; its held-out loss in nats."""
    at_work = runner(folder, plan)
    while not at_work.advance(60.0).done:
        pass
    rows = at_work.store.rows()
    return float(rows[rows.run_id == plan.run_id].loss.iloc[0])


def tokens_per_s(folder: Path, seconds: float, *plans: Planned) -> float:
    """Tokens a second over all trials of a job in training, after a second's warm-up."""
    at_work = runner(folder, *plans)
    at_work.advance(1.0)
    assert at_work.run is not None
    before, started = at_work.run.step, time.perf_counter()
    at_work.advance(seconds)
    assert at_work.run is not None
    steps = at_work.run.step - before
    return steps * plans[0].trial.batch_tokens * len(at_work.run.courses) / (time.perf_counter() - started)


def step_seconds(functions: Mapping[str, tuple[Trial, StepFunction]], rounds: int, vocab_size: int) -> dict[str, float]:
    """Processor seconds of a training step on a whole batch, by name: medians of alternating rounds after one more."""
    import torch

    taken: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, (of, function) in functions.items():
            shape = (of.batch_windows, of.architecture.seq_len)
            ids = torch.randint(0, vocab_size, shape, generator=torch.Generator().manual_seed(turn))
            theta = function.initial([of], vocab_size)
            started = time.process_time()
            function.step(theta, {"inputs": ids, "targets": ids}, torch.ones(()), (0, turn, 0))
            if turn:
                taken[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in taken.items()}
