"""What tests that train have in common: a trial made ready to run, and a store in which jobs were run to their end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scaling.corpora.prepare import prepare
from scaling.job import Execution, Job, Planned
from scaling.job_runner import JobRunner
from scaling.store import Store
from scaling.trial import Trial

WORDS = [
    "two",
    "men",
    "near",
    "a",
    "small",
    "house",
    "see",
    "the",
    "dog",
    "run",
    "by",
    "many",
    "green",
    "trees",
    "today",
]


def ready(trial: Trial, execution: Execution, **labels: Any) -> Planned:
    """The trial with its identity on its data; its corpus is prepared where it is not yet."""
    corpus = prepare(trial.corpus, trial.tokenizer)
    return Planned(
        trial=trial,
        run_id=trial.run_id(corpus.digest),
        lineage=trial.lineage(corpus.digest),
        data_digest=corpus.digest,
        execution=execution,
        vocab_size=corpus.vocabulary.size,
        **{"sweep": "test", **labels},
    )


def finish(folder: Path, *jobs: Job | Planned) -> Store:
    """The store at `folder` after these jobs; a trial alone is a job of its own."""
    store = Store.create(folder)
    for job in jobs:
        runner = JobRunner(job if isinstance(job, Job) else Job(planned=(job,)), store)
        while not runner.advance(60.0).done:
            pass
    return store
