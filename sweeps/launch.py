"""Runs jobs on Ray Tune: the store says what is missing, Ray only executes. The one file that imports ray.

A job is a Tune trial of a class Trainable with reused actors; `step` trains a slice and reports. Tune's own
checkpoints and restore are off: checkpoints and results are the store's, so a fresh experiment always starts from
what the store lacks.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.job import Job
from scaling.store import Store
from sweeps.drain import Drain
from sweeps.progress import SweepProgress

SLICE_SECONDS = 2.0
CHUNK = 500
MAX_LOST_WORKERS = 2
"""How often a job whose worker process died is started again."""

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    # A worker that does not leave (it may be compiling) is killed after so many seconds; its last checkpoint stands.
    "TUNE_FORCE_TRIAL_CLEANUP_S": "8",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}

_LOCAL_ENVIRONMENT = {
    # Ray binds a local cluster to loopback only where it believes that clusters are unsupported.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
}


def set_environment(address: str | None) -> None:
    """Sets what Ray reads from the environment at import; must be called before `import ray`."""
    os.environ.update(_ENVIRONMENT)
    if address is None:
        os.environ.update(_LOCAL_ENVIRONMENT)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def start_ray(workers: int, address: str | None) -> Any:
    """Starts a local Ray on `workers` cores (loopback only, with a token), or joins the cluster at `address`."""
    set_environment(address)
    import ray

    if ray.is_initialized():
        return ray
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    if address is not None:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    else:
        ray.init(num_cpus=workers, object_store_memory=100 << 20, **quiet)
    return ray


def _trainable() -> type:
    from ray import tune

    class JobTrainable(tune.Trainable):  # type: ignore[misc]
        """A Tune trial that carries one job."""

        def setup(self, config: dict[str, Any]) -> None:
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            from scaling.train import JobRunner

            job = Job.model_validate_json(new_config["job"]["spec"])
            self.flag = Path(new_config["flag"])
            self.runner = JobRunner(job, Store.open(Path(new_config["store"]), write=True))
            return True

        def step(self) -> dict[str, Any]:
            stopping = self.flag.exists()
            state = self.runner.progress() if stopping else self.runner.advance(SLICE_SECONDS, self.flag.exists)
            if self.flag.exists():
                self.runner.checkpoint()
                stopping = True
            return {"done": state.done or stopping, "progress": state}

        def cleanup(self) -> None:
            self.runner.checkpoint()

    return JobTrainable


def run_on_ray(
    jobs: Sequence[Job],
    store_path: Path,
    drain: Drain,
    progress: SweepProgress,
    *,
    workers: int,
    address: str | None = None,
    gpus_per_trial: float = 0.0,
) -> None:
    """Runs `jobs`, longest first as given, on Ray until all are done or `drain` is requested.

    A job whose worker died more than MAX_LOST_WORKERS times has its unfinished trials recorded as failed.
    """
    ray = start_ray(workers, address)
    drain.install()  # ray.init puts its own handler on SIGTERM
    drain.at_once = ray.shutdown
    try:
        for start in range(0, len(jobs), CHUNK):
            if drain.requested():
                return
            _run_chunk(
                jobs, range(start, min(start + CHUNK, len(jobs))), store_path, drain, progress, workers, gpus_per_trial
            )
    finally:
        ray.shutdown()


class _DriverOnly:
    """What the callbacks need of the driver; Tune pickles callbacks into its own state, where this arrives empty."""

    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _DriverOnly, ()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name} is held by the driver alone")


def _run_chunk(
    jobs: Sequence[Job],
    chunk: range,
    store_path: Path,
    drain: Drain,
    progress: SweepProgress,
    workers: int,
    gpus_per_trial: float,
) -> None:
    from ray import tune

    here = _DriverOnly(drain=drain, progress=progress, jobs=jobs, store=store_path)

    class Watch(tune.Callback):  # type: ignore[misc]
        def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
            here.drain.requested()
            here.progress.tick()

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            here.progress.update(trial.config["job"]["index"], result["progress"])

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            log = str(trial.error_file or "worker process died")
            _record_lost(here.jobs[trial.config["job"]["index"]], here.store, log)

    class Drained(tune.Stopper):  # type: ignore[misc]
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return bool(here.drain.requested())

    scratch = tempfile.mkdtemp(prefix="scaling-tune-")
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        tuner = tune.Tuner(
            tune.with_resources(_trainable(), {"cpu": 1, **({"gpu": gpus_per_trial} if gpus_per_trial else {})}),
            param_space={
                "job": tune.grid_search([{"index": i, "spec": jobs[i].model_dump_json()} for i in chunk]),
                "store": str(store_path.resolve()),
                "flag": str(drain.flag.resolve()),
            },
            tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=None if gpus_per_trial else workers),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                stop=Drained(),
                callbacks=[Watch()],
                failure_config=tune.FailureConfig(max_failures=MAX_LOST_WORKERS),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _record_lost(job: Job, store_path: Path, log: str) -> None:
    from scaling.row import row_of

    store = Store.open(store_path, write=True)
    done = store.done()
    for planned in job.planned:
        if planned.run_id not in done:
            reason = f"worker process died {MAX_LOST_WORKERS + 1} times; log: {log}"
            store.publish_failure(row_of(planned, "failed", reason, tokens_unique=planned.trial.tokens))
