"""Compiles the shapes of a launch ahead of their trials, on cores that no trial uses; results lie in the disk cache.

Without spare cores each worker compiles its own shapes, while the others train: a compiler beside them would only take
their time. The helper process works at low priority and ends with its launcher, whatever ends that.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType

from scaling.job import Job, Planned

NICENESS = 10


def shapes_ahead(jobs: Sequence[Job], workers: int) -> list[Planned]:
    """One compiled trial of each shape in order of launch, but for those that the workers begin with."""
    found: dict[object, Planned] = {}
    for job in jobs[workers:]:
        for planned in job.planned[:1]:
            if planned.execution.compiled:
                found.setdefault(_shape(planned), planned)
    begun = {_shape(job.planned[0]) for job in jobs[:workers]}
    return [planned for shape, planned in found.items() if shape not in begun]


def _shape(planned: Planned) -> object:
    trial = planned.trial
    return trial.architecture, trial.objective, trial.precision, planned.vocab_size, planned.execution


class CompileAhead:
    """A helper process for the time of a launch; none where there is nothing to do or no core to spare."""

    def __init__(self, jobs: Sequence[Job], workers: int, cores: int) -> None:
        self.shapes = shapes_ahead(jobs, workers) if cores > workers else []
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> CompileAhead:
        if self.shapes:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sweeps.ahead"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps([p.model_dump(mode="json") for p in self.shapes]))
            self.process.stdin.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # its compiler too; a half-written result is never used
        if self.process is not None:
            self.process.wait()


def compile_shape(planned: Planned) -> float:
    """Compiles the training and evaluation graphs of a trial's shape; the seconds that took."""
    import numpy as np

    from scaling.execution import prepare_process, put_in_force
    from scaling.objectives.base import Vocabulary
    from scaling.step import StepFunction

    prepare_process()
    put_in_force(planned.execution)
    trial, size = planned.trial, planned.vocab_size
    function = StepFunction.of(trial, size, planned.execution)
    theta = function.initial([trial] * planned.execution.pack, size)
    seq_len, vocabulary = trial.architecture.seq_len, Vocabulary(size, size, 0, size - 1)
    rng = np.random.default_rng(0)
    windows = planned.execution.micro_batch_tokens // seq_len
    tokens = np.zeros((windows, trial.objective.window(seq_len)), np.int64)
    batch = function.to_device([trial.objective.train_batch(tokens, vocabulary, rng)] * planned.execution.pack)
    function.warm_up(theta, batch)
    return function.compile_s


def _end_with_parent() -> None:
    """Asks Linux to kill this process when its parent dies, by SIGKILL or otherwise."""
    if sys.platform.startswith("linux"):
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def main() -> None:
    """Reads planned trials as JSON from standard input and compiles their shapes."""
    _end_with_parent()
    os.nice(NICENESS)
    for item in json.load(sys.stdin):
        compile_shape(Planned.model_validate(item))


if __name__ == "__main__":
    main()
