"""Runs jobs on Ray Tune: the store says what is missing, Ray only executes. The one file that imports ray.

A job is a Tune trial of a class Trainable with reused actors; `step` trains a slice and reports. Tune's own
checkpoints and restore are off: checkpoints and results are the store's, so a fresh experiment always starts from
what the store lacks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scaling.errors import DiskError
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
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        ray.init(address=address, **quiet)
    else:
        # "local", or a cluster that somebody started on this machine would be joined.
        ray.init(address="local", num_cpus=workers, object_store_memory=100 << 20, include_dashboard=False, **quiet)
    return ray


def on_a_worker(address: str, gpus: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns on a worker of a cluster that has a core and so many GPUs (or a share) to give a trial.

    Waits until there is one, and says so after ten seconds. Raises what the function raises.
    """
    ray = start_ray(1, address)
    try:
        task = ray.remote(num_cpus=1, num_gpus=gpus)(function).remote(*arguments)
        if not ray.wait([task], timeout=10.0)[0]:
            have = ray.cluster_resources()
            print(
                f"waiting for a worker with a core and {gpus:g} GPUs; the cluster at {address} has"
                f" {have.get('CPU', 0):g} cores and {have.get('GPU', 0):g} GPUs in all",
                file=sys.stderr,
                flush=True,
            )
        return ray.get(task)
    finally:
        ray.shutdown()


def _trainable() -> type:
    from ray import tune

    class JobTrainable(tune.Trainable):  # type: ignore[misc]
        """A Tune trial that carries one job."""

        def setup(self, config: dict[str, Any]) -> None:
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            from scaling.job_runner import JobRunner

            job = Job.model_validate_json(new_config["job"]["spec"])
            self.flag = Path(new_config["flag"])
            self.runner = JobRunner(job, Store.open(Path(new_config["store"]), write=True))
            return True

        def step(self) -> dict[str, Any]:
            try:
                stopping = self.flag.exists()
                state = self.runner.progress() if stopping else self.runner.advance(SLICE_SECONDS, self.flag.exists)
                if self.flag.exists():
                    self.runner.checkpoint()
                    stopping = True
            except DiskError as error:  # Not for Tune to try again: the driver ends the sweep.
                return {"done": True, "progress": self.runner.progress(), "disk_error": str(error)}
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
    workers: int | None,
    address: str | None = None,
    gpus_per_trial: float = 0.0,
) -> None:
    """Runs `jobs`, longest first as given, on Ray until all are done or `drain` is requested.

    `workers` None: as many at once as a cluster has room for.

    A job whose worker died more than MAX_LOST_WORKERS times has its unfinished trials recorded as failed.
    """
    ray = start_ray(workers or 1, address)
    drain.install()  # ray.init puts its own handler on SIGTERM
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
    workers: int | None,
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
            if "disk_error" in result:
                here.drain.fail(DiskError(result["disk_error"]))

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            try:
                _record_lost(here.jobs[trial.config["job"]["index"]], here.store, trial.error_file)
            except DiskError as error:
                here.drain.fail(error)

    class Drained(tune.Stopper):  # type: ignore[misc]
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return bool(here.drain.requested())

    scratch = tempfile.mkdtemp(prefix="scaling-tune-")
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # Its tracebacks go to the logs of lost trials.
    try:
        tuner = tune.Tuner(
            tune.with_resources(_trainable(), _resources(gpus_per_trial)),
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


def _resources(gpus_per_trial: float) -> Any:
    """What a trial asks of Ray: a core and a share of a GPU, or whole GPUs of one node."""
    from ray import tune

    if gpus_per_trial <= 1:
        return {"cpu": 1, **({"gpu": gpus_per_trial} if gpus_per_trial else {})}
    # One bundle: the process that trains must see every GPU of its trial.
    return tune.PlacementGroupFactory([{"CPU": 1, "GPU": gpus_per_trial}], strategy="STRICT_PACK")


def _record_lost(job: Job, store_path: Path, error_file: str | None) -> None:
    """Publishes the failure of what a job left unfinished, with Tune's account of its errors as the log."""
    from scaling.row import row_of

    store = Store.open(store_path, write=True)
    text = "worker process died\n"
    with contextlib.suppress(OSError):
        text = Path(error_file or "").read_text(errors="replace") or text
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    for planned in job.planned:
        if not store.has(planned.run_id):
            log = store.write_log(planned.run_id, text)
            reason = f"lost {MAX_LOST_WORKERS + 1} times with its worker process: {last}; log: {log}"
            store.publish_failure(row_of(planned, "failed", reason, tokens_unique=planned.trial.tokens))
