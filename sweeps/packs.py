"""Packs: trials of one shape that train side by side as one batched model, where a device is larger than a trial.

Members share architecture, objective, data, batch, precision and optimizer; seeds, learning rates, horizons and hence
data orders are their own. A pack's rows are those of its trials run alone, within rounding.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from scaling.job import Job, Planned
from scaling.trial import Trial

MAX_PACK = 64
PACK_PARAMS = 10_000_000
"""Larger models fill a device alone."""


def packable(trial: Trial, vocab_size: int) -> bool:
    """Whether a trial can train in a pack: small, with our trainer, without dropout (its draws are a trial's own)."""
    shape = trial.architecture
    plain = getattr(shape, "dropout", 0.0) == 0.0 and trial.trainer is None and shape.packs and trial.objective.packs
    small = trial.objective.params(shape, vocab_size).total <= PACK_PARAMS
    return plain and small and trial.schedule.branch_step(trial.steps) is None


def shape_of(trial: Trial) -> Any:
    """What the members of a pack agree in."""
    optimizer = trial.optimizer.model_copy(update={"lr": 1.0})
    data = (trial.corpus, trial.tokenizer, trial.heldout, trial.repeat)
    return trial.architecture, trial.objective, data, trial.batch_tokens, trial.precision, optimizer


def sizes(trials: Sequence[Trial], vocab_size: int, largest: int) -> dict[Any, int]:
    """Members of the packs of each shape: as many as there are trials, evenly split where `largest` are too few."""
    counts = Counter(shape_of(t) for t in trials if packable(t, vocab_size))
    return {shape: -(-n // -(-n // largest)) for shape, n in counts.items()}


def grouped(planned: Iterable[Planned]) -> list[Job]:
    """Jobs of trials whose execution asks for a pack; members of like length together, so that none waits long."""
    groups: dict[Any, list[Planned]] = defaultdict(list)
    for item in planned:
        groups[shape_of(item.trial), item.execution, item.data_digest].append(item)
    found = []
    for (_, execution, _), members in groups.items():
        members.sort(key=lambda p: (-p.trial.steps, p.run_id))
        found += [Job(planned=tuple(members[i : i + execution.pack])) for i in range(0, len(members), execution.pack)]
    return found
