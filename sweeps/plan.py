"""The plan of a sweep: each trial's size, cost, time, memory and disk, what the store holds, the jobs left to run.

Needs neither torch nor Ray. Times come from a measurement of this machine where there is one (`sweeps.calibration`).
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from scaling.accounting import COUNTS
from scaling.along import NOISE_BATCHES, steps_of
from scaling.cost import trial_flops
from scaling.execution import MICRO_BATCH_TOKENS, can_compile, compiling_pays, micro_batch
from scaling.job import Execution, Job, Planned
from scaling.trial import SEMANTICS_VERSION, Trial
from sweeps.calibration import CACHED_COMPILE_SECONDS, START_SECONDS, Calibration
from sweeps.definition import Sweep
from sweeps.expand import Wanted, expand, vocab_size
from sweeps.packs import grouped

ROW_BYTES, CURVE_BYTES, EVAL_BYTES = 14_000, 14_000, 24_000
"""A loose row, a curve of 200 points, and a held-out text's documents in parquet."""
CHECKPOINT_BYTES = 2 * 12
"""A parameter's float32 weight and two moments in the newest checkpoint and its reserve."""


class Ledger(Protocol):
    """What a plan asks of a store."""

    def done(self) -> Mapping[str, str]:
        """Status by run id of every run that need not run again."""

    def failed(self) -> Mapping[str, str]:
        """Reason by run id of runs that failed."""

    def execution(self, run_id: str) -> Execution | None:
        """How a run is to be executed, if that was ever fixed."""


@dataclass(frozen=True)
class PlanRow:
    """One trial of a plan. `status`: to_run, finished, diverged, failed (will be tried again), or unknown.

    FLOPs are exact; `tokens_per_param` is by non-embedding parameters; `memory_bytes` is that of the trial's arrays,
    the process apart; `epochs` is None while the corpus has not been counted. `seconds` is all a worker spends on the
    trial: training, evaluation, compilation (once a shape) and the start. `flops_marginal` is what it costs in its job.
    """

    run_id: str | None
    status: str
    architecture: str
    objective: str
    n_layer: int | None
    d_model: int | None
    n_head: int | None
    params: Mapping[str, int]
    budget: float | None
    flops: float
    tokens: int
    tokens_per_param: float
    epochs: float | None
    steps: int
    batch_tokens: int
    lr: float
    seed: int
    seconds: float
    seconds_training: float
    seconds_compilation: float
    compiled: bool
    flops_marginal: float
    memory_bytes: int
    disk_bytes: int
    labels: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """Every trial of a sweep, ascending by budget and size, with what is done and what is left."""

    sweep: str
    description: str
    design: str
    heldout: str
    data_digest: str | None
    vocab_size: int
    rows: tuple[PlanRow, ...]
    warnings: tuple[str, ...]
    calibration: Calibration
    notices: tuple[str, ...] = ()
    """What is no warning but must be known: a semantics bump, where the times come from."""

    @property
    def measured(self) -> bool:
        """Whether the times are of this machine."""
        return self.calibration.measured

    @property
    def counts(self) -> dict[str, int]:
        """Rows by status."""
        return dict(sorted(Counter(row.status for row in self.rows).items()))

    @property
    def left(self) -> tuple[PlanRow, ...]:
        """Rows that a run of the sweep would train."""
        return tuple(row for row in self.rows if row.status not in ("finished", "diverged"))

    @property
    def flops(self) -> float:
        """Exact FLOPs of all rows."""
        return sum(row.flops for row in self.rows)

    @property
    def disk_bytes(self) -> int:
        """Bytes that the rows, curves and evaluations of what is left will take in the store."""
        return sum(row.disk_bytes for row in self.left)

    def peak_disk_bytes(self, workers: int) -> int:
        """Bytes that a run needs at most: what stays, and the checkpoints of the largest trials at work together."""
        largest = sorted((row.params["total"] for row in self.left), reverse=True)[: max(1, workers)]
        return self.disk_bytes + CHECKPOINT_BYTES * sum(largest)

    def wall_seconds(self, workers: int) -> float:
        """Estimated seconds until the last of what is left ends, longest first on `workers` workers.

        Times hold for as many trials at once as were measured; more workers than cores share the cores.
        """
        return wall_seconds([row.seconds for row in self.left], workers)

    def to_json(self, workers: int = 1) -> dict[str, Any]:
        """The plan as plain data.

        `{"sweep", "description", "design", "heldout", "data_digest": str|null, "vocab_size", "semantics_version",
        "counts": {STATUS: n}, "flops", "flops_left", "workers", "seconds_left", "rates_measured", "disk_bytes",
        "peak_disk_bytes", "matmul_flops_per_s": number|null, "warnings": [], "notices": [],
        "trials": [{"run_id": str|null, "status", "architecture", "objective", "n_layer", "d_model", "n_head",
        "params": {"total", "non_embedding", "non_embedding_head"}, "budget": FLOPs|null, "flops", "tokens",
        "tokens_per_param", "epochs": number|null, "steps", "batch_tokens", "lr", "seed", "seconds",
        "seconds_training", "seconds_compilation", "compiled", "flops_marginal", "memory_bytes", "disk_bytes",
        "labels": {"size_target", "learning_rate_factor", "batch_factor"}}]}`; `labels` is empty for a grid.
        """
        return {
            "sweep": self.sweep,
            "description": self.description,
            "design": self.design,
            "heldout": self.heldout,
            "data_digest": self.data_digest,
            "vocab_size": self.vocab_size,
            "semantics_version": SEMANTICS_VERSION,
            "counts": self.counts,
            "flops": self.flops,
            "flops_left": sum(row.flops for row in self.left),
            "workers": workers,
            "seconds_left": self.wall_seconds(workers),
            "rates_measured": self.measured,
            "disk_bytes": self.disk_bytes,
            "peak_disk_bytes": self.peak_disk_bytes(workers),
            "matmul_flops_per_s": self.calibration.matmul_flops_per_s,
            "warnings": list(self.warnings),
            "notices": list(self.notices),
            "trials": [asdict(row) for row in self.rows],
        }


def wall_seconds(seconds: Iterable[float], workers: int) -> float:
    """Seconds until the last of some trials ends, longest first on `workers` workers."""
    free = [0.0] * max(1, workers)
    for longest in sorted(seconds, reverse=True):
        heapq.heapreplace(free, free[0] + longest)
    return max(free)


def plan(
    sweep: Sweep,
    store: Ledger | None = None,
    *,
    digest: str | None = None,
    vocabulary: int | None = None,
    tokens_available: int | None = None,
    calibration: Calibration | None = None,
    compile_trials: bool | None = None,
) -> Plan:
    """The plan of a sweep against a store.

    `digest`, `vocabulary` (size) and `tokens_available` (of the training stream) come from the prepared corpus. Without
    a digest run ids and states are unknown; without a vocabulary the tokenizer's own figure is used. `calibration` is
    this machine's (None: the shipped table); `compile_trials` is what `run` will be told.

    Raises:
        SweepError: the definition asks for what cannot be (see `expand`).
    """
    from sweeps.plan_checks import notices_of, warnings_of

    speed = calibration or Calibration()
    wanted = expand(sweep)
    done = store.done() if store is not None and digest is not None else {}
    failed = store.failed() if store is not None and digest is not None else {}
    size = vocabulary or vocab_size(wanted[0].trial.tokenizer)
    ids = [item.trial.run_id(digest) if digest is not None else None for item in wanted]
    statuses = ["unknown" if i is None else done.get(i, "failed" if i in failed else "to_run") for i in ids]
    how = _executions(wanted, ids, statuses, size, store, speed, compile_trials)
    marginal = _marginal(wanted, digest or "", size)
    seen: set[Any] = set()
    rows = []
    for item, run_id, status, execution in zip(wanted, ids, statuses, how, strict=True):
        first = graph_shape(item.trial) not in seen
        if status not in ("finished", "diverged"):
            seen.add(graph_shape(item.trial))
        rows.append(_row(item, run_id, status, size, tokens_available, speed, execution, first, marginal[item.trial]))
    return Plan(
        sweep=sweep.name,
        description=sweep.description,
        design=sweep.design.type,
        heldout=wanted[0].trial.heldout,
        data_digest=digest,
        vocab_size=size,
        rows=tuple(rows),
        warnings=tuple(warnings_of(sweep, wanted, rows)),
        calibration=speed,
        notices=tuple(notices_of(wanted, digest, done)),
    )


def _executions(
    wanted: list[Wanted],
    ids: list[str | None],
    statuses: list[str],
    size: int,
    store: Ledger | None,
    speed: Calibration,
    compile_trials: bool | None,
) -> list[tuple[bool, int]]:
    """Whether each trial is compiled and its micro-batch: as the store fixed it, else as `run` would choose."""
    left = [w.trial for w, status in zip(wanted, statuses, strict=True) if status not in ("finished", "diverged")]
    together: dict[Any, float] = defaultdict(float)
    for trial in left:
        together[graph_shape(trial)] += sum(trial_flops(trial, size).values())
    largest = MICRO_BATCH_TOKENS * (1 if speed.machine.get("device", "cpu") == "cpu" else 64)
    found = []
    for item, run_id in zip(wanted, ids, strict=True):
        trial = item.trial
        fixed = store.execution(run_id) if store is not None and run_id is not None else None
        if fixed is not None:
            found.append((fixed.compiled, fixed.micro_batch_tokens))
            continue
        share = max(1.0, together[graph_shape(trial)] / sum(trial_flops(trial, size).values()))
        pays = compiling_pays(trial, size, share) if compile_trials is None else compile_trials
        compiled = pays and trial.trainer is None and trial.precision != "fp64" and can_compile() is None
        found.append((compiled, micro_batch(trial, largest)))
    return found


def graph_shape(trial: Trial) -> Any:
    """What trials must share to be trained by one compiled graph."""
    return trial.architecture, trial.objective, trial.precision, trial.batch_tokens


def _marginal(wanted: list[Wanted], digest: str, size: int) -> dict[Trial, float]:
    """FLOPs of each trial in the job that would hold it."""
    planned = to_planned(wanted, digest, size, "", lambda trial, vocabulary: Execution())
    by_id = {p.run_id: p.trial for p in planned}
    return {by_id[run_id]: float(flops) for job in jobs(planned) for run_id, flops in job.flops_marginal.items()}


def to_planned(
    wanted: Iterable[Wanted],
    digest: str,
    vocabulary: int,
    sweep_name: str,
    execution_chooser: Callable[[Trial, int], Execution],
    keep: Literal["none", "final"] = "none",
) -> list[Planned]:
    """Wanted trials with their identity on this data and an execution each; the chooser gets trial and vocabulary."""
    return [
        Planned(
            trial=item.trial,
            run_id=item.trial.run_id(digest),
            lineage=item.trial.lineage(digest),
            data_digest=digest,
            sweep=sweep_name,
            budget=item.budget,
            execution=execution_chooser(item.trial, vocabulary),
            vocab_size=vocabulary,
            keep=keep,
        )
        for item in wanted
    ]


def jobs(planned: Iterable[Planned], done: Collection[str] = ()) -> list[Job]:
    """A job for each run that is not done (run ids), longest first by the FLOPs it takes.

    The runs that branch off one trunk (same lineage, same warmup in steps, same execution) share a job, ascending by
    steps; so do those of a pack.
    """
    left = [item for item in planned if item.run_id not in done]
    groups: dict[Any, list[Planned]] = defaultdict(list)
    for item in left:
        if item.execution.pack == 1:
            groups[_trunk(item)].append(item)
    found = grouped(item for item in left if item.execution.pack > 1)
    found += [Job(planned=tuple(sorted(g, key=lambda p: (p.trial.steps, p.run_id)))) for g in groups.values()]
    return sorted(found, key=lambda job: (-sum(job.flops_marginal.values()), job.planned[0].run_id))


def _trunk(item: Planned) -> Any:
    """What runs of one trunk agree in; a run that shares no trunk stands alone."""
    schedule, steps = item.trial.schedule, item.trial.steps
    if schedule.branch_step(steps) is None:
        return item.run_id
    return item.lineage, schedule.warmup_of(steps), item.execution


def memory_bytes(trial: Trial, vocabulary: int) -> int:
    """Estimated bytes of a trial's arrays at their peak.

    16 bytes a parameter (float32 weight, gradient, two moments) and 2 for a bf16 copy; activations of a micro-batch by
    Korthikanti et al. 2022 (arXiv 2205.05198) eq. 1, tokens·n_layer·(34·d_model + 5·n_head·seq_len) bytes in 16 bit;
    logits of the predicted positions with their gradient, in float32.
    """
    architecture = trial.architecture
    width = 1 if trial.precision == "bf16" else 2 if trial.precision == "fp32" else 4
    micro = max(architecture.seq_len, min(trial.batch_tokens, MICRO_BATCH_TOKENS))
    layers, d_model, n_head = (getattr(architecture, name, 1) for name in ("depth", "d_model", "n_head"))
    per_param = 18 if trial.precision == "bf16" else 16 if trial.precision == "fp32" else 32
    activations = micro * layers * (34 * d_model + 5 * n_head * architecture.seq_len) * width
    predicted = trial.objective.predicted_per_window(architecture.seq_len) * (micro // architecture.seq_len)
    logits = predicted * vocabulary * 8 * max(1, width // 2)
    return per_param * trial.objective.params(architecture, vocabulary).total + activations + logits


def _row(
    item: Wanted,
    run_id: str | None,
    status: str,
    size: int,
    available: int | None,
    speed: Calibration,
    execution: tuple[bool, int],
    first_of_shape: bool,
    flops_marginal: float,
) -> PlanRow:
    trial = item.trial
    count = trial.objective.params(trial.architecture, size)
    flops = float(sum(trial_flops(trial, size).values()))
    limits = [n for n in (available, trial.corpus.unique_tokens) if n is not None]
    shape = {name: getattr(trial.architecture, name, None) for name in ("n_layer", "d_model", "n_head")}
    compiled, micro_batch_tokens = execution
    training = speed.training_seconds(trial, size, compiled, micro_batch_tokens) * flops_marginal / flops
    along = len(steps_of(trial))
    looks = (1 + along) * speed.evaluation_seconds(trial, size, compiled)
    looks += along * NOISE_BATCHES * micro_batch_tokens * training / trial.tokens
    compilation = (speed.compile_s if first_of_shape else CACHED_COMPILE_SECONDS) if compiled else 0.0
    return PlanRow(
        run_id=run_id,
        status=status,
        architecture=trial.architecture.type,
        objective=trial.objective.type,
        **shape,
        params={name: count.by_name(name) for name in COUNTS},
        budget=item.budget,
        flops=flops,
        tokens=trial.tokens,
        tokens_per_param=trial.tokens / count.non_embedding,
        epochs=trial.tokens / min(limits) if limits else None,
        steps=trial.steps,
        batch_tokens=trial.batch_tokens,
        lr=trial.optimizer.lr,
        seed=trial.seed,
        seconds=training + compilation + looks + START_SECONDS,
        seconds_training=training,
        seconds_compilation=compilation,
        compiled=compiled,
        flops_marginal=flops_marginal,
        memory_bytes=memory_bytes(trial, size),
        disk_bytes=ROW_BYTES + CURVE_BYTES + EVAL_BYTES,
        labels=dict(item.labels),
    )
