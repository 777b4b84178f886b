"""From a sweep file to rows: expand, subtract what the store holds, fix each trial's execution, launch what is left."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

from scaling.errors import CorpusError, InputError
from scaling.job import Execution, Job, Planned
from scaling.provenance import cores
from scaling.store import Store
from scaling.trainer import resolve
from scaling.trial import Trial
from sweeps.ahead import CompileAhead
from sweeps.definition import Sweep, load_sweep
from sweeps.drain import Drain
from sweeps.executions import choose_executions, fix_executions
from sweeps.expand import Wanted, expand
from sweeps.plan import Plan, jobs, plan, to_planned
from sweeps.plan_checks import LEAST_RATES, edges_of
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
    notes: tuple[str, ...] = ()
    """What the rows show of the sweep itself: best learning rates at the edge of those tried."""

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
        """`{"sweep", "store", "counts": {STATUS: n}, "ran", "drained", "failures": {RUN_ID: REASON}, "notes": []}`."""
        return {
            "sweep": self.sweep,
            "store": str(self.store),
            "counts": self.counts,
            "ran": self.ran,
            "drained": self.drained,
            "failures": self.failures,
            "notes": list(self.notes),
        }

    @property
    def lines(self) -> list[str]:
        """The outcome for people."""
        counts = ", ".join(f"{n} {status}" for status, n in self.counts.items())
        lines = [f"{self.sweep}: {counts} of {len(self.statuses)} trials; {self.ran} ran now; store {self.store}"]
        if self.drained:
            lines.append("stopped in time; rerun to go on where it left off")
        lines += [f"note: {note}" for note in self.notes]
        lines += [
            f"failed {run_id}: {reason.replace('log: logs/', f'log: {self.store}/logs/')}"
            for run_id, reason in sorted(self.failures.items())
        ]
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
        InputError: a trainer cannot be imported or called.
    """
    from scaling.corpora.order import check_supply
    from scaling.corpora.prepare import prepare

    sweep = source if isinstance(source, Sweep) else load_sweep(source, overrides)
    wanted = expand(sweep)
    if not wanted:
        raise InputError(f"sweep {sweep.name} defines no trial")
    for trainer in dict.fromkeys(w.trial.trainer for w in wanted):
        if trainer is not None:
            resolve(trainer)
    sample = wanted[0].trial
    say = None if quiet else lambda text: print(text, flush=True)
    corpus = prepare(sample.corpus, sample.tokenizer, progress=say)
    whole = sample.corpus.model_copy(update={"unique_tokens": None})
    for item in wanted:
        trial = item.trial
        if (trial.corpus.model_copy(update={"unique_tokens": None}), trial.tokenizer) != (whole, sample.tokenizer):
            raise CorpusError(f"sweep {sweep.name} mixes corpora or tokenizers; write one sweep for each")
        check_supply(trial.tokens, corpus, trial.corpus.unique_tokens, trial.repeat)
    return Prepared(sweep, wanted, corpus.digest, corpus.vocabulary.size, corpus.n_train)


def plan_sweep(
    source: str | Path | Sweep,
    store_path: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    workers: int | None = None,
    calibrate: str = "never",
    compile_trials: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Plan:
    """The plan of a sweep against a store (which need not exist).

    Args:
        source: a sweep file or definition.
        store_path: what is done is subtracted.
        overrides: `a.b=c` settings that win over the file.
        workers: trials at once, for which times are given; None: one a core.
        calibrate: `missing` measures this machine (some seconds) where that was never done, `always` measures anew,
            `never` takes what is cached, else the shipped table.
        compile_trials: force compiled or eager; None: by each shape's cost. True also measures compiled graphs.
        say: told that a measurement begins.
    """
    from sweeps import measure
    from sweeps.calibration import load

    ready = prepare_sweep(source, overrides)
    store = Store.open(store_path) if store_path is not None and store_path.exists() else None
    count, precision = workers or cores(), ready.wanted[0].trial.precision
    done = store.done() if store is not None else {}
    if calibrate == "missing" and all(w.trial.run_id(ready.digest) in done for w in ready.wanted):
        calibrate = "never"
    if calibrate == "never":
        calibration = load(count, precision)
    else:
        compiled = compile_trials is True
        calibration = measure.calibrate(count, precision=precision, when=calibrate, compiled=compiled, say=say)
    found = plan(
        ready.sweep,
        store,
        digest=ready.digest,
        vocabulary=ready.vocab_size,
        tokens_available=ready.n_train,
        calibration=calibration,
        compile_trials=compile_trials,
    )
    return replace(found, warnings=(*found.warnings, *_edges(ready, store)))


def _edges(ready: Prepared, store: Store | None) -> list[str]:
    """Where the best of the learning rates that were tried lies at the edge of them."""
    if store is None or len({w.trial.optimizer.lr for w in ready.wanted}) < LEAST_RATES:
        return []
    rows = store.rows()
    rows = rows[rows["status"] == "finished"]
    losses = {str(i): float(v) for i, v in zip(rows["run_id"], rows["loss"], strict=True)}
    return edges_of(ready.wanted, ready.digest, losses)


def default_store(sweep: Sweep) -> Path:
    """Where a sweep's rows go unless said otherwise."""
    return Path("runs") / sweep.name


class LaunchOptions(TypedDict, total=False):
    """Keywords of `run_sweeps`, which says what they mean."""

    workers: int | None
    address: str | None
    gpus_per_trial: float
    serial: bool
    limit: int | None
    seconds: float | None
    overrides: Sequence[str]
    quiet: bool
    compile_trials: bool | None
    pack: int | None


def run_sweep(source: str | Path | Sweep, store_path: Path | None = None, **options: Unpack[LaunchOptions]) -> Outcome:
    """Runs what a store lacks of a sweep; see `run_sweeps`, which this calls with one sweep."""
    (outcome,) = run_sweeps([source], store_path, **options)
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
    pack: int | None = None,
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
        pack: train at most so many trials of one shape side by side; None: 64 on a GPU, none on a CPU.

    Raises:
        InputError: anything wrong with the input, before any work starts.
        Interrupted: on SIGINT or SIGTERM, after running trials were checkpointed.
    """
    started = time.monotonic()
    check_gpus(gpus_per_trial, serial)
    prepared = [prepare_sweep(source, overrides, quiet=quiet) for source in sources]
    store_path = store_path or default_store(prepared[0].sweep)
    store = Store.create(store_path)
    done = store.done()
    wanted = {w.trial.run_id(ready.digest): w for ready in prepared for w in ready.wanted}
    missing = [w for run_id, w in wanted.items() if run_id not in done]
    launched: list[Job] = []
    drained = False
    if missing:
        for ready in prepared:
            for file in ready.sweep.files:
                store.record_sweep(file)
        if gpus_per_trial > 1 and any(w.trial.trainer is None for w in missing):
            raise InputError(
                f"--gpus-per-trial {gpus_per_trial:g}: the built-in trainer uses one GPU; give 1 or less, or a trainer"
            )
        if address is None and not serial:
            _check_gpus_here(gpus_per_trial)
        planned = fix_executions(
            _planned(prepared, done, compile_trials, gpus_per_trial, pack, address),
            store,
            runs_here=address is None,
            say=lambda text: None if quiet else print(f"note: {text}", file=sys.stderr, flush=True),
        )
        launched = jobs(planned)[: limit or None]
        if seconds is not None:
            seconds -= time.monotonic() - started
        drained = _launch(
            launched,
            store_path,
            len(wanted) - len(missing),
            prepared,
            workers,
            address,
            gpus_per_trial,
            serial,
            seconds,
            quiet,
        )
    return [_outcome(ready, store_path, {p.run_id for j in launched for p in j.planned}, drained) for ready in prepared]


def _planned(
    prepared: Sequence[Prepared],
    done: dict[str, str],
    compile_trials: bool | None,
    gpus_per_trial: float,
    pack: int | None,
    address: str | None,
) -> list[Planned]:
    """What is missing, each trial with the execution that a machine which would train it chooses now."""
    left = [[w for w in ready.wanted if w.trial.run_id(ready.digest) not in done] for ready in prepared]
    asked = [([w.trial.model_dump_json() for w in some], r.vocab_size) for some, r in zip(left, prepared, strict=True)]
    how = (compile_trials, gpus_per_trial, pack)
    if address is None:
        chosen = choose_executions(asked, *how)
    else:
        from sweeps.launch import on_a_worker

        chosen = on_a_worker(address, gpus_per_trial, choose_executions, asked, *how)
    found: dict[str, Planned] = {}
    for ready, some, texts in zip(prepared, left, chosen, strict=True):
        mine = {w.trial: Execution.model_validate_json(text) for w, text in zip(some, texts, strict=True)}
        chooser = partial(_looked_up, mine)
        for item in to_planned(some, ready.digest, ready.vocab_size, ready.sweep.name, chooser, ready.sweep.keep):
            found.setdefault(item.run_id, item)
    return list(found.values())


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
        ceiling = _ceiling(prepared, 1 if serial else workers or cores()) if address is None else None
        store = Store.open(store_path)
        if address is None:
            stack.enter_context(CompileAhead(launched, 1 if serial else workers or cores(), cores()))
        progress = stack.enter_context(
            SweepProgress(
                name,
                launched,
                already,
                quiet=quiet,
                ceiling=ceiling,
                at_work=lambda: sum(not note["stale"] for note in store.running().values()),
            )
        )
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
                workers=workers or (cores() if address is None else None),
                address=address,
                gpus_per_trial=gpus_per_trial,
            )
        drain.raise_if_signalled()
        return drain.requested()


def check_gpus(gpus_per_trial: float, serial: bool = False) -> None:
    """Raises InputError where a share of GPUs is neither a fraction of one nor a whole number of them."""
    fraction = 0.0 <= gpus_per_trial <= 1.0
    if not fraction and not (gpus_per_trial > 0 and float(gpus_per_trial).is_integer()):
        raise InputError(
            f"--gpus-per-trial {gpus_per_trial:g}: give a fraction of one GPU, as 0.25, or a whole number of them"
        )
    if serial and gpus_per_trial:
        raise InputError("--gpus-per-trial shares GPUs among the workers of Ray; leave it out with --serial")


def _looked_up(chosen: Mapping[Trial, Execution], trial: Trial, vocab_size: int) -> Execution:
    return chosen[trial]


def _check_gpus_here(gpus_per_trial: float) -> None:
    """Raises InputError where this machine has not the GPUs of one trial, for which Ray would wait without an end."""
    if not gpus_per_trial:
        return
    import torch

    have = torch.cuda.device_count()
    if gpus_per_trial > have:
        raise InputError(
            f"--gpus-per-trial {gpus_per_trial:g}: this machine has {have} GPUs; leave it out, or name with --address a"
            " Ray cluster that has them"
        )


def _ceiling(prepared: Sequence[Prepared], workers: int) -> float | None:
    """FLOP/s of matrix products that so many workers reach together here; None where that was not measured."""
    from sweeps.calibration import at_once, load

    known = load(workers, prepared[0].wanted[0].trial.precision)
    if known is None or known.matmul_flops_per_s is None:
        return None
    return known.matmul_flops_per_s * at_once(workers)


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
        notes=tuple(_edges(ready, store)),
    )
