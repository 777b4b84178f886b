"""The plan of a sweep: each trial's size, cost, time and memory, what the store already holds, the jobs left to run.

Needs neither torch nor Ray. Time is exact FLOPs over a measured rate of one core (or device) by width, plus what a
step and a trial cost whatever their size.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from scaling.accounting import COUNTS
from scaling.cost import trial_flops
from scaling.execution import Rates
from scaling.job import Execution, Job, Planned
from scaling.trial import SEMANTICS_VERSION, Trial
from sweeps.definition import Sweep
from sweeps.designs.isoflop import IsoFlop
from sweeps.expand import Wanted, expand, vocab_size

MICRO_BATCH_TOKENS = 2048
"""Tokens whose activations are held at once, at most, for the estimate of memory."""


class Ledger(Protocol):
    """What a plan asks of a store."""

    def done(self) -> Mapping[str, str]:
        """Status by run id of every run that need not run again."""

    def failed(self) -> Mapping[str, str]:
        """Reason by run id of runs that failed."""


@dataclass(frozen=True)
class Calibration:
    """How fast trials run: FLOP/s by width, and seconds that a step and a trial cost beside their FLOPs."""

    rates: Rates = field(default_factory=Rates)
    seconds_per_step: float = 5e-4
    seconds_per_trial: float = 1.0
    measured: bool = False
    """False for the shipped table, which is of another machine."""

    def seconds(self, trial: Trial, flops: float) -> float:
        """Estimated seconds of a trial on one worker."""
        width = getattr(trial.architecture, "d_model", 64)
        return flops / self.rates.at(width) + trial.steps * self.seconds_per_step + self.seconds_per_trial


@dataclass(frozen=True)
class PlanRow:
    """One trial of a plan. `status`: to_run, finished, diverged, failed (will be tried again), or unknown.

    FLOPs are exact; `tokens_per_param` is by non-embedding parameters; `memory_bytes` is that of the trial's arrays,
    the process apart; `epochs` is None while the corpus has not been counted.
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
    memory_bytes: int
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
    measured: bool

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

    def wall_seconds(self, workers: int) -> float:
        """Estimated seconds until the last of what is left ends, longest first on `workers` workers."""
        free = [0.0] * max(1, workers)
        for seconds in sorted((row.seconds for row in self.left), reverse=True):
            heapq.heapreplace(free, free[0] + seconds)
        return max(free)

    def to_json(self, workers: int = 1) -> dict[str, Any]:
        """The plan as plain data.

        `{"sweep", "description", "design", "heldout", "data_digest": str|null, "vocab_size", "semantics_version",
        "counts": {STATUS: n}, "flops", "flops_left", "workers", "seconds_left", "rates_measured", "warnings": [],
        "trials": [{"run_id": str|null, "status", "architecture", "objective", "n_layer", "d_model", "n_head",
        "params": {"total", "non_embedding", "non_embedding_head"}, "budget": FLOPs|null, "flops", "tokens",
        "tokens_per_param", "epochs": number|null, "steps", "batch_tokens", "lr", "seed", "seconds", "memory_bytes",
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
            "warnings": list(self.warnings),
            "trials": [asdict(row) for row in self.rows],
        }


def plan(
    sweep: Sweep,
    store: Ledger | None = None,
    *,
    digest: str | None = None,
    vocabulary: int | None = None,
    tokens_available: int | None = None,
    calibration: Calibration | None = None,
) -> Plan:
    """The plan of a sweep against a store.

    `digest`, `vocabulary` (size) and `tokens_available` (of the training stream) come from the prepared corpus. Without
    a digest run ids and states are unknown; without a vocabulary the tokenizer's own figure is used.

    Raises:
        SweepError: the definition asks for what cannot be (see `expand`).
    """
    speed = calibration or Calibration()
    wanted = expand(sweep)
    done = store.done() if store is not None and digest is not None else {}
    failed = store.failed() if store is not None and digest is not None else {}
    size = vocabulary or vocab_size(wanted[0].trial.tokenizer)
    rows = []
    for item in wanted:
        run_id = item.trial.run_id(digest) if digest is not None else None
        status = "unknown" if run_id is None else done.get(run_id, "failed" if run_id in failed else "to_run")
        rows.append(_row(item, run_id, status, vocabulary, tokens_available, speed))
    return Plan(
        sweep=sweep.name,
        description=sweep.description,
        design=sweep.design.type,
        heldout=wanted[0].trial.heldout,
        data_digest=digest,
        vocab_size=size,
        rows=tuple(rows),
        warnings=tuple(_warnings(sweep, rows)),
        measured=speed.measured,
    )


def to_planned(
    wanted: Iterable[Wanted],
    digest: str,
    vocabulary: int,
    sweep_name: str,
    execution_chooser: Callable[[Trial, int], Execution],
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
        )
        for item in wanted
    ]


def jobs(planned: Iterable[Planned], done: Collection[str] = ()) -> list[Job]:
    """A job for each run that is not done (run ids), longest first by exact FLOPs."""
    left = [Job(planned=(item,)) for item in planned if item.run_id not in done]
    return sorted(left, key=lambda job: (-job.flops, job.planned[0].run_id))


def memory_bytes(trial: Trial, vocabulary: int) -> int:
    """Estimated bytes of a trial's arrays at their peak.

    16 bytes a parameter (float32 weight, gradient, two moments) and 2 for a bf16 copy; activations of a micro-batch by
    Korthikanti et al. 2022 (arXiv 2205.05198) eq. 1, tokens·n_layer·(34·d_model + 5·n_head·seq_len) bytes in 16 bit;
    logits of the predicted positions with their gradient, in float32.
    """
    architecture = trial.architecture
    width = 1 if trial.precision == "bf16" else 2 if trial.precision == "fp32" else 4
    micro = max(architecture.seq_len, min(trial.batch_tokens, MICRO_BATCH_TOKENS))
    layers, d_model, n_head = (getattr(architecture, name, 1) for name in ("n_layer", "d_model", "n_head"))
    per_param = 18 if trial.precision == "bf16" else 16 if trial.precision == "fp32" else 32
    activations = micro * layers * (34 * d_model + 5 * n_head * architecture.seq_len) * width
    predicted = trial.objective.predicted_per_window(architecture.seq_len) * (micro // architecture.seq_len)
    logits = predicted * vocabulary * 8 * max(1, width // 2)
    return per_param * architecture.params(vocabulary).total + activations + logits


def _row(
    item: Wanted, run_id: str | None, status: str, vocabulary: int | None, available: int | None, speed: Calibration
) -> PlanRow:
    trial = item.trial
    size = vocabulary or vocab_size(trial.tokenizer)
    count = trial.architecture.params(size)
    flops = float(sum(trial_flops(trial, size).values()))
    limits = [n for n in (available, trial.corpus.unique_tokens) if n is not None]
    shape = {name: getattr(trial.architecture, name, None) for name in ("n_layer", "d_model", "n_head")}
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
        seconds=speed.seconds(trial, flops),
        memory_bytes=memory_bytes(trial, size),
        labels=dict(item.labels),
    )


def _warnings(sweep: Sweep, rows: Sequence[PlanRow]) -> list[str]:
    found = []
    sizes = {row.params["non_embedding"] for row in rows}
    if len(sizes) < 3:
        found.append(f"{len(sizes)} distinct sizes: a law in N needs at least 3, better 5")
    if isinstance(sweep.design, IsoFlop):
        found += _isoflop_warnings(sweep.design, rows)
    over = [row for row in rows if row.epochs is not None and row.epochs > 1.0]
    if over:
        most = max(row.epochs or 0.0 for row in over)
        what = "which repeat: true allows" if sweep.repeat else "which is refused unless repeat: true"
        found.append(f"{len(over)} trials see their training text more than once (up to {most:.1f} epochs), {what}")
    failed = sum(row.status == "failed" for row in rows)
    if failed:
        found.append(f"{failed} trials failed before and will be tried again")
    return found


def _isoflop_warnings(design: IsoFlop, rows: Sequence[PlanRow]) -> list[str]:
    found = []
    by_budget: dict[float, set[int]] = defaultdict(set)
    for row in rows:
        by_budget[row.budget or 0.0].add(row.params[design.sizes.count])
    for budget, sizes in sorted(by_budget.items()):
        if len(sizes) < 3:
            found.append(f"budget {budget:g}: {len(sizes)} distinct sizes, and a parabola needs at least 3")
        if len(sizes) < len(design.sizes):
            found.append(
                f"budget {budget:g}: {len(design.sizes)} sizes asked for gave only {len(sizes)} distinct shapes"
            )
        if design.sizes.centre is not None:
            centre = design.sizes.centre.at(budget)
            below, above = sum(n < centre for n in sizes), sum(n > centre for n in sizes)
            if min(below, above) < 2:
                found.append(
                    f"budget {budget:g}: {below} sizes below and {above} above the centre {centre:.3g};"
                    " with fewer than 2 on a side the minimum may not be bracketed"
                )
    if len(by_budget) < 3:
        found.append(f"{len(by_budget)} budgets: an exponent with an interval needs at least 3")
    return found
