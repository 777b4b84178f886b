"""The course of one trial: which windows it sees when, its losses step by step, and the row that comes of them.

A pure function of the trial and its data: order, masks and learning rate depend on (seed, step) alone.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from scaling.along import Point, best, kept, point, steps_of
from scaling.corpora.order import WindowOrder, check_supply, gather
from scaling.corpora.prepare import prepare
from scaling.cost import step_flops
from scaling.errors import CorpusError
from scaling.evaluate import HeldOutLoss
from scaling.job import Planned
from scaling.objectives.base import Batch
from scaling.provenance import environment, now
from scaling.row import row_of

CURVE_POINTS = 200
DIVERGED_NATS = 1.0
"""A run whose mean training loss after warmup is this far above a uniform guess has diverged."""
FINAL_SHARE = 0.05
"""`train_loss` of a row is the mean over this last share of the run."""


class Course:
    """One trial under way; it knows every step's training loss (nats) and gradient norm."""

    def __init__(self, planned: Planned) -> None:
        self.planned, self.trial = planned, planned.trial
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
        begins = self.corpus.document_starts(self.unique) if trial.objective.begins == "document" else None
        self.order = WindowOrder(self.unique, self.window, seq_len, trial.seed, begins)
        self.predicted = trial.batch_windows * trial.objective.predicted_per_window(seq_len)
        flops = step_flops(trial.architecture, trial.objective, self.vocab.size, trial.batch_tokens)
        self.flops_per_step = sum(flops.values())
        self.every = max(1, trial.steps // CURVE_POINTS)
        self.step = 0
        """Optimizer steps done and looked at."""
        self._losses, self._norms = np.zeros(trial.steps), np.zeros(trial.steps)
        self.started_at, self.elapsed_s = now(), 0.0
        self.branched_at = 0
        """Steps taken over from a shorter run of the same trunk; they are not this run's cost."""
        self.measured: list[Point] = []
        """What was measured along the run, ascending by step."""
        self._measured_at = steps_of(trial)
        self.diverged: str | None = None
        self.status: str | None = None

    @property
    def losses(self) -> np.ndarray:
        """Training loss of each step done, nats."""
        return self._losses[: self.step]

    @property
    def norms(self) -> np.ndarray:
        """Gradient norm of each step done, before clipping."""
        return self._norms[: self.step]

    def batch(self, step: int) -> Batch:
        """The whole batch of optimizer step `step` (from 0)."""
        trial = self.trial
        starts = self.order.starts(step, trial.batch_windows)
        rng = np.random.Generator(np.random.Philox(key=trial.seed, counter=[0, 0, step, 1]))
        return trial.objective.train_batch(gather(self.corpus.train, starts, self.window), self.vocab, rng)

    def lr(self, step: int) -> float:
        """Learning rate of step `step` (from 0); 0 once the run is over."""
        trial = self.trial
        if step >= trial.steps or self.diverged is not None:
            return 0.0
        return trial.optimizer.lr * trial.schedule.factor(step, trial.steps)

    def add(self, losses: np.ndarray, norms: np.ndarray) -> None:
        """Takes the training losses and gradient norms of the next steps, and sees whether the run diverged."""
        before, room = self.step, self.trial.steps - self.step
        self.step += min(room, len(losses))
        self._losses[before : self.step], self._norms[before : self.step] = losses[:room], norms[:room]
        self._check(before)

    def _check(self, before: int) -> None:
        """Finds the step at which the run diverged, if it did, and drops what came after it."""
        trial = self.trial
        wrong = ~(np.isfinite(self.losses[before:]) & np.isfinite(self.norms[before:]))
        uniform = trial.objective.chance(trial.architecture, self.vocab.size)
        for last in range((before // self.every + 1) * self.every, self.step + 1, self.every):
            mean = float(self.losses[last - self.every : last].mean())
            if last > trial.schedule.warmup_of(trial.steps) and mean > uniform + DIVERGED_NATS:
                self.diverged = (
                    f"training loss {mean:.3f} at step {last} is over {uniform:.3f} + {DIVERGED_NATS:g} nats,"
                    " worse than a uniform guess"
                )
                self.step = last
                break
        if wrong.any() and (at := before + int(np.argmax(wrong)) + 1) <= self.step:
            self.diverged = f"loss or gradient not finite at step {at} of {trial.steps}"
            self.step = at

    @property
    def ended(self) -> bool:
        """Whether training is over, finished or diverged."""
        return self.step >= self.trial.steps or self.diverged is not None

    @property
    def train_loss(self) -> float:
        """Mean training loss over the last whole point of the curve, NaN before the first."""
        last = self.step // self.every * self.every
        return float(self.losses[last - self.every : last].mean()) if last else math.nan

    def due(self, step: int) -> bool:
        """Whether the held-out loss after `step` steps is to be measured, and is not yet."""
        return step in self._measured_at and not self.ended and all(p.step != step for p in self.measured)

    def points(self, heldout: float | None) -> list[dict[str, Any]]:
        """The training curve: one point each `every` steps, one at the end, and where held-out loss was measured."""
        along = {p.step: p.loss for p in self.measured}
        ends = sorted({*range(self.every, self.step + 1, self.every), *along, self.step} - {0})
        found = []
        start = 0
        for end in ends:
            found.append(
                {
                    "run_id": self.planned.run_id,
                    "step": end,
                    "tokens": end * self.trial.batch_tokens,
                    "flops": float(end * self.flops_per_step),
                    "lr": self.trial.optimizer.lr * self.trial.schedule.factor(end - 1, self.trial.steps),
                    "grad_norm": float(self.norms[end - 1]),
                    "elapsed_s": self.elapsed_s * end / self.step,
                    "train_loss": float(self.losses[start:end].mean()),
                    "loss": heldout if end == self.step else along.get(end),
                }
            )
            start = end
        return found

    def row(self, held: HeldOutLoss | None, bits: float, **provenance: float) -> dict[str, Any]:
        """The run's row; diverged where there is no held-out loss."""
        trial = self.trial
        row = row_of(self.planned, "finished" if held else "diverged", self.diverged or "", tokens_unique=self.unique)
        own = self.step - self.branched_at
        return row | {
            "flops_marginal": float(row["flops_marginal"]) - float(self.branched_at * self.flops_per_step),
            "loss": held.loss if held else math.nan,
            "loss_se": held.se if held else math.nan,
            "loss_best": best([*self.measured, point(self.step, held)]) if held and self._measured_at else math.nan,
            "train_loss": self._final_train_loss(),
            "bits_per_byte": bits,
            "wall_s": self.elapsed_s,
            "tokens_per_s": own * trial.batch_tokens / self.elapsed_s if self.elapsed_s else math.nan,
            "provenance": json.dumps(
                environment()
                | {"started_at": self.started_at, "finished_at": now(), "steps_done": self.step}
                | {name: round(value, 3) for name, value in provenance.items()}
                | ({"branched_at": self.branched_at} if self.branched_at else {})
            ),
        }

    def _final_train_loss(self) -> float:
        first = math.ceil((1 - FINAL_SHARE) * self.trial.steps)
        tail = self.losses[first:]
        return float(tail.mean()) if len(tail) and self.diverged is None else math.nan

    def branch_step(self) -> int | None:
        """Steps that this run shares with longer runs of its trunk; None where it shares none."""
        schedule, steps = self.trial.schedule, self.trial.steps
        at = schedule.branch_step(steps)
        shared = at is not None and schedule.warmup_of(steps) == schedule.warmup_of(2 * steps)
        return at if shared else None

    def meta(self) -> dict[str, Any]:
        """What a checkpoint keeps of the course, beside weights, optimizer and the two arrays."""
        return {
            "elapsed_s": self.elapsed_s,
            "started_at": self.started_at,
            "branched_at": self.branched_at,
            "measured": [kept(p) for p in self.measured],
        }
