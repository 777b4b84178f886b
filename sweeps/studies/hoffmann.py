"""Hoffmann et al. 2022 (arXiv 2203.15556) at small scale: the compute-optimal frontier of a decoder and an encoder.

Runs both isoFLOP sweeps, fits the frontier by every approach under every convention, predicts the loss of the optimum
at three times the largest budget, registers the prediction, trains it, scores it, draws the figures, writes the page.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.accounting import COSTS, COUNTS
from scaling.provenance import environment, version
from scaling.store import Store, compact
from sweeps.studies.base import Options, Section, Study, launch

if TYPE_CHECKING:
    from analysis.types import FrontierSet
    from sweeps.studies.closed_loop import Forecast

TARGET_FACTOR = 3.0
"""The prediction's budget over the largest that was fitted."""

LEVEL = 0.9
SWEEPS = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Family:
    """One arm of the study: its name and its sweep file within the study's folder."""

    name: str
    sweep_file: Path
    sweep_name: str
    top_budget: float

    @property
    def where(self) -> str:
        """Its rows in the store."""
        return f"sweep == '{self.sweep_name}'"


class Hoffmann(Study):
    """See the module."""

    name = "hoffmann"
    summary = "compute-optimal frontier of a decoder and an encoder, predicted at 3x the budget and scored"
    source = "Hoffmann et al. 2022 (arXiv 2203.15556)"

    def ahead(self, options: Options, store: Path) -> list[Section]:
        """See `Study.ahead`: the sweeps of both families, then their targets."""
        from sweeps.definition import load_sweep
        from sweeps.studies.closed_loop import standing

        families = _families(options)
        chosen, later = [], []
        for family in families:
            flops = TARGET_FACTOR * family.top_budget
            made = standing(store, family.sweep_file, flops) if store.exists() else None
            if made is None:
                later.append(flops)
            else:
                chosen.append(load_sweep(family.sweep_file, made.overrides))
        sweeps = tuple(load_sweep(f.sweep_file) for f in families)
        return [Section("sweeps", sweeps), Section("predictions", tuple(chosen), tuple(later))]

    def reproduce(self, options: Options) -> dict[str, Any]:
        """See `Study.reproduce`."""
        from sweeps.definition import load_sweep

        started = time.monotonic()
        options.out.mkdir(parents=True, exist_ok=True)
        families = _families(options)
        store = options.out / "store"
        unfinished = {
            "study": self.name,
            "scale": options.scale,
            "complete": False,
            "reason": "time ran out; call again",
        }
        if not launch([load_sweep(f.sweep_file) for f in families], options, options.seconds):
            return unfinished
        options.say("fitting")
        frontiers = {f.name: _frontier(store, f, options) for f in families}
        forecasts = {f.name: _forecast(store, f, options) for f in families}
        targets = [load_sweep(f.sweep_file, forecasts[f.name].overrides) for f in families
                   if forecasts[f.name].target is not None]  # fmt: skip
        left = None if options.seconds is None else options.seconds - (time.monotonic() - started)
        if targets and not launch(targets, options, left):
            return unfinished
        result = _results(self, options, families, store, frontiers, forecasts)
        result["seconds"] = round(time.monotonic() - started, 1)
        opened = Store.open(store)
        result["failures"] = {i: why for i, why in opened.failed().items() if i not in opened.done()}
        _draw(options, families, store, frontiers)
        compact(Store.open(store, write=True))
        (options.out / "fits.json").write_text(json.dumps(result, indent=1) + "\n")
        from sweeps.studies.hoffmann_page import write_page

        write_page(options.out, result)
        return result


STUDY = Hoffmann()


def _families(options: Options) -> list[Family]:
    """Copies the study's sweep files into its folder and reads them."""
    from sweeps.definition import load_sweep

    found = []
    for name in ("decoder", "encoder"):
        source = SWEEPS / f"hoffmann-{name}-{options.scale}.yaml"
        target = options.out / f"sweep-{name}.yaml"
        if not target.exists():
            shutil.copyfile(source, target)
        sweep = load_sweep(target)
        budgets = sweep.design.budgets  # type: ignore[attr-defined]
        found.append(Family(name, target, sweep.name, max(budgets)))
    return found


def _frontier(store: Path, family: Family, options: Options) -> FrontierSet:
    from analysis import frontier

    return frontier(store, where=family.where, counts=COUNTS, costs=COSTS, level=LEVEL, bootstrap=options.draws)


def _forecast(store: Path, family: Family, options: Options) -> Forecast:
    from sweeps.studies.closed_loop import Forecast, forecast, register, standing

    flops = TARGET_FACTOR * family.top_budget
    before = standing(store, family.sweep_file, flops)
    if before is not None:
        return before
    made = forecast(store, family.sweep_file, flops, level=LEVEL, bootstrap=options.draws)
    if made.prediction is None:
        options.say(f"{family.name}: {made.reason}")
        return Forecast(flops, None, None, made.reason)
    identity = register(store, family.sweep_file, made)
    options.say(f"{family.name}: registered prediction {identity}: loss {made.prediction.loss!r} at {flops:.3g} FLOPs")
    return made


def _results(
    study: Study,
    options: Options,
    families: list[Family],
    store: Path,
    frontiers: dict[str, FrontierSet],
    forecasts: dict[str, Forecast],
) -> dict[str, Any]:
    from analysis import fit
    from sweeps.studies.closed_loop import outcomes

    scored = {o.entry.sweep: o.to_json() for o in outcomes(store)}
    rows = Store.open(store).rows()
    return {
        "study": study.name,
        "scale": options.scale,
        "complete": True,
        "source": study.source,
        "version": version(),
        "environment": environment(),
        "level": LEVEL,
        "families": {
            f.name: {
                "sweep": f.sweep_name,
                "runs": _runs(rows[rows.sweep == f.sweep_name]),
                "frontier": frontiers[f.name].to_json(),
                "fit": fit(
                    store, law="chinchilla", where=f.where, count="non_embedding", level=LEVEL, bootstrap=options.draws
                ).to_json(),
                "target_flops": forecasts[f.name].flops,
                "forecast_reason": forecasts[f.name].reason if f.sweep_name not in scored else "",
                "prediction": scored.get(f.sweep_name),
            }
            for f in families
        },
    }


def _runs(rows: Any) -> dict[str, Any]:
    finished = rows[rows.status == "finished"]
    return {
        "finished": len(finished),
        "diverged": int((rows.status == "diverged").sum()),
        "flops": float(finished.flops_exact.sum()),
        "core_seconds": round(float(finished.wall_s.sum()), 1),
        "seeds": int(finished.seed.nunique()),
        "budgets": sorted(float(b) for b in finished.budget.dropna().unique()),
        "params": [int(finished.params_non_embedding.min()), int(finished.params_non_embedding.max())],
        "tokens": [int(finished.tokens.min()), int(finished.tokens.max())],
        "largest_epochs": round(float(finished.epochs.max()), 3),
        "loss_se": round(float(finished.loss_se.median()), 4),
        "digest": ", ".join(sorted(set(finished.data_digest))),
    }


def _draw(options: Options, families: list[Family], store: Path, frontiers: dict[str, FrontierSet]) -> None:
    from analysis.figures import plot
    from analysis.types import FrontierSet
    from sweeps.studies.closed_loop import COST, COUNT, outcomes

    folder = options.out / "figures"
    scored = {o.entry.sweep: o.drawn() for o in outcomes(store)}
    for family in families:
        chosen = [f for f in frontiers[family.name] if (f.count, f.cost) == (COUNT, COST)]
        plot(
            store,
            out=folder,
            count=COUNT,
            cost=COST,
            target=TARGET_FACTOR * family.top_budget,
            scored=[scored[family.sweep_name]] if family.sweep_name in scored else [],
            where=family.where,
            prefix=f"{family.name}-",
            title=f"{family.name.capitalize()}, {options.scale} scale",
            frontiers=FrontierSet(tuple(chosen), frontiers[family.name].agreement),
            level=LEVEL,
            bootstrap=options.draws,
        )
