"""The execution of each trial of a launch: as the store fixed it before, else chosen for this machine and fixed now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from scaling.cost import trial_flops
from scaling.errors import InputError
from scaling.execution import choose_execution, unsuited
from scaling.job import Execution, Planned
from scaling.store import Store
from scaling.trial import Trial
from sweeps.packs import MAX_PACK, packable, shape_of, sizes
from sweeps.plan import graph_shape


class ExecutionChooser:
    """Chooses executions for trials launched together: a shape is compiled where its trials together repay it."""

    def __init__(
        self,
        trials: Sequence[Trial],
        vocab_size: int,
        compile_trials: bool | None = None,
        gpus_per_trial: float = 0.0,
        pack: int | None = None,
    ) -> None:
        self.compile_trials, self.gpus_per_trial = compile_trials, gpus_per_trial
        self.pack, self._trials = pack, list(trials)
        self._members: dict[Any, int] | None = None
        self._flops: dict[Any, float] = defaultdict(float)
        for trial in trials:
            self._flops[graph_shape(trial)] += sum(trial_flops(trial, vocab_size).values())

    def __call__(self, trial: Trial, vocab_size: int) -> Execution:
        """The execution of one of the trials."""
        own = sum(trial_flops(trial, vocab_size).values())
        share = self._flops[graph_shape(trial)] / own
        # Whether the user's own code compiles anything is its own affair.
        compiled = self.compile_trials if trial.trainer is None else False
        chosen = choose_execution(trial, vocab_size, compile_trials=compiled, share=share)
        if chosen.device == "cuda" and 0 < self.gpus_per_trial < 1:
            chosen = chosen.model_copy(update={"memory_fraction": self.gpus_per_trial})
        largest = self.pack or (MAX_PACK if chosen.device == "cuda" else 1)
        if largest == 1 or not packable(trial, vocab_size):
            return chosen
        if self._members is None:
            self._members = sizes(self._trials, vocab_size, largest)
        return chosen.model_copy(update={"pack": self._members[shape_of(trial)]})


def choose_executions(
    asked: Sequence[tuple[Sequence[str], int]], compile_trials: bool | None, gpus_per_trial: float, pack: int | None
) -> list[list[str]]:
    """Executions as this machine chooses them, in JSON, of trials in JSON: of each sweep's trials and vocabulary."""
    found = []
    for texts, vocab_size in asked:
        trials = [Trial.model_validate_json(text) for text in texts]
        chooser = ExecutionChooser(trials, vocab_size, compile_trials, gpus_per_trial, pack)
        found.append([chooser(trial, vocab_size).model_dump_json() for trial in trials])
    return found


def fix_executions(
    chosen: Iterable[Planned],
    store: Store,
    *,
    runs_here: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> list[Planned]:
    """Trials with the execution that the store fixed for them before; for the others the chosen one is fixed now.

    A store may have come from another machine. What was fixed there and does not suit this one is chosen anew as long
    as nothing was trained of it; a trial that was begun goes on as it was, since its checkpoint belongs to that
    execution. `say` is told of both.

    Args:
        chosen: trials, each with the execution that this machine chose.
        store: where executions are fixed.
        runs_here: whether this machine trains them; of a cluster's workers nothing is known here.
        say: told in a sentence what does not suit this machine.

    Raises:
        InputError: a trial was begun on a GPU, and none is here.
    """
    found: list[Planned] = []
    anew: dict[str, int] = defaultdict(int)
    begun: dict[tuple[str, str], set[str]] = defaultdict(set)
    elsewhere: set[str] | None = None
    for item in chosen:
        fixed = store.execution(item.run_id) or store.fix_execution(item.run_id, item.execution)
        reason = unsuited(item.trial, fixed) if runs_here and fixed != item.execution else None
        if reason is not None:
            if elsewhere is None:
                elsewhere = {i for i, note in store.running().items() if not note["stale"]}
            kept = {i for i in (item.run_id, item.lineage) if store.has_checkpoint(i)}
            if kept:
                begun[reason, fixed.device] |= kept
            elif item.run_id not in elsewhere:
                store.change_execution(item.run_id, fixed, item.execution, reason)
                anew[reason] += 1
                fixed = item.execution
        found.append(item.model_copy(update={"execution": fixed}))
    for reason, n in anew.items():
        say(f"{n} not begun yet: {reason}; chosen anew")
    for (reason, device), ids in begun.items():
        folders = " ".join(str(store.checkpoint_path(i)) for i in sorted(ids))
        text = f"{len(ids)} begun on another machine: {reason}; finish there, or begin anew: rm -r {folders}"
        if device == "cuda":
            raise InputError(text)
        say(text)
    return found
