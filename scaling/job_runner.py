"""Runs the trials of a job one after another, in slices, and publishes what becomes of each.

A trial that raises, hangs or runs out of memory is recorded and the job goes on; a stop checkpoints the trial in hand.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from scaling.errors import DiskError, StoreError
from scaling.execution import prepare_process
from scaling.foreign import ForeignRun
from scaling.guard import HangWatch, Hung, out_of_memory, with_less_memory
from scaling.job import Job, Planned, Progress
from scaling.row import row_of
from scaling.step import StepFunction
from scaling.store import Store
from scaling.train import TrialRun

CHECKPOINT_SECONDS = 60.0


def _run_of(group: Sequence[Planned], store: Store) -> TrialRun | ForeignRun:
    return TrialRun(group, store) if group[0].trial.trainer is None else ForeignRun(group[0], store)


class JobRunner:
    """Runs the trials of a job one after another, in slices."""

    def __init__(self, job: Job, store: Store, *, checkpoint_seconds: float = CHECKPOINT_SECONDS) -> None:
        prepare_process()
        self.job, self.store, self.checkpoint_seconds = job, store, checkpoint_seconds
        self.statuses: dict[str, str] = {}
        self.run: TrialRun | ForeignRun | None = None
        self.watch: HangWatch | None = None
        self._saved_at = time.monotonic()

    def advance(self, seconds: float, should_stop: Callable[[], bool] = lambda: False) -> Progress:
        """Works for about `seconds`; `should_stop` is asked four times a second, and a stop checkpoints.

        A trial that raises or hangs is published as failed with its reason, and the job goes on to the next; one that
        runs out of memory begins anew with its micro-batch halved, once. Raises DiskError, which no other trial would
        be spared.
        """
        planned = next((p for p in self.job.planned if p.run_id not in self.statuses), None)
        if planned is None:
            return self.progress()
        status: str | None = "failed"
        try:
            try:
                status = self._work(planned, seconds, Alarm(seconds, should_stop))
            except DiskError:
                raise
            except (Exception, Hung) as error:
                status = self._failed(planned, error)
            if status is not None:
                self.statuses[planned.run_id] = status
        finally:
            if status is not None:
                self._leave(planned)
        return self.progress()

    def _work(self, planned: Planned, seconds: float, alarm: Alarm) -> str | None:
        """A slice of the trial; its status once it ended."""
        group = self._group(planned)
        if self.watch is None:
            if self.store.has(planned.run_id):  # Another driver on this store was first.
                return self.store.done().get(planned.run_id, "finished")
            for member in group:
                self.store.mark_running(member.run_id, self._info(member))
            self.watch = HangWatch(planned, self.store)
            if self.watch.found:
                raise Hung("an earlier attempt heard no alarm and was ended with its process")
        with self.watch.slice(seconds):
            if self.run is None:
                self.run = _run_of(group, self.store)
            self.run.advance(alarm, alarm.stop_requested)
            ended = {} if alarm.stopped else self.run.finish(alarm.stop_requested)
            for run_id, status in ended.items():
                if run_id != planned.run_id:
                    self.statuses[run_id] = status
                    self._forget(run_id)
            over = all(course.status is not None for course in self.run.courses)
            if not over:
                self._heartbeat(planned, alarm.stopped)
        return self.run.courses[0].status if over else None

    def _group(self, planned: Planned) -> list[Planned]:
        """The trials that train with this one: its pack where it has one, in the order of the job."""
        if self.run is not None:
            return list(self.run.planned)
        left = [p for p in self.job.planned if p.run_id not in self.statuses and not self.store.has(p.run_id)]
        return left if planned.execution.pack > 1 and planned in left else [planned]

    def _failed(self, planned: Planned, error: BaseException) -> str | None:
        """Records a failure with its log; None where the trial begins anew with less memory."""
        group = self._group(planned)
        self.run = None
        if out_of_memory(error):
            StepFunction._held = None
            smaller = with_less_memory(group, self.store, error)
            if smaller:
                changed = tuple(smaller.get(p.run_id, p) for p in self.job.planned)
                self.job = self.job.model_copy(update={"planned": changed})
                return None
        stack = self.watch.found if self.watch is not None else ""
        log = self.store.write_log(planned.run_id, stack + "".join(traceback.format_exception(error)))
        reason = f"{type(error).__name__}: {error}; log: {log}"
        self.store.publish_failure(row_of(planned, "failed", reason, tokens_unique=max(1, planned.trial.tokens)))
        return "failed"

    def _forget(self, run_id: str) -> None:
        with contextlib.suppress(StoreError):
            self.store.clear_running(run_id)

    def _leave(self, planned: Planned) -> None:
        for member in (planned, *(self.run.planned if self.run is not None else ())):
            self._forget(member.run_id)
        self.run = None
        if self.watch is not None:
            self.watch.close()
            self.watch = None

    def checkpoint(self) -> None:
        """Saves the trial in hand, if there is one."""
        if self.run is not None:
            self.run.save()
            self._saved_at = time.monotonic()

    def _heartbeat(self, planned: Planned, stopping: bool) -> None:
        assert self.run is not None
        # The user's own code saves when it likes; it is only interrupted to leave.
        due = isinstance(self.run, TrialRun) and time.monotonic() - self._saved_at > self.checkpoint_seconds
        if stopping or due:
            self.checkpoint()
        for course in self.run.courses:
            if course.status is None:
                self.store.mark_running(course.planned.run_id, self._info(course.planned))

    def _info(self, planned: Planned) -> dict[str, Any]:
        step = self.run.step if self.run is not None else 0
        return {
            "sweep": planned.sweep,
            "pid": os.getpid(),
            "step": step,
            "steps": planned.trial.steps,
            "flops": planned.flops,
        }

    def progress(self) -> Progress:
        """Where the job stands."""
        ended = [p for p in self.job.planned if p.run_id in self.statuses]
        flops_done = float(sum(p.flops for p in ended))
        run = self.run
        if run is not None:
            flops_done += sum(c.step * c.flops_per_step for c in run.courses if c.planned.run_id not in self.statuses)
        current = run.planned[0] if run is not None else self.job.planned[min(len(ended), len(self.job.planned) - 1)]
        return Progress(
            done=len(ended) == len(self.job.planned),
            run_id=current.run_id,
            step=run.step if run is not None else 0,
            steps=current.trial.steps,
            flops_done=flops_done,
            flops_total=float(self.job.flops),
            train_loss=run.courses[0].train_loss if run is not None else math.nan,
            statuses=dict(self.statuses),
        )


class Alarm:
    """Tells a training loop to pause: when the slice is over, or (asked every quarter second) on a stop."""

    def __init__(self, seconds: float, should_stop: Callable[[], bool], poll_seconds: float = 0.25) -> None:
        self.end = time.monotonic() + seconds
        self.should_stop, self.poll_seconds = should_stop, poll_seconds
        self.next_poll = 0.0
        self.stopped = False

    def stop_requested(self) -> bool:
        """Whether a stop was asked for; the end of the slice does not count."""
        present = time.monotonic()
        if present >= self.next_poll:
            self.next_poll = present + self.poll_seconds
            self.stopped = self.should_stop()
        return self.stopped

    def __call__(self) -> bool:
        """Whether to pause now."""
        return self.stop_requested() or time.monotonic() >= self.end
