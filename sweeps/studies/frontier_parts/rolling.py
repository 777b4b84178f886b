"""Rolling origin: each rung of an isoFLOP sweep is predicted from those below it, registered, and only then trained.

A rung's target is the compute-optimal run at its budget, in the shape nearest to the predicted N*, with two seeds whose
mean loss is what was predicted. Beyond the largest budget stand two more, both predicted from all rungs. A budget with
runs in the store before a forecast was registered stays without one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.where import select_rows
from scaling.store import Store
from sweeps.definition import Sweep, load_sweep
from sweeps.run import prepare_sweep
from sweeps.studies.base import Options, launch
from sweeps.studies.closed_loop import Forecast, forecast, outcomes, register, standing
from sweeps.studies.part import LEVEL
from sweeps.studies.parts import touched

if TYPE_CHECKING:
    from sweeps.studies.closed_loop import Outcome

FIRST = 2
"""Rungs below the first forecast: two budgets are the fewest that show how loss and size move with compute."""
BEYOND = {"smoke": (1.5,), "toy": (2.5, 10.0), "full": (2.5, 10.0)}
"""Targets beyond the sweep by scale, as factors on its largest budget; the nearer one comes hours before the other."""
SEEDS = (0, 1)
"""Of a target's runs: their mean is what is predicted."""
REFUSALS = "forecasts.json"
"""In the study's folder: why a budget has no forecast, where one was tried; it is not tried again."""
TRAINED = "its runs were in the store before a forecast was registered"


@dataclass(frozen=True)
class Family:
    """An isoFLOP sweep, predicted rung by rung, and the sweeps that repeat some of its runs with other seeds."""

    name: str
    main: Sweep
    repeats: tuple[Sweep, ...] = ()
    factors: tuple[float, ...] = BEYOND["toy"]
    """Targets beyond the sweep, on its largest budget."""
    rungs: bool = True
    """Whether its own rungs are predicted too."""

    @classmethod
    def of(
        cls, folder: Path, name: str, repeats: Sequence[str] = (), scale: str = "toy", *, rungs: bool = True
    ) -> Family:
        """From the sweep files in a study's folder; without its own rungs, only the nearest target beyond them."""
        main, *others = (load_sweep(folder / f"sweep-{n}.yaml") for n in (name, *repeats))
        return cls(name, main, tuple(others), BEYOND[scale] if rungs else BEYOND[scale][:1], rungs)

    @property
    def file(self) -> Path:
        """Of the sweep."""
        assert self.main.file is not None
        return self.main.file

    @property
    def budgets(self) -> tuple[float, ...]:
        """Its rungs, exact FLOPs, ascending."""
        return tuple(sorted(_budgets(self.main)))

    @property
    def beyond(self) -> tuple[float, ...]:
        """Budgets of the targets that no rung reaches."""
        return tuple(float(f"{self.budgets[-1] * factor:.6g}") for factor in self.factors)

    @property
    def targets(self) -> tuple[float, ...]:
        """Every budget that is predicted."""
        return (*self.predicted, *self.beyond)

    @property
    def predicted(self) -> tuple[float, ...]:
        """The rungs that are predicted."""
        return self.budgets[FIRST:] if self.rungs else ()

    def at(self, budget: float) -> list[Sweep]:
        """The sweeps cut down to one rung; those that do not reach it are left out."""
        found = []
        for sweep in (self.main, *self.repeats):
            if budget in _budgets(sweep):
                assert sweep.file is not None
                found.append(load_sweep(sweep.file, [f"design.budgets=[{budget!r}]"]))
        return found

    def runs(self, budgets: Iterable[float]) -> set[str]:
        """Ids of the runs of some rungs, repeats among them."""
        sweeps = [s for b in budgets for s in self.at(b)]
        return {w.trial.run_id(ready.digest) for ready in map(prepare_sweep, sweeps) for w in ready.wanted}

    def below(self, store: Store, flops: float) -> str:
        """The filter of the rows of the rungs below a budget."""
        wanted = self.runs(b for b in self.budgets if b < flops)
        names = " or ".join(f"sweep == '{s.name}'" for s in (self.main, *self.repeats))
        by_name = f"({names}) and budget < {flops:g}"
        rows = store.rows()
        rows = rows[rows.status != "failed"]
        mine = set(rows.run_id) & wanted
        # A run that a target asked for first stands under the target's name.
        return by_name if set(rows.run_id[select_rows(rows, by_name)]) == mine else f"run_id in {sorted(mine)}"


def _budgets(sweep: Sweep) -> tuple[float, ...]:
    found: tuple[float, ...] = sweep.design.budgets  # type: ignore[attr-defined]
    return found


@dataclass(frozen=True)
class Target:
    """A budget that is predicted: its outcome where a forecast stands in the ledger, else why there is none."""

    family: str
    flops: float
    fitted: float
    """The largest budget below it that is fitted."""
    outcome: Outcome | None
    reason: str = ""

    @property
    def state(self) -> str:
        """`scored`, `registered` (not trained yet), `not predicted` or `to come`."""
        if self.outcome is None:
            return "not predicted" if self.reason else "to come"
        return "registered" if self.outcome.score is None else "scored"


def targets(family: Family, store: Path) -> list[Target]:
    """Every budget of a family that is predicted, ascending, as the store has it now."""
    opened = Store.open(store)
    made = {o.entry.target.flops: o for o in outcomes(store) if o.entry.sweep == family.main.name}
    refused = refusals(store.parent).get(family.main.name, {})
    trained = _trained(opened) if touched(family.main, opened.rows()) else set()
    found = []
    for flops in family.targets:
        reason = refused.get(f"{flops:g}", "")
        if flops not in made and not reason and trained and family.runs([flops]) & trained:
            reason = TRAINED
        fitted = max(b for b in family.budgets if b < flops)
        found.append(Target(family.name, flops, fitted, made.get(flops), "" if flops in made else reason))
    return found


def train(family: Family, options: Options, seconds: float | None = None) -> bool:
    """Trains a family's rungs in ascending order, each with its target, and registers every forecast before its runs.

    After the last rung the targets beyond are registered, not trained. False where time ran out first.
    """
    clock = Clock(seconds)
    store = options.out / "store"
    Store.create(store)
    for budget in family.budgets:
        if clock.over:
            return False
        made = [foretell(family, budget, options)] if budget in family.predicted else []
        if not launch([*family.at(budget), *_targets(family, made)], options, clock.left):
            return False
    for flops in family.beyond:
        foretell(family, flops, options)
    return True


def train_beyond(families: Sequence[Family], options: Options, seconds: float | None = None) -> bool:
    """Trains the targets beyond the sweeps whose rungs are all there, the cheapest first; False where time ran out."""
    clock = Clock(seconds)
    store = options.out / "store"
    Store.create(store)
    ready = [f for f in families if _ready(f, store)]
    made = [(flops, f, foretell(f, flops, options)) for f in ready for flops in f.beyond]
    for _, family, one in sorted(made, key=lambda m: m[0]):
        sweeps = _targets(family, [one])
        if sweeps and not launch(sweeps, options, clock.left):
            return False
    return True


def foretold(family: Family, budgets: Sequence[float], store: Path) -> tuple[list[Sweep], tuple[float, ...]]:
    """The runs that forecasts for some budgets ask for, and FLOPs of those for which there is no forecast yet."""
    if not store.exists():
        return [], tuple(flops for flops in budgets for _ in SEEDS)
    known = [t for t in targets(family, store) if t.flops in budgets]
    made = [standing(store, family.file, t.flops, seeds=SEEDS) for t in known if t.outcome is not None]
    later = tuple(t.flops for t in known if t.state == "to come" for _ in SEEDS)
    return _targets(family, [m for m in made if m is not None]), later


def foretell(family: Family, flops: float, options: Options) -> Forecast:
    """The forecast that stands for a budget, or a new one, registered; without one where the budget is trained."""
    store = options.out / "store"
    before = standing(store, family.file, flops, seeds=SEEDS)
    if before is not None:
        return before
    refused = refusals(options.out).get(family.main.name, {}).get(f"{flops:g}")
    if refused is not None:
        return Forecast(flops, None, None, refused)
    opened = Store.open(store)
    trained = _trained(opened)
    if family.runs(b for b in family.budgets if b >= flops) & trained:
        return _refuse(family, Forecast(flops, None, None, TRAINED), options)
    where = family.below(opened, flops)
    made = forecast(store, family.file, flops, level=LEVEL, where=where, seeds=SEEDS, bootstrap=options.draws)
    if made.prediction is None:
        return _refuse(family, made, options)
    if set(made.run_ids) & trained:
        return _refuse(family, Forecast(flops, None, None, TRAINED), options)
    identity = register(store, family.file, made)
    options.say(f"{family.name}: registered {identity}: loss {made.prediction.loss!r} at {flops:.3g} FLOPs")
    return made


def refusals(folder: Path) -> dict[str, dict[str, str]]:
    """Why budgets have no forecast, by sweep and budget."""
    file = folder / REFUSALS
    found: dict[str, dict[str, str]] = json.loads(file.read_text()) if file.exists() else {}
    return found


def _refuse(family: Family, made: Forecast, options: Options) -> Forecast:
    """Keeps the first reason why a budget has no forecast."""
    known = refusals(options.out)
    mine = known.setdefault(family.main.name, {})
    if mine.setdefault(f"{made.flops:g}", made.reason) == made.reason:
        (options.out / REFUSALS).write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        options.say(f"{family.name}: {made.flops:.3g} FLOPs: not predicted: {made.reason}")
    return made


def _targets(family: Family, made: Iterable[Forecast]) -> list[Sweep]:
    return [load_sweep(family.file, f.overrides) for f in made if f.target is not None]


def _trained(store: Store) -> set[str]:
    return {*store.done(), *store.failed()}


def _ready(family: Family, store: Path) -> bool:
    """Whether every rung's runs are there."""
    opened = Store.open(store)
    done: Mapping[str, str] = opened.done()
    return touched(family.main, opened.rows()) and family.runs(family.budgets) <= set(done)


class Clock:
    """Seconds left of those given; None: no end."""

    def __init__(self, seconds: float | None) -> None:
        self.end = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Seconds; negative where time is over."""
        return None if self.end is None else self.end - time.monotonic()

    @property
    def over(self) -> bool:
        """Whether none are left."""
        return self.left is not None and self.left <= 0
