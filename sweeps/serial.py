"""Runs jobs one after another in this process, without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scaling.job import Job
from scaling.store import Store
from sweeps.drain import Drain
from sweeps.progress import SweepProgress

SLICE_SECONDS = 1.0


def run_serial(jobs: Sequence[Job], store_path: Path, drain: Drain, progress: SweepProgress) -> None:
    """Runs `jobs` in order until all are done or `drain` is requested; rows go to the store as they end."""
    from scaling.job_runner import JobRunner

    store = Store.open(store_path, write=True)
    for index, job in enumerate(jobs):
        runner = JobRunner(job, store)
        while not drain.requested():
            state = runner.advance(SLICE_SECONDS, drain.requested)
            progress.update(index, state)
            if state.done:
                break
        else:
            runner.checkpoint()
            return
