"""Runs a job: trains its trials in slices, checkpoints, evaluates, and publishes each row to the store.

One trial's course is a pure function of the trial, its data and its execution, so that a run resumed from a checkpoint
ends with the bits of an uninterrupted one. Trials of one shape may train side by side (a pack); runs of one
warmup-stable-decay trunk go on from where a shorter one left it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scaling import along, averaging
from scaling.course import Course
from scaling.evaluate import MASK_SEED, HeldOutLoss, heldout_loss, take
from scaling.execution import put_in_force
from scaling.job import Planned
from scaling.objectives.base import Batch
from scaling.provenance import now
from scaling.step import StepFunction
from scaling.store import Store

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

    def _micro_batches(self, step: int) -> Iterator[dict[str, Tensor]]:
        """Micro-batches of optimizer step `step` on the device; a trial that is over is fed its last step's windows."""
        whole = [c.batch(min(step, c.trial.steps - 1)) for c in self.courses]
        size = self.execution.micro_batch_tokens // self.trial.architecture.seq_len
        for start in range(0, self.trial.batch_windows, size):
            yield self.function.to_device([take(b, slice(start, start + size)) for b in whole])

    def _seed(self, step: int) -> None:
        """Makes torch's own draws of dropout a pure function of seed and step."""
        if getattr(self.trial.architecture, "dropout", 0.0) > 0 and self.execution.dropout is None:
            torch.manual_seed(np.random.SeedSequence([self.trial.seed, step]).generate_state(1, np.uint64)[0] >> 1)

    def _train_step(self) -> None:
        trial = self.trial
        self._seed(self.step)
        total: Tensor | None = None
        for index, batch in enumerate(self._micro_batches(self.step)):
            loss, part = self.function.step(self.theta, batch, self.scale, (trial.seed, self.step, index))
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
            for index, batch in enumerate(self._micro_batches(step)):
                self._seed(step)
                grad = self.function.step(self.theta, batch, self.scale, (self.trial.seed, step, index)).grad
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
        unit = trial.objective.scored_together
        begins = trial.objective.begins
        held = course.corpus.heldout(course.window, trial.architecture.seq_len, trial.heldout, begins)

        scored_weights = self.theta if self.average is None else self.average

        def losses_of(batch: Batch) -> np.ndarray:
            copies = [batch] * self.function.pack
            torch.manual_seed(MASK_SEED)  # for a loss that keeps its dropout: the same draw for every model
            found = self.function.losses(scored_weights, self.function.to_device(copies), (MASK_SEED,))
            return (found if self.function.pack == 1 else found[index]).double().cpu().numpy()

        result = heldout_loss(
            losses_of,
            trial.objective,
            course.vocab,
            held.windows,
            held.document,
            unit * max(1, EVAL_TOKENS // trial.architecture.seq_len // unit),
            stop,
            trial.objective.auxiliary(trial.architecture.seq_len),
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
