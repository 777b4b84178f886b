"""Runs a trial by the user's own training function: in a thread, its reports as the curve, its result as the row.

Stands in for the built-in run of a trial under `JobRunner`. What the function does is its own affair; that its result
is published once, with its curve, and only if it makes sense, is ours.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scaling.accounting import COUNTS, FLOP_TERMS, PARAM_GROUPS, flops_6nd
from scaling.corpora.order import check_supply
from scaling.corpora.prepare import prepare
from scaling.cost import step_flops
from scaling.errors import CorpusError, InputError
from scaling.execution import put_in_force
from scaling.job import Planned
from scaling.provenance import environment, now
from scaling.row import row_of
from scaling.store import Store
from scaling.trainer import Task, Trained, resolve

LEAVE_SECONDS = 8.0
"""How long a function may take to save and return once it was asked to stop."""

WAIT_SECONDS = 0.05


@dataclass
class ForeignCourse:
    """Where the trial stands, as `JobRunner` asks of every run: the last step reported, its loss, its status."""

    planned: Planned
    flops_per_step: int
    step: int = 0
    train_loss: float = math.nan
    status: str | None = None


class ForeignRun:
    """One trial in training by somebody else's code."""

    def __init__(self, planned: Planned, store: Store) -> None:
        if planned.trial.trainer is None:
            raise InputError(f"run {planned.run_id} names no trainer")
        self.planned, self.trial, self.store = (planned,), planned.trial, store
        self.execution = planned.execution
        self.function = resolve(planned.trial.trainer)
        self.corpus = prepare(self.trial.corpus, self.trial.tokenizer)
        if self.corpus.digest != planned.data_digest:
            raise CorpusError(
                f"corpus {self.trial.corpus.type} changed under the sweep: planned on digest {planned.data_digest},"
                f" found {self.corpus.digest}; restore the text, or plan again"
            )
        trial = self.trial
        self.unique = check_supply(trial.tokens, self.corpus, trial.corpus.unique_tokens, trial.repeat)
        size = self.corpus.vocabulary.size
        per_step = sum(step_flops(trial.architecture, trial.objective, size, trial.batch_tokens).values())
        self.courses = [ForeignCourse(planned, per_step)]
        self.folder = store.checkpoint_path(planned.run_id) / "trainer"
        self.elapsed_s, self.started_at = 0.0, now()
        self.points: list[dict[str, Any]] = []
        self.result: Trained | None = None
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._begun = time.perf_counter()
        self._take_up()

    def _take_up(self) -> None:
        """The curve of an earlier attempt, which its function will go on from if it kept its state."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            kept = json.loads((self.folder / "curve.json").read_text())
            self.points, self.elapsed_s, self.started_at = kept["points"], kept["elapsed_s"], kept["started_at"]
        except (OSError, ValueError, KeyError, TypeError):
            return
        if self.points:
            self.courses[0].step, self.courses[0].train_loss = self.points[-1]["step"], self.points[-1]["train_loss"]

    @property
    def step(self) -> int:
        """The last step reported."""
        return self.courses[0].step

    def _report(
        self,
        step: int,
        train_loss: float,
        *,
        lr: float | None = None,
        grad_norm: float | None = None,
        loss: float | None = None,
    ) -> None:
        where = f"trainer {self.trial.trainer.target if self.trial.trainer else ''}"
        if not isinstance(step, int) or isinstance(step, bool) or not 0 < step <= self.trial.steps:
            raise InputError(f"{where}: reported step {step!r}; steps are whole numbers from 1 to {self.trial.steps}")
        # A function that starts anew, or from before its last reports, writes that part of its curve again.
        while self.points and self.points[-1]["step"] >= step:
            self.points.pop()
        self.points.append(
            {
                "step": step,
                "tokens": step * self.trial.batch_tokens,
                "flops": float(step * self.courses[0].flops_per_step),
                "lr": math.nan if lr is None else float(lr),
                "train_loss": float(train_loss),
                "grad_norm": None if grad_norm is None else float(grad_norm),
                "elapsed_s": self._elapsed(),
                "loss": None if loss is None else float(loss),
            }
        )
        self.courses[0].step, self.courses[0].train_loss = step, float(train_loss)

    def _elapsed(self) -> float:
        return self.elapsed_s + time.perf_counter() - self._begun

    def _start(self) -> None:
        task = Task(
            trial=self.trial,
            corpus=self.corpus,
            device=self.execution.device,
            threads=self.execution.threads,
            folder=self.folder,
            report=self._report,
            stop=self._stop.is_set,
        )

        def work() -> None:
            try:
                put_in_force(self.execution)  # OpenMP counts its threads for each thread that calls it.
                self.result = self._checked(self.function(task))
            except Exception as error:
                self._error = error
            except BaseException as error:  # sys.exit in somebody's function must not end the sweep in silence.
                self._error = RuntimeError(f"{type(error).__name__}: {error}")

        self._stop.clear()
        self._begun = time.perf_counter()
        self._thread = threading.Thread(target=work, name=f"trainer-{self.planned[0].run_id}", daemon=True)
        self._thread.start()

    def _checked(self, result: Any) -> Trained | None:
        where = f"trainer {self.trial.trainer.target if self.trial.trainer else ''}"
        if result is None:
            if self._stop.is_set():
                return None
            raise InputError(f"{where}: returned None without being asked to stop; return a scaling.trainer.Trained")
        if not isinstance(result, Trained):
            raise InputError(f"{where}: returned {type(result).__name__}; return a scaling.trainer.Trained")
        if isinstance(result.loss, bool) or not isinstance(result.loss, (int, float)):
            raise InputError(f"{where}: loss is {result.loss!r}; it must be a number (float(loss) of a tensor)")
        if result.params is not None and set(result.params) != set(COUNTS):
            raise InputError(f"{where}: params must map {', '.join(COUNTS)}; it has {', '.join(result.params)}")
        json.dumps(dict(result.notes), allow_nan=False)
        return result

    def advance(self, until: Callable[[], bool], stop: Callable[[], bool] = lambda: False) -> None:
        """Lets the function work until `until()` says so or it returns; raises what it raised."""
        if self._thread is None and self.result is None:
            self._start()
        while self._thread is not None:
            self._thread.join(WAIT_SECONDS)
            if not self._thread.is_alive():
                self._thread = None
            elif until():
                break
        if getattr(until, "stopped", False):
            self.save()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def save(self) -> None:
        """Asks the function to save and return, and waits for it; it goes on from its folder when called again."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join(LEAVE_SECONDS)
            if not self._thread.is_alive():
                self._thread = None
        self.elapsed_s, self._begun = self._elapsed(), time.perf_counter()
        kept = {"points": self.points, "elapsed_s": self.elapsed_s, "started_at": self.started_at}
        partial = self.folder / ".curve.json"
        partial.write_text(json.dumps(kept))
        partial.replace(self.folder / "curve.json")

    def finish(self, stop: Callable[[], bool] = lambda: False) -> dict[str, str]:
        """Publishes curve and row once the function has returned, and drops its folder; the status by run id."""
        if self.result is None or self.trial.trainer is None:
            return {}
        result, course = self.result, self.courses[0]
        planned = course.planned
        finite = math.isfinite(result.loss)
        reason = "" if finite else f"trainer {self.trial.trainer.target} returned loss {result.loss}"
        row = row_of(planned, "finished" if finite else "diverged", reason, tokens_unique=self.unique)
        row |= _overrides(result, self.trial.tokens, row)
        elapsed = self._elapsed()
        row |= {
            "loss": float(result.loss) if finite else math.nan,
            "loss_se": math.nan if result.loss_se is None else float(result.loss_se),
            "train_loss": course.train_loss if result.train_loss is None else float(result.train_loss),
            "wall_s": elapsed,
            "tokens_per_s": row["tokens"] / elapsed,
            "provenance": json.dumps(
                environment()
                | {"started_at": self.started_at, "finished_at": now(), "steps_done": course.step}
                | {"trainer": self.trial.trainer.model_dump(), "trainer_notes": dict(result.notes)}
            ),
        }
        curve = [{"run_id": planned.run_id, **point} for point in self.points]
        self.store.publish(row, curve or None, None)
        self.store.drop_checkpoint(planned.run_id)
        course.status = str(row["status"])
        return {planned.run_id: course.status}


def _overrides(result: Trained, tokens: int, row: dict[str, Any]) -> dict[str, Any]:
    """Columns of size and cost where the function knows better than the trial's architecture."""
    changed: dict[str, Any] = {}
    if result.params is not None:
        changed |= {f"params_{group}": 0 for group in PARAM_GROUPS}
        changed |= {"params_other": int(result.params["total"])}
        changed |= {f"params_{count}": int(result.params[count]) for count in COUNTS}
    if result.tokens is not None:
        tokens = changed["tokens"] = int(result.tokens)
        changed["epochs"] = tokens / row["tokens_unique"]
    if result.params is not None or result.tokens is not None:
        sizes = {count: changed.get(f"params_{count}", row[f"params_{count}"]) for count in COUNTS}
        changed |= {f"flops_6nd_{count}": float(flops_6nd(size, tokens)) for count, size in sizes.items()}
    if result.flops is not None:
        changed |= {f"flops_exact_{term}": 0.0 for term in FLOP_TERMS}
        changed |= dict.fromkeys(("flops_exact", "flops_exact_other", "flops_marginal"), float(result.flops))
    return changed
