"""Runs a job: trains its trials in slices, checkpoints, evaluates, and publishes each row to the store.

One trial's course is a pure function of the trial, its data and its execution: data order and masks depend on
(seed, step) alone, so a run resumed from a checkpoint ends with the bits of an uninterrupted one.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from scaling.corpora.order import WindowOrder, check_supply, gather
from scaling.corpora.prepare import prepare
from scaling.cost import step_flops
from scaling.errors import CorpusError
from scaling.evaluate import HeldOutLoss, heldout_loss, take
from scaling.execution import prepare_process, put_in_force
from scaling.job import Job, Planned, Progress
from scaling.provenance import environment, now
from scaling.row import row_of
from scaling.step import StepFunction
from scaling.store import Store

CURVE_POINTS = 200
CHECKPOINT_SECONDS = 60.0
EVAL_TOKENS = 2048
"""Tokens scored at once in evaluation, whatever the trial's batch."""
DIVERGED_NATS = 1.0
"""A run whose mean training loss after warmup is this far above a uniform guess has diverged."""
FINAL_SHARE = 0.05
"""`train_loss` of a row is the mean over this last share of the run."""


@dataclass
class Curve:
    """A run's training curve: one point each `every` steps and at the end."""

    every: int
    points: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def add(self, loss: float) -> None:
        """Takes the training loss of one step."""
        self.losses.append(loss)

    def close_point(self, **values: float) -> float:
        """Ends a point; returns the mean training loss over it."""
        mean = math.fsum(self.losses) / len(self.losses)
        self.points.append({**values, "train_loss": mean, "loss": None})
        self.losses = []
        return mean


class TrialRun:
    """One trial in training. `step` counts the optimizer steps done."""

    def __init__(self, planned: Planned, store: Store) -> None:
        self.planned, self.trial, self.store = planned, planned.trial, store
        trial = self.trial
        self.corpus = prepare(trial.corpus, trial.tokenizer)
        if self.corpus.digest != planned.data_digest:
            raise CorpusError(
                f"corpus {trial.corpus.type} changed under the sweep: planned on digest {planned.data_digest},"
                f" found {self.corpus.digest}; restore the text, or plan again"
            )
        self.vocab = self.corpus.vocabulary
        self.unique = check_supply(trial.tokens, self.corpus, trial.corpus.unique_tokens, trial.repeat)
        seq_len = trial.architecture.seq_len
        self.window = trial.objective.window(seq_len)
        self.order = WindowOrder(self.unique, self.window, seq_len, trial.seed)
        put_in_force(planned.execution)
        self.function = StepFunction.of(trial, self.vocab.size, planned.execution)
        self.optimizer = trial.optimizer.build(list(self.function.model.named_parameters()))
        self.flops_per_step = sum(
            step_flops(trial.architecture, trial.objective, self.vocab.size, trial.batch_tokens).values()
        )
        self.step, self.elapsed_s, self.started_at = 0, 0.0, now()
        self.curve = Curve(every=max(1, trial.steps // CURVE_POINTS))
        self.diverged: str | None = None
        self._resume()
        if planned.execution.compiled:
            self.function.warm_up(next(self._micro_batches(0)))

    def advance(self, until: Callable[[], bool]) -> None:
        """Trains until `until()` says so, the run ends, or it diverges."""
        last = time.perf_counter()
        while self.step < self.trial.steps and self.diverged is None:
            self._train_step()
            present = time.perf_counter()
            self.elapsed_s += present - last
            last = present
            if self.step % self.curve.every == 0 or self.step == self.trial.steps:
                self._close_point()
            if until():
                break

    @property
    def ended(self) -> bool:
        """Whether training is over, finished or diverged."""
        return self.step >= self.trial.steps or self.diverged is not None

    @property
    def train_loss(self) -> float:
        """The latest point of the curve, NaN before the first."""
        return float(self.curve.points[-1]["train_loss"]) if self.curve.points else math.nan

    def _micro_batches(self, step: int) -> Any:
        trial = self.trial
        starts = self.order.starts(step, trial.batch_windows)
        rng = np.random.Generator(np.random.Philox(key=trial.seed, counter=[0, 0, step, 1]))
        whole = trial.objective.train_batch(gather(self.corpus.train, starts, self.window), self.vocab, rng)
        size = self.planned.execution.micro_batch_tokens // trial.architecture.seq_len
        for start in range(0, trial.batch_windows, size):
            yield take(whole, slice(start, start + size))

    def _train_step(self) -> None:
        trial, optimizer = self.trial, self.optimizer
        model = self.function.model
        if getattr(trial.architecture, "dropout", 0.0) > 0:
            torch.manual_seed(np.random.SeedSequence([trial.seed, self.step]).generate_state(1, np.uint64)[0] >> 1)
        scored = trial.batch_windows * trial.objective.predicted_per_window(trial.architecture.seq_len)
        total = torch.zeros((), device=self.function.device)
        for batch in self._micro_batches(self.step):
            loss = self.function.losses(batch).sum() / scored
            loss.backward()
            total = total + loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), trial.optimizer.clip or math.inf)
        lr = trial.optimizer.lr * trial.schedule.factor(self.step, trial.steps)
        for group in optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        optimizer.step()
        model.zero_grad(set_to_none=False)
        self.step += 1
        self.curve.add(float(total))
        self.last_norm, self.last_lr = float(norm), lr
        if not (math.isfinite(self.curve.losses[-1]) and math.isfinite(self.last_norm)):
            self.diverged = f"loss or gradient not finite at step {self.step} of {trial.steps}"

    def _close_point(self) -> None:
        trial = self.trial
        mean = self.curve.close_point(
            step=self.step,
            tokens=self.step * trial.batch_tokens,
            flops=float(self.step * self.flops_per_step),
            lr=self.last_lr,
            grad_norm=self.last_norm,
            elapsed_s=self.elapsed_s,
        )
        uniform = math.log(self.vocab.size)
        if self.step > trial.schedule.warmup_fraction * trial.steps and mean > uniform + DIVERGED_NATS:
            self.diverged = (
                f"training loss {mean:.3f} at step {self.step} is over {uniform:.3f} + {DIVERGED_NATS:g} nats,"
                " worse than a uniform guess"
            )

    def save(self) -> None:
        """Checkpoints weights, optimizer and curve."""
        tensors = {f"model.{name}": p.detach() for name, p in self.function.model.named_parameters()}
        for index, parameter in enumerate(self._optimized()):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{index}.{key}"] = value
        meta = {
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "started_at": self.started_at,
            "points": self.curve.points,
            "losses": self.curve.losses,
            "execution": self.planned.execution.model_dump(),
        }
        self.store.save_checkpoint(self.planned.run_id, tensors, meta)

    def _optimized(self) -> list[torch.nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    @torch.no_grad()
    def _resume(self) -> None:
        loaded = self.store.load_checkpoint(self.planned.run_id)
        if loaded is None or loaded[1].get("execution") != self.planned.execution.model_dump():
            return
        tensors, meta = loaded
        for name, parameter in self.function.model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
        for index, parameter in enumerate(self._optimized()):
            prefix = f"optimizer.{index}."
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            if state:
                self.optimizer.state[parameter] = {
                    key: value.clone() if key == "step" else value.to(parameter.device, copy=True)
                    for key, value in state.items()
                }
        self.step, self.elapsed_s, self.started_at = meta["step"], meta["elapsed_s"], meta["started_at"]
        self.curve.points, self.curve.losses = meta["points"], meta["losses"]

    @torch.no_grad()
    def evaluate(self, stop: Callable[[], bool]) -> tuple[HeldOutLoss | None, int]:
        """Held-out loss (None where `stop()` said to leave), and the bytes of text that were scored."""
        trial = self.trial
        held = self.corpus.heldout(self.window, trial.architecture.seq_len, trial.heldout)
        self.function.model.eval()
        result = heldout_loss(
            lambda batch: self.function.losses(batch).double().cpu().numpy(),
            trial.objective,
            self.vocab,
            held.windows,
            held.document,
            max(1, EVAL_TOKENS // trial.architecture.seq_len),
            stop,
        )
        scored = held.windows[:, 1:] if self.window > trial.architecture.seq_len else held.windows
        return result, int(self.corpus.token_bytes[scored].sum())

    def finish(self, stop: Callable[[], bool] = lambda: False) -> str | None:
        """Evaluates, publishes curve, evals and row, drops the checkpoint; returns the status.

        None where `stop()` said to leave during evaluation: nothing is published, and the trained weights stand.
        """
        trial, planned = self.trial, self.planned
        started = time.perf_counter()
        held: HeldOutLoss | None = None
        bits = math.nan
        if self.diverged is None:
            held, scored_bytes = self.evaluate(stop)
            if held is None:
                self.function.model.train()
                return None
            bits = held.bits_per_byte(scored_bytes) if trial.objective.bits_per_byte else math.nan
            self.curve.points[-1]["loss"] = held.loss
        eval_s = time.perf_counter() - started
        row = row_of(planned, "finished" if held else "diverged", self.diverged or "", tokens_unique=self.unique)
        row |= {
            "loss": held.loss if held else math.nan,
            "loss_se": held.se if held else math.nan,
            "train_loss": self._final_train_loss(),
            "bits_per_byte": bits,
            "wall_s": self.elapsed_s,
            "tokens_per_s": self.step * trial.batch_tokens / self.elapsed_s,
            "provenance": json.dumps(
                environment()
                | {"started_at": self.started_at, "finished_at": now(), "compile_s": round(self.function.compile_s, 3)}
                | {"eval_s": round(eval_s, 3), "steps_done": self.step}
            ),
        }
        curve = [{"run_id": planned.run_id, **point} for point in self.curve.points]
        self.store.publish(row, curve, held.evals(planned.run_id) if held else None)
        self.store.drop_checkpoint(planned.run_id)
        return str(row["status"])

    def _final_train_loss(self) -> float:
        last = (1 - FINAL_SHARE) * self.trial.steps
        tail = [p["train_loss"] for p in self.curve.points if p["step"] > last]
        return float(np.mean(tail)) if tail and self.diverged is None else math.nan


class JobRunner:
    """Runs the trials of a job one after another, in slices."""

    def __init__(self, job: Job, store: Store, *, checkpoint_seconds: float = CHECKPOINT_SECONDS) -> None:
        prepare_process()
        self.job, self.store, self.checkpoint_seconds = job, store, checkpoint_seconds
        self.statuses: dict[str, str] = {}
        self.run: TrialRun | None = None
        self._saved_at = time.monotonic()

    def advance(self, seconds: float, should_stop: Callable[[], bool] = lambda: False) -> Progress:
        """Works for about `seconds`; `should_stop` is asked four times a second, and a stop checkpoints.

        A trial that raises is published as failed with its reason, and the job goes on to the next.
        """
        planned = next((p for p in self.job.planned if p.run_id not in self.statuses), None)
        if planned is None:
            return self.progress()
        alarm = Alarm(seconds, should_stop)
        try:
            if self.run is None:
                self.store.mark_running(planned.run_id, self._info(planned))
                self.run = TrialRun(planned, self.store)
            self.run.advance(alarm)
            status = self.run.finish(alarm.stop_requested) if self.run.ended and not alarm.stopped else None
            if status is not None:
                self.statuses[planned.run_id] = status
                self.run = None
            else:
                self._heartbeat(planned, alarm.stopped)
        except Exception as error:
            self.run = None
            self.statuses[planned.run_id] = "failed"
            row = row_of(
                planned, "failed", f"{type(error).__name__}: {error}", tokens_unique=max(1, planned.trial.tokens)
            )
            self.store.publish_failure(row)
        finally:
            if self.run is None:
                self.store.clear_running(planned.run_id)
        return self.progress()

    def checkpoint(self) -> None:
        """Saves the trial in hand, if there is one."""
        if self.run is not None:
            self.run.save()
            self._saved_at = time.monotonic()

    def _heartbeat(self, planned: Planned, stopping: bool) -> None:
        assert self.run is not None
        if stopping or time.monotonic() - self._saved_at > self.checkpoint_seconds:
            self.checkpoint()
        self.store.mark_running(planned.run_id, self._info(planned))

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
            flops_done += run.step * run.flops_per_step
        current = run.planned if run is not None else self.job.planned[min(len(ended), len(self.job.planned) - 1)]
        return Progress(
            done=len(ended) == len(self.job.planned),
            run_id=current.run_id,
            step=run.step if run is not None else 0,
            steps=current.trial.steps,
            flops_done=flops_done,
            flops_total=float(self.job.flops),
            train_loss=run.train_loss if run is not None else math.nan,
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
