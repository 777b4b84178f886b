"""From a sweep file to rows: expand, subtract what the store holds, fix each trial's execution, launch what is left."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.cost import trial_flops
from scaling.errors import CorpusError, InputError
from scaling.job import Execution, Job, Planned
from scaling.store import Store
from scaling.trial import Trial
from sweeps.definition import Sweep, load_sweep
from sweeps.drain import Drain
from sweeps.expand import Wanted, expand
from sweeps.plan import Plan, jobs, plan, to_planned
from sweeps.progress import SweepProgress


@dataclass(frozen=True)
class Outcome:
    """What a launch did. `statuses` maps the sweep's run ids to finished, diverged, failed or missing."""

    sweep: str
    store: Path
    statuses: dict[str, str]
    ran: int
    drained: bool
    failures: dict[str, str]
    """Reason by run id."""

    @property
    def exit_status(self) -> int:
        """0, or 1 where a trial failed."""
        return 1 if self.failures else 0

    @property
    def counts(self) -> dict[str, int]:
        """Trials by status."""
        found: dict[str, int] = defaultdict(int)
        for status in self.statuses.values():
            found[status] += 1
        return dict(sorted(found.items()))

    def to_json(self) -> dict[str, Any]:
        """`{"sweep", "store", "counts": {STATUS: n}, "ran", "drained", "failures": {RUN_ID: REASON}}`."""
        return {
            "sweep": self.sweep,
            "store": str(self.store),
            "counts": self.counts,
            "ran": self.ran,
            "drained": self.drained,
            "failures": self.failures,
        }

    @property
    def lines(self) -> list[str]:
        """The outcome for people."""
        counts = ", ".join(f"{n} {status}" for status, n in self.counts.items())
        lines = [f"{self.sweep}: {counts} of {len(self.statuses)} trials; {self.ran} ran now; store {self.store}"]
        if self.drained:
            lines.append("stopped in time; rerun to go on where it left off")
        lines += [f"failed {run_id}: {reason}" for run_id, reason in sorted(self.failures.items())]
        return lines


@dataclass(frozen=True)
class Prepared:
    """A sweep ready to plan: its trials and the data's digest, vocabulary size and training tokens."""

    sweep: Sweep
    wanted: list[Wanted]
    digest: str
    vocab_size: int
    n_train: int


def prepare_sweep(source: str | Path | Sweep, overrides: Sequence[str] = (), *, quiet: bool = True) -> Prepared:
    """Loads, expands and prepares the corpus; every mistake of the user's is raised here, before any work starts.

    Raises:
        SweepError: the definition is wrong.
        CorpusError: the corpus cannot be read, or is shorter than a trial needs.
    """
    from scaling.corpora.order import check_supply
    from scaling.corpora.prepare import prepare

    sweep = source if isinstance(source, Sweep) else load_sweep(source, overrides)
    wanted = expand(sweep)
    if not wanted:
        raise InputError(f"sweep {sweep.name} defines no trial")
    sample = wanted[0].trial
    say = None if quiet else lambda text: print(text, flush=True)
    corpus = prepare(sample.corpus, sample.tokenizer, progress=say)
    longest = max((w.trial for w in wanted), key=lambda t: t.tokens)
    check_supply(longest.tokens, corpus, longest.corpus.unique_tokens, longest.repeat)
    for item in wanted:
        if (item.trial.corpus, item.trial.tokenizer) != (sample.corpus, sample.tokenizer):
            raise CorpusError(f"sweep {sweep.name} mixes corpora or tokenizers; write one sweep for each")
    return Prepared(sweep, wanted, corpus.digest, corpus.vocabulary.size, corpus.n_train)


def plan_sweep(source: str | Path | Sweep, store_path: Path | None = None, overrides: Sequence[str] = ()) -> Plan:
    """The plan of a sweep against a store (which need not exist)."""
    ready = prepare_sweep(source, overrides)
    store = Store.open(store_path) if store_path is not None and store_path.exists() else None
    return plan(ready.sweep, store, digest=ready.digest, vocabulary=ready.vocab_size, tokens_available=ready.n_train)


def default_store(sweep: Sweep) -> Path:
    """Where a sweep's rows go unless said otherwise."""
    return Path("runs") / sweep.name


def run_sweep(
    source: str | Path | Sweep,
    store_path: Path | None = None,
    *,
    workers: int | None = None,
    address: str | None = None,
    gpus_per_trial: float = 0.0,
    serial: bool = False,
    limit: int | None = None,
    seconds: float | None = None,
    overrides: Sequence[str] = (),
    quiet: bool = False,
    compile_trials: bool | None = None,
) -> Outcome:
    """Runs what a store lacks of a sweep; see `run_sweeps`, which this calls with one sweep."""
    (outcome,) = run_sweeps(
        [source],
        store_path,
        workers=workers,
        address=address,
        gpus_per_trial=gpus_per_trial,
        serial=serial,
        limit=limit,
        seconds=seconds,
        overrides=overrides,
        quiet=quiet,
        compile_trials=compile_trials,
    )
    return outcome


def run_sweeps(
    sources: Sequence[str | Path | Sweep],
    store_path: Path | None = None,
    *,
    workers: int | None = None,
    address: str | None = None,
    gpus_per_trial: float = 0.0,
    serial: bool = False,
    limit: int | None = None,
    seconds: float | None = None,
    overrides: Sequence[str] = (),
    quiet: bool = False,
    compile_trials: bool | None = None,
) -> list[Outcome]:
    """Runs what a store lacks of several sweeps as one launch, longest trials first.

    Args:
        sources: sweep files or definitions.
        store_path: the store, made where it does not exist; None: runs/<name of the first sweep>.
        workers: trials at once; None: one a core.
        address: of a Ray cluster; None: Ray on this machine.
        gpus_per_trial: GPUs (or a share of one) for each trial.
        serial: in this process, without Ray.
        limit: run at most so many trials.
        seconds: leave in good order within so many seconds.
        overrides: `a.b=c` settings that win over the files.
        quiet: show no progress.
        compile_trials: force compiled or eager; None: by each shape's cost.

    Raises:
        InputError: anything wrong with the input, before any work starts.
        Interrupted: on SIGINT or SIGTERM, after running trials were checkpointed.
    """
    started = time.monotonic()
    prepared = [prepare_sweep(source, overrides, quiet=quiet) for source in sources]
    store_path = store_path or default_store(prepared[0].sweep)
    store = Store.create(store_path)
    done = store.done()
    missing = [(ready, w) for ready in prepared for w in ready.wanted if w.trial.run_id(ready.digest) not in done]
    launched: list[Job] = []
    drained = False
    if missing:
        for ready in prepared:
            if ready.sweep.file is not None:
                store.record_sweep(ready.sweep.file)
        planned = _planned(prepared, store, done, compile_trials)
        launched = jobs(planned)[: limit or None]
        if seconds is not None:
            seconds -= time.monotonic() - started
        drained = _launch(
            launched, store_path, len(done), prepared, workers, address, gpus_per_trial, serial, seconds, quiet
        )
    return [_outcome(ready, store_path, {p.run_id for j in launched for p in j.planned}, drained) for ready in prepared]


def _planned(
    prepared: Sequence[Prepared], store: Store, done: dict[str, str], compile_trials: bool | None
) -> list[Planned]:
    """What is missing, each trial with the execution it had before or the one chosen now."""
    found: dict[str, Planned] = {}
    for ready in prepared:
        left = [w for w in ready.wanted if w.trial.run_id(ready.digest) not in done]
        chooser = ExecutionChooser([w.trial for w in left], ready.vocab_size, compile_trials)
        for item in to_planned(left, ready.digest, ready.vocab_size, ready.sweep.name, chooser):
            fixed = store.execution(item.run_id) or store.fix_execution(item.run_id, item.execution)
            found.setdefault(item.run_id, item.model_copy(update={"execution": fixed}))
    return list(found.values())


class ExecutionChooser:
    """Chooses executions for trials launched together: a shape is compiled where its trials together repay it."""

    def __init__(self, trials: Sequence[Trial], vocab_size: int, compile_trials: bool | None = None) -> None:
        self.compile_trials = compile_trials
        self._flops: dict[Any, float] = defaultdict(float)
        for trial in trials:
            self._flops[self._shape(trial)] += sum(trial_flops(trial, vocab_size).values())

    def __call__(self, trial: Trial, vocab_size: int) -> Execution:
        """The execution of one of the trials."""
        from scaling.execution import choose_execution

        own = sum(trial_flops(trial, vocab_size).values())
        share = self._flops[self._shape(trial)] / own
        return choose_execution(trial, vocab_size, compile_trials=self.compile_trials, share=share)

    @staticmethod
    def _shape(trial: Trial) -> Any:
        return trial.architecture, trial.objective, trial.precision, trial.batch_tokens


def _launch(
    launched: Sequence[Job],
    store_path: Path,
    already: int,
    prepared: Sequence[Prepared],
    workers: int | None,
    address: str | None,
    gpus_per_trial: float,
    serial: bool,
    seconds: float | None,
    quiet: bool,
) -> bool:
    """Runs the jobs; returns whether a deadline ended them early."""
    name = ", ".join(ready.sweep.name for ready in prepared)
    with ExitStack() as stack:
        drain = stack.enter_context(Drain(store_path, seconds))
        progress = stack.enter_context(SweepProgress(name, launched, already, quiet=quiet))
        if serial:
            from sweeps.serial import run_serial

            run_serial(launched, store_path, drain, progress)
        else:
            from sweeps.launch import run_on_ray

            run_on_ray(
                launched,
                store_path,
                drain,
                progress,
                workers=workers or cores(),
                address=address,
                gpus_per_trial=gpus_per_trial,
            )
        drain.raise_if_signalled()
        return drain.requested()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _outcome(ready: Prepared, store_path: Path, ran: set[str], drained: bool) -> Outcome:
    store = Store.open(store_path)
    done, failed = store.done(), store.failed()
    ids = [w.trial.run_id(ready.digest) for w in ready.wanted]
    statuses = {i: done.get(i, "failed" if i in failed else "missing") for i in ids}
    return Outcome(
        sweep=ready.sweep.name,
        store=store_path,
        statuses=statuses,
        ran=sum(i in ran and statuses[i] in ("finished", "diverged") for i in ids),
        drained=drained and "missing" in statuses.values(),
        failures={i: failed[i] for i in ids if statuses[i] == "failed"},
    )
