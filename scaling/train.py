"""Runs a job: trains its trials in slices, checkpoints, evaluates, and publishes each row to the store.

One trial's course is a pure function of the trial, its data and its execution, so that a run resumed from a checkpoint
ends with the bits of an uninterrupted one. Trials of one shape may train side by side (a pack); runs of one
warmup-stable-decay trunk go on from where a shorter one left it.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scaling import along, averaging
from scaling.course import Course
from scaling.errors import DiskError, StoreError
from scaling.evaluate import HeldOutLoss, heldout_loss, take
from scaling.execution import prepare_process, put_in_force
from scaling.foreign import ForeignRun
from scaling.guard import HangWatch, Hung, out_of_memory, with_less_memory
from scaling.job import Job, Planned, Progress
from scaling.objectives.base import Batch
from scaling.provenance import now
from scaling.row import row_of
from scaling.step import StepFunction
from scaling.store import Store

CHECKPOINT_SECONDS = 60.0
EVAL_TOKENS = 2048
"""Tokens scored at once in evaluation, whatever the trial's batch."""
CLIP_EPS = 1e-6
"""Keeps the clipping factor finite, as torch's own clipping does."""


class TrialRun:
    """One trial in training, or several of one shape side by side. `step` counts the optimizer steps done."""

    def __init__(self, planned: Sequence[Planned], store: Store) -> None:
        self.store, self.planned = store, tuple(planned)
        self.courses = [Course(p) for p in planned]
        lead = self.courses[0]
        self.trial, self.execution = lead.trial, lead.planned.execution
        if len(planned) > 1:
            self.execution = self.execution.model_copy(update={"pack": len(planned)})
        elif self.execution.pack > 1:
            self.execution = self.execution.model_copy(update={"pack": 1})
        put_in_force(self.execution)
        self.vocab_size = lead.vocab.size
        self.function = StepFunction.of(self.trial, self.vocab_size, self.execution)
        trials = [c.trial for c in self.courses]
        self.theta = self.function.initial(trials, self.vocab_size)
        self.state = self.trial.optimizer.state(self.theta)
        self.average = None if self.trial.averaging_width is None else self.theta.clone()
        self.scale = torch.tensor(1.0 / lead.predicted, device=self.function.device)
        self.step = 0
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._resume()
        if self.execution.compiled:
            self.function.warm_up(self.theta, next(self._micro_batches(0)))

    def advance(self, until: Callable[[], bool], stop: Callable[[], bool] = lambda: False) -> None:
        """Trains until `until()` says so, or every trial ended. Losses are looked at once a point of the curve.

        `stop()` is asked during the held-out evaluations along the run, which are made again where it says to leave.
        """
        longest = max(c.trial.steps for c in self.courses)
        branch = self.courses[0].branch_step() if len(self.courses) == 1 else None
        every = min(c.every for c in self.courses)
        started = time.perf_counter()
        while self.step < longest and not all(c.ended for c in self.courses):
            if any(c.due(self.step) for c in self.courses):
                self._flush(time.perf_counter() - started)
                if not self._measure(stop):
                    break
                started = time.perf_counter()
            if self.step == branch:
                self._flush(time.perf_counter() - started)
                started = time.perf_counter()
                self._save_branch()
            self._train_step()
            pause = until()
            if pause or len(self._pending) >= every or self.step >= longest:
                self._flush(time.perf_counter() - started)
                started = time.perf_counter()
            if pause:
                break

    @property
    def ended(self) -> bool:
        """Whether training is over for all, finished or diverged."""
        return all(c.ended for c in self.courses)

    def _micro_batches(self, step: int) -> Iterator[list[Tensor]]:
        """Micro-batches of optimizer step `step` on the device; a trial that is over is fed its last step's windows."""
        whole = [c.batch(min(step, c.trial.steps - 1)) for c in self.courses]
        size = self.execution.micro_batch_tokens // self.trial.architecture.seq_len
        for start in range(0, self.trial.batch_windows, size):
            yield self.function.to_device([take(b, slice(start, start + size)) for b in whole])

    def _seed(self, step: int) -> None:
        """Makes dropout a pure function of seed and step."""
        if getattr(self.trial.architecture, "dropout", 0.0) > 0:
            torch.manual_seed(np.random.SeedSequence([self.trial.seed, step]).generate_state(1, np.uint64)[0] >> 1)

    def _train_step(self) -> None:
        trial = self.trial
        self._seed(self.step)
        total: Tensor | None = None
        for batch in self._micro_batches(self.step):
            loss, part = self.function.step(self.theta, batch, self.scale)
            if total is None:
                total, grad = loss, part
            else:
                total, grad = total + loss, grad.add_(part)
        assert total is not None
        norm = torch.linalg.vector_norm(grad, dim=-1)
        clip = trial.optimizer.clip
        # On a CPU a look at the norm is free, and saves a pass over the gradient where it is small enough.
        if clip is not None and (norm.is_cuda or not bool((norm <= clip - CLIP_EPS).all())):
            grad.mul_((clip / (norm + CLIP_EPS)).clamp(max=1.0).unsqueeze(-1))
        rates = [c.lr(self.step) for c in self.courses]
        lr = torch.tensor(rates if len(rates) > 1 else rates[0], dtype=self.theta.dtype)
        self.step += 1
        stretches = self.function.layout.stretches
        trial.optimizer.update(self.theta, grad, self.state, stretches, self.step, lr.to(self.function.device))
        if self.average is not None:
            assert trial.averaging_width is not None
            averaging.update(self.average, self.theta, self.step, trial.averaging_width)
        self._pending.append((total, norm))

    def _measure(self, stop: Callable[[], bool]) -> bool:
        """Measures held-out loss and gradient noise where a point is due; False where `stop()` said to leave."""
        signal, noise = self._gradient_noise()
        for index, course in enumerate(self.courses):
            if course.due(self.step):
                held, _ = self.evaluate(index, stop)
                if held is None:
                    return False
                course.measured.append(along.point(self.step, held, float(signal[index]), float(noise[index])))
        return True

    def _gradient_noise(self) -> tuple[np.ndarray, np.ndarray]:
        """Signal and noise of each trial's gradient at the present weights, from the micro-batches that come next."""
        small: list[Tensor] = []
        total: Tensor | None = None
        step = self.step
        while len(small) < along.NOISE_BATCHES:
            for batch in self._micro_batches(step):
                self._seed(step)
                grad = self.function.step(self.theta, batch, self.scale).grad
                small.append(torch.linalg.vector_norm(grad, dim=-1))
                total = grad if total is None else total.add_(grad)
                if len(small) == along.NOISE_BATCHES:
                    break
            step += 1
        assert total is not None
        parts = self.trial.batch_tokens // self.execution.micro_batch_tokens
        norms = torch.stack(small).double().mul(parts).square().cpu().numpy().reshape(len(small), -1)
        mean = torch.linalg.vector_norm(total, dim=-1).double().mul(parts / len(small)).square().cpu().numpy()
        return along.signal_and_noise(norms, mean.reshape(-1), self.courses[0].predicted // parts)

    def _flush(self, seconds: float) -> None:
        """Fetches the losses of the steps since the last look: the only wait for the device in the loop."""
        if self._pending:
            losses, norms = (torch.stack(column).double().cpu().numpy() for column in zip(*self._pending, strict=True))
            self._pending = []
            for index, course in enumerate(self.courses):
                if not course.ended:
                    pick = (slice(None), index) if losses.ndim == 2 else slice(None)
                    course.add(losses[pick], norms[pick])
        for course in self.courses:
            course.elapsed_s += seconds / len(self.courses)

    def save(self) -> None:
        """Checkpoints every trial that is not over: weights, optimizer and course."""
        self._flush(0.0)
        for index, course in enumerate(self.courses):
            if course.status is None:
                tensors, meta = self._snapshot(index)
                self.store.save_checkpoint(course.planned.run_id, tensors, meta)

    def _parts(self, index: int) -> dict[str, Tensor]:
        """Weights and optimizer state of one trial by dotted name, as views of the flat tensors."""
        flats = {"model": self.theta, **{f"optimizer.{k}": v for k, v in self.state.items()}}
        if self.average is not None:
            flats["average"] = self.average
        return {
            f"{kind}.{name}": view
            for kind, flat in flats.items()
            for name, view in self.function.layout.views(flat if flat.ndim == 1 else flat[index]).items()
        }

    def _snapshot(self, index: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        course = self.courses[index]
        tensors = self._parts(index)
        tensors |= {"curve.losses": torch.from_numpy(course.losses), "curve.norms": torch.from_numpy(course.norms)}
        meta = course.meta() | {"at": self.step, "execution": course.planned.execution.model_dump()}
        return tensors, meta

    def _scored(self, index: int) -> dict[str, Tensor]:
        """The weights that one trial's held-out loss is of, as `model.<parameter>`."""
        kind = "model" if self.average is None else "average"
        parts = self._parts(index).items()
        return {f"model.{n.removeprefix(f'{kind}.')}": part for n, part in parts if n.startswith(f"{kind}.")}

    def _save_branch(self) -> None:
        """Keeps the trunk where this run leaves it, for longer runs of the trunk to go on from."""
        course = self.courses[0]
        held = self.store.load_checkpoint(course.planned.lineage)
        if held is None or held[1]["at"] < self.step:
            tensors, meta = self._snapshot(0)
            meta["warmup"] = course.trial.schedule.warmup_of(course.trial.steps)
            self.store.save_checkpoint(course.planned.lineage, tensors, meta, keep=True)

    def _resume(self) -> None:
        """Goes on from the trials' own checkpoints, or for a run of a trunk from where a shorter one left it."""
        found = [self.store.load_checkpoint(c.planned.run_id) for c in self.courses]
        same = [
            f is not None and f[1].get("execution") == c.planned.execution.model_dump() and f[1].get("at") is not None
            for f, c in zip(found, self.courses, strict=True)
        ]
        if all(same) and len({f[1]["at"] for f in found if f is not None}) == 1:
            for index, snapshot in enumerate(found):
                assert snapshot is not None
                self._restore(index, *snapshot)
        elif len(self.courses) == 1:
            self._join_trunk(self.courses[0])

    def _join_trunk(self, course: Course) -> None:
        branch = course.branch_step()
        if branch is None:
            return
        held = self.store.load_checkpoint(course.planned.lineage)
        if held is None or held[1].get("execution") != course.planned.execution.model_dump():
            return
        if held[1]["at"] <= branch and held[1]["warmup"] == course.trial.schedule.warmup_of(course.trial.steps):
            self._restore(0, *held)
            course.branched_at, course.elapsed_s, course.started_at = self.step, 0.0, now()

    def _restore(self, index: int, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        course = self.courses[index]
        for name, part in self._parts(index).items():
            part.copy_(tensors[name])
        self.step = int(meta["at"])
        course.elapsed_s, course.started_at = meta["elapsed_s"], meta["started_at"]
        course.branched_at = meta["branched_at"]
        course.measured = [along.restored(values) for values in meta.get("measured", ())]
        course.add(tensors["curve.losses"].numpy(), tensors["curve.norms"].numpy())

    def evaluate(self, index: int, stop: Callable[[], bool]) -> tuple[HeldOutLoss | None, int]:
        """Held-out loss of one trial (None where `stop()` said to leave), and the bytes of text that were scored."""
        course, trial = self.courses[index], self.courses[index].trial
        held = course.corpus.heldout(course.window, trial.architecture.seq_len, trial.heldout)

        scored_weights = self.theta if self.average is None else self.average

        def losses_of(batch: Batch) -> np.ndarray:
            copies = [batch] * self.function.pack
            found = self.function.losses(scored_weights, self.function.to_device(copies))
            return (found if self.function.pack == 1 else found[index]).double().cpu().numpy()

        result = heldout_loss(
            losses_of,
            trial.objective,
            course.vocab,
            held.windows,
            held.document,
            max(1, EVAL_TOKENS // trial.architecture.seq_len),
            stop,
        )
        scored = held.windows[:, 1:] if course.window > trial.architecture.seq_len else held.windows
        return result, int(course.corpus.token_bytes[scored].sum())

    def finish(self, stop: Callable[[], bool] = lambda: False) -> dict[str, str]:
        """Evaluates and publishes the trials whose training is over; the status of each by run id.

        Where `stop()` says to leave during an evaluation, that trial and those after it are left out: nothing of them
        is published, and the trained weights stand.
        """
        found: dict[str, str] = {}
        for index, course in enumerate(self.courses):
            if course.status is None and course.ended:
                course.status = self._publish(index, stop)
                if course.status is None:
                    break
                found[course.planned.run_id] = course.status
        return found

    def _publish(self, index: int, stop: Callable[[], bool]) -> str | None:
        course = self.courses[index]
        started = time.perf_counter()
        held: HeldOutLoss | None = None
        bits = math.nan
        if course.diverged is None:
            held, scored_bytes = self.evaluate(index, stop)
            if held is None:
                return None
            if math.isfinite(held.loss):
                bits = held.bits_per_byte(scored_bytes) if course.trial.objective.bits_per_byte else math.nan
            else:
                course.diverged, held = f"held-out loss is {held.loss} after {course.step} steps", None
        eval_s = time.perf_counter() - started
        row = course.row(held, bits, eval_s=eval_s, compile_s=self.function.compile_s)
        run_id = course.planned.run_id
        evals = [*(held.evals(run_id) if held else ()), *along.evals(run_id, course.measured)]
        if held is not None and course.planned.keep == "final":
            self.store.save_final(run_id, self._scored(index), {"steps": course.step})
        self.store.publish(row, course.points(held.loss if held else None), evals or None)
        self.store.drop_checkpoint(run_id)
        return str(row["status"])


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
