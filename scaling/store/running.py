"""Notes on runs in progress: `running/<run_id>.json`, for whoever asks how far a sweep is. Never a lock.

The process speaks for itself on its own machine (id and start, so that a reused id is noticed; the start is counted
from boot, because a clock that is set shifts times of day); from another machine the age of the note decides.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from scaling.errors import StoreError
from scaling.store import files

FOLDER = "running"
STALE_S = 600.0
"""Seconds after which a note from another machine is taken for left over."""


def _started(pid: int) -> float | None:
    """When a process began: clock ticks since boot where /proc tells, else seconds since 1970; None: it is gone."""
    try:
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        if os.path.exists("/proc/self/stat"):
            return None
    import psutil

    try:
        return round(psutil.Process(pid).create_time(), 2)
    except psutil.Error:
        return None


def mark(root: Path, run_id: str, info: dict[str, Any]) -> None:
    """Writes or renews a run's note. Raises StoreError."""
    note = {
        "info": info,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "process_started": _started(os.getpid()),
    }
    try:
        data = json.dumps(note).encode()
    except (TypeError, ValueError) as error:
        raise StoreError(f"note on {run_id}: not plain JSON: {error}") from error
    files.replace(root, f"{FOLDER}/{files.check_run_id(run_id)}.json", data, "running", durable=False)


def clear(root: Path, run_id: str) -> None:
    """Removes a run's note."""
    files.remove(root, f"{FOLDER}/{files.check_run_id(run_id)}.json")


def notes(root: Path, stale_s: float = STALE_S) -> dict[str, dict[str, Any]]:
    """Notes by run id: `info`, `pid`, `host`, `age_s` (since the last heartbeat) and `stale`."""
    out: dict[str, dict[str, Any]] = {}
    for name in files.names(root, FOLDER, ".json"):
        run_id = Path(name).stem
        try:
            note = json.loads(files.read(root, name))
            age = time.time() - (root / name).stat().st_mtime
            if note["host"] == socket.gethostname():
                stale = _started(int(note["pid"])) != note["process_started"]
            else:
                stale = age > stale_s
            out[files.check_run_id(run_id)] = {
                "info": note["info"],
                "pid": note["pid"],
                "host": note["host"],
                "age_s": age,
                "stale": stale,
            }
        except (FileNotFoundError, files.Damaged, StoreError, ValueError, KeyError, TypeError):
            continue  # Gone, or half a note: it says nothing worth reporting.
    return dict(sorted(out.items()))
