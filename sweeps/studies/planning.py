"""What a study has still to train, and for how long, before anything is trained."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from scaling.provenance import cores
from sweeps.plan import PlanRow, wall_seconds
from sweeps.run import plan_sweep

if TYPE_CHECKING:
    from sweeps.studies.base import Options, Section, Study


@dataclass(frozen=True)
class PartPlan:
    """A section counted: its runs, those that ended, FLOPs and seconds of what is left; a run counts in one part."""

    part: str
    runs: int
    done: int
    flops_left: float
    """Exact; of runs of one trunk what they share is counted once."""
    seconds_left: float
    """Until the last run ends, on the workers of the plan; NaN where no run says how fast later ones will be."""
    later: tuple[float, ...]
    """FLOPs of runs not in `runs`, since a forecast has yet to choose their size; in the FLOPs and seconds left."""


@dataclass(frozen=True)
class StudyPlan:
    """The parts of a study that a call would train, in that order."""

    study: str
    scale: str
    workers: int
    parts: tuple[PartPlan, ...]
    measured: bool
    """Whether the times are of this machine."""

    @property
    def flops_left(self) -> float:
        """Of all parts."""
        return sum(p.flops_left for p in self.parts)

    @property
    def seconds_left(self) -> float:
        """Of all parts, one after another."""
        return sum(p.seconds_left for p in self.parts)

    def to_json(self) -> dict[str, Any]:
        """`{"study", "scale", "workers", "rates_measured", "flops_left", "seconds_left", "parts": [{"part", "runs",
        "done", "flops_left", "seconds_left", "later": [FLOPs]}]}`."""
        return {
            "study": self.study,
            "scale": self.scale,
            "workers": self.workers,
            "rates_measured": self.measured,
            "flops_left": self.flops_left,
            "seconds_left": self.seconds_left,
            "parts": [{**vars(p), "later": list(p.later)} for p in self.parts],
        }


def plan_study(
    study: Study, options: Options, *, calibrate: str = "never", say: Callable[[str], None] = lambda text: None
) -> StudyPlan:
    """What `study.reproduce(options)` would train, from the study's folder as it is; nothing is written to it.

    Args:
        study: of `get_study`.
        options: scale, folder, parts, workers.
        calibrate: as of `sweeps.run.plan_sweep`.
        say: told that a measurement begins.
    """
    workers = options.workers or cores()
    compiled = False if options.scale == "smoke" else None
    store = options.out / "store"
    seen: dict[str, PlanRow] = {}
    parts, measured = [], True
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file in sorted(options.out.glob("sweep-*.yaml")):
            shutil.copy(file, folder)
        for section in study.ahead(replace(options, out=folder, quiet=True), store):
            rows: dict[str, PlanRow] = {}
            for sweep in section.sweeps:
                found = plan_sweep(sweep, store, workers=workers, calibrate=calibrate, compile_trials=compiled, say=say)
                measured &= found.measured
                rows.update((r.run_id, r) for r in found.rows if r.run_id is not None and r.run_id not in seen)
            seen |= rows
            parts.append(_part_plan(section, list(rows.values()), list(seen.values()), workers))
    return StudyPlan(study.name, options.scale, workers, tuple(parts), measured)


def _part_plan(section: Section, rows: Sequence[PlanRow], seen: Sequence[PlanRow], workers: int) -> PartPlan:
    """A section counted by its rows; `seen` are all rows up to it, whose pace its later runs will have."""
    left = [r for r in rows if r.status not in ("finished", "diverged")]
    seconds = [r.seconds for r in left]
    if section.later and seen:
        # As long a FLOP as with the largest runs there are; those of targets are larger yet.
        largest = sorted(seen, key=lambda r: r.flops)[-max(1, len(seen) // 4) :]
        pace = sum(r.seconds for r in largest) / sum(r.flops for r in largest)
        seconds += [pace * flops for flops in section.later]
    return PartPlan(
        part=section.part,
        runs=len(rows),
        done=len(rows) - len(left),
        flops_left=sum(r.flops_marginal for r in left) + sum(section.later),
        seconds_left=math.nan if section.later and not seen else wall_seconds(seconds, workers),
        later=section.later,
    )
