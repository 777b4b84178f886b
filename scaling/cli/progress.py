"""How far a store's runs are: counts by state, what runs now, and the time left weighted by FLOPs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.store import Store

if TYPE_CHECKING:
    from sweeps.plan import Plan


def progress_of(path: Path, sweep: str | None = None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The `status` object of the command line; `flops_left` and `seconds_left` are None where nothing tells them.

    FLOPs left are those of the sweep's trials without a row, less what running ones have done; without a sweep, of
    the running trials that say their cost. Seconds left take the pace of the finished runs times the runs at work.

    Raises:
        StoreError: no store, or of a newer version.
    """
    store = Store.open(path)
    plan = _plan(sweep, overrides, path) if sweep is not None else None
    wanted = {row.run_id: row.flops for row in plan.rows if row.run_id is not None} if plan is not None else None
    rows = store.rows()
    done, failed = store.done(), store.failed()
    notes = {i: n for i, n in store.running().items() if i not in done}
    running = [_running(i, note, wanted) for i, note in notes.items() if not note["stale"]]
    stopped = [
        {"run_id": i, "reason": _stopped(note)} for i, note in notes.items() if note["stale"] and i not in failed
    ]
    at_work = {r["run_id"] for r in running}
    failures = [{"run_id": i, "reason": reason} for i, reason in failed.items() if i not in at_work]
    quarantined = store.quarantined()
    ended = rows[rows["status"] != "failed"]
    flops_left = _left(running, wanted, done)
    pace = float(ended["flops_exact"].sum() / ended["wall_s"].sum()) if ended["wall_s"].sum() > 0 else None
    seconds = None
    if flops_left is not None and pace is not None and (running or flops_left == 0):
        seconds = flops_left / (pace * max(1, len(running)))
    elif plan is not None and pace is None and running:
        seconds = plan.wall_seconds(len(running))  # Nothing has ended yet: as the plan estimates.
    states = list(done.values())
    counts = {
        "finished": states.count("finished"),
        "running": len(running),
        "stopped": len(stopped),
        "failed": len(failures),
        "diverged": states.count("diverged"),
        "quarantined": len(quarantined),
    }
    if wanted is not None:
        known = {*done, *at_work, *(f["run_id"] for f in failures), *(s["run_id"] for s in stopped)}
        counts["missing"] = len(set(wanted) - known)
    diverged = rows[rows["status"] == "diverged"]
    return {
        "store": str(path),
        "sweeps": sorted(set(store.format["sweeps"].values())),
        "counts": counts,
        "flops_done": float(ended["flops_exact"].sum()),
        "flops_left": flops_left,
        "seconds_left": seconds,
        "running": running,
        "stopped": stopped,
        "failed": failures,
        "diverged": [
            {"run_id": str(i), "reason": str(r)} for i, r in zip(diverged["run_id"], diverged["reason"], strict=True)
        ],
        "quarantined": quarantined,
    }


def _plan(sweep: str, overrides: Sequence[str], store: Path) -> Plan:
    from scaling.cli.output import stdout_to_stderr
    from sweeps.run import plan_sweep

    with stdout_to_stderr():
        return plan_sweep(sweep, store, overrides)


def _running(run_id: str, note: Mapping[str, Any], wanted: Mapping[str, float] | None) -> dict[str, Any]:
    info = note["info"] if isinstance(note["info"], dict) else {}
    step, steps = info.get("step", 0), info.get("steps")
    fraction = step / steps if steps else None
    flops = (wanted or {}).get(run_id, info.get("flops"))
    return {
        "run_id": run_id,
        "sweep": info.get("sweep"),
        "step": step,
        "steps": steps,
        "fraction": fraction,
        "flops": flops,
        "age_s": note["age_s"],
        "pid": note["pid"],
        "host": note["host"],
    }


def _stopped(note: Mapping[str, Any]) -> str:
    info = note["info"] if isinstance(note["info"], dict) else {}
    where = f" at step {info['step']:,} of {info['steps']:,}" if info.get("steps") else ""
    return f"its process is gone{where}; run the sweep again to go on"


def _left(
    running: Sequence[Mapping[str, Any]], wanted: Mapping[str, float] | None, done: Mapping[str, str]
) -> float | None:
    if wanted is None:
        if any(r["flops"] is None for r in running):
            return None
        return float(sum(r["flops"] * (1 - (r["fraction"] or 0.0)) for r in running)) if running else None
    begun = {r["run_id"]: r["fraction"] or 0.0 for r in running}
    return float(sum(f * (1 - begun.get(i, 0.0)) for i, f in wanted.items() if i not in done))
