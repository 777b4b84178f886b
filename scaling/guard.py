"""What guards a trial from itself: a time limit on a slice of work, and a second try with less memory.

A slice that does not end within its limit is hung. The limit follows from the trial's own cost: FLOOR_SECONDS plus
FACTOR times what the slice, one step and the evaluation are estimated to take. First an alarm raises Hung in the
training thread; code that hears no alarm (it holds the interpreter in C) is ended with its process GRACE_SECONDS
later, and its stack is left in `running/<run_id>.stack`, by which the next attempt knows.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING

from scaling.execution import EAGER, micro_batch
from scaling.store import files, running

if TYPE_CHECKING:
    from scaling.job import Planned
    from scaling.store import Store

FLOOR_SECONDS = 600.0
"""Compiling, preparing a corpus and a busy machine fit into this; SCALING_HANG_SECONDS sets another."""
FACTOR = 20.0
GRACE_SECONDS = 10.0
OUT_OF_MEMORY = "out of memory"
"""Begins the reason for which an execution was left to another with less memory."""
HELDOUT_TOKENS = {"full": 1 << 20, "nested": 1 << 18}
"""At most so many tokens are scored at the end, one byte a token."""


class Hung(BaseException):
    """A slice did not end within its limit; not an Exception, so that the code that hangs cannot take it for one."""


def slice_limit(planned: Planned, seconds: float) -> float:
    """Seconds after which a slice of `seconds` counts as hung; at most one step or the evaluation outlasts a slice."""
    trial = planned.trial
    training = EAGER.seconds(trial, planned.vocab_size)
    forward_share = 1 / 3
    evaluation = training * forward_share * HELDOUT_TOKENS.get(trial.heldout, 1 << 20) / trial.tokens
    floor = float(os.environ.get("SCALING_HANG_SECONDS") or FLOOR_SECONDS)
    return floor + FACTOR * (seconds + training / trial.steps + evaluation)


class HangWatch:
    """Watches the slices of one trial; closed when the trial ends."""

    def __init__(self, planned: Planned, store: Store) -> None:
        self.planned, self.store = planned, store
        self.found = ""
        """The stack that an attempt ended by its watch left; empty where there was none."""
        name = f"{running.FOLDER}/{files.check_run_id(planned.run_id)}.stack"
        with contextlib.suppress(FileNotFoundError, files.Damaged):
            self.found = files.read(store.root, name).decode(errors="replace")
        self._path, self._file = files.append_to(store.root, name)

    def close(self) -> None:
        """Ends the watch; what a killed attempt left is forgotten."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def slice(self, seconds: float) -> Iterator[None]:
        """Raises Hung inside where a slice of `seconds` is overdue, and ends the process where that is not heard."""
        limit = slice_limit(self.planned, seconds)
        in_main = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGALRM")

        def alarm(number: int, frame: FrameType | None) -> None:
            raise Hung(f"a slice of work took over {limit:.0f} s, more than {FACTOR:g} times its estimate")

        previous = signal.signal(signal.SIGALRM, alarm) if in_main else None
        faulthandler.dump_traceback_later(limit + (GRACE_SECONDS if in_main else 0.0), exit=True, file=self._file)
        try:
            if in_main:
                signal.setitimer(signal.ITIMER_REAL, limit)
            yield
        finally:
            if in_main:
                signal.setitimer(signal.ITIMER_REAL, 0.0)
                signal.signal(signal.SIGALRM, previous)
            faulthandler.cancel_dump_traceback_later()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the GPU or in the process."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    words = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def with_less_memory(group: Sequence[Planned], store: Store, error: BaseException) -> dict[str, Planned]:
    """Trials that train together, by run id, their micro-batches halved, which is their execution from now on.

    Empty where that was done before, or where a micro-batch is a single unit of windows already.
    """
    found: dict[str, Planned] = {}
    for planned in group:
        trial, before = planned.trial, planned.execution
        windows = before.micro_batch_tokens // trial.architecture.seq_len
        halved = any(c["left_because"].startswith(OUT_OF_MEMORY) for c in store.execution_changes(planned.run_id)[-1:])
        if windows <= trial.objective.scored_together or halved:
            return {}
        smaller = micro_batch(trial, windows // 2 * trial.architecture.seq_len)
        execution = before.model_copy(update={"micro_batch_tokens": smaller})
        found[planned.run_id] = planned.model_copy(update={"execution": execution})
    for planned in group:
        after = found[planned.run_id].execution
        store.change_execution(planned.run_id, planned.execution, after, f"{OUT_OF_MEMORY}: {type(error).__name__}")
    return found
