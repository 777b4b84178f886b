"""Forecasts that could have been made of published sweeps: fitted below a budget, held against what came above it.

The interval of a prediction holds the noise of the runs and the uncertainty of the law's parameters, not the error of
its form; simulated sweeps cannot show that error, since there the form is given. Published sweeps can.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis import predict, read_table
from analysis.approaches.base import Task
from analysis.best_loss import best_losses
from analysis.choosing import choose
from analysis.frontiers import draws_of
from analysis.types import Estimate, Prediction, Status

DRAWS = 200
FEWEST = 3
"""Budgets below the first forecast."""
BANDS = (2.5, 10.0, 40.0)
"""Upper ends of the groups of forecasts, as factors over the largest fitted budget."""
DECADE = 10.0
ROOT = Path(__file__).resolve().parents[2]
STUDY = "results/frontier-toy"
OURS = {"decoder": ("decoder-seeds", "decoder-upper-seeds"), "encoder": ("encoder-seeds",)}
"""The families of that study, and the sweeps that repeat some of their runs with other seeds."""
COLUMNS = ["params", "tokens", "flops", "loss"]
LAWS = ("chinchilla", "kaplan_joint")


@dataclass(frozen=True)
class Sweep:
    """An isoFLOP sweep: a table or a store, the budgets in it, and what its N counts."""

    name: str
    table: Any
    budgets: tuple[float, ...]
    count: str = "total"
    where: str = ""

    def below(self, budget: float) -> dict[str, Any]:
        """The arguments by which `predict` sees the runs up to a budget."""
        if isinstance(self.table, pd.DataFrame):
            return {"table": self.table[self.table["flops"] <= budget * 1.001]}
        return {"table": self.table, "where": f"({self.where}) and budget <= {budget * 1.001:g}", "count": self.count}

    def best(self) -> list[float]:
        """The best loss of every budget: its parabola's minimum where that is interior, else the lowest loss."""
        runs = read_table(self.table, where=self.where or None)
        task = Task(runs, self.count, "exact", 0.9, draws_of(runs, draws=20, seed=0, scheme="auto"))
        found = best_losses(task)
        assert found is not None
        log_c, log_loss, _ = found
        return [float(np.exp(log_loss[np.argmin(np.abs(log_c - math.log(b)))])) for b in self.budgets]


class Forecast(NamedTuple):
    """One forecast and what came."""

    sweep: str
    factor: float
    law: Estimate
    power: Estimate
    last_two: float
    observed: float
    status: str
    bends: bool
    """Whether `predict` says that the best loss slows down less than along the law, and to reckon with a lower one."""

    @property
    def inside(self) -> bool:
        """Whether the law's interval holds what came."""
        return _holds(self.law.ci, self.observed)

    @property
    def parted(self) -> bool:
        """Whether the pure power law's guess lies outside the law's interval: `predict` warns then."""
        return not _holds(self.law.ci, self.power.value)

    @property
    def inside_either(self) -> bool:
        """Whether what came lies between the ends of both intervals together."""
        ends = (*self.law.ci, *self.power.ci)
        return _holds((min(ends), max(ends)), self.observed)


def table() -> str:
    """The tables, as Markdown."""
    found = [f for sweep in _sweeps() for f in forecasts(sweep)]
    head = [
        "# Forecasts of published sweeps by rolling origin",
        "",
        "Intervals are 90 %. They hold the noise of the runs and the uncertainty of the law's parameters, not the error"
        " of its form; simulated sweeps cannot show that, published ones can. Command:"
        " `python -m tests.benchmarks rolling` with the public tables under SCALING_TEST_DATA; a minute of one core.",
    ]
    return "\n".join([*head, "", *_best(found), "", *_runs(), ""])


def forecasts(sweep: Sweep) -> Iterator[Forecast]:
    """Every forecast of the best loss of a later budget, from the third budget on."""
    observed = sweep.best()
    for k in range(FEWEST, len(sweep.budgets)):
        last = sweep.budgets[k - 1]
        fitted = sweep.below(last)
        for j in range(k, len(sweep.budgets)):
            factor = sweep.budgets[j] / last
            if factor > BANDS[-1]:
                break
            made: Prediction = predict(**fitted, flops=sweep.budgets[j], bootstrap=DRAWS)
            if made.loss.known and {"power_law", "last_two"} <= set(made.baselines):
                guesses = made.baselines
                yield Forecast(
                    sweep.name, factor, made.loss, guesses["power_law"], guesses["last_two"].value, observed[j],
                    str(made.status), any("along the law by" in w for w in made.warnings),
                )  # fmt: skip


def _sweeps() -> Iterator[Sweep]:
    for family, repeats in OURS.items():
        main = (ROOT / STUDY / f"filters/{family}.txt").read_text().strip()
        where = " or ".join([f"({main})", *(f"sweep == 'frontier-{name}-toy'" for name in repeats)])
        budgets = {float(b) for b in read_table(ROOT / STUDY / "store", where=where).frame["budget"].dropna()}
        yield Sweep(f"this project's {family}", ROOT / STUDY / "store", tuple(sorted(budgets)), "non_embedding", where)
    file = _published("porian_owt2", "isoflop_points.csv")
    if file is None:
        return
    names = ("Kaplan's", "+ head counted", "+ short warmup", "+ matched decay", "tuned")
    frame = pd.read_csv(file)
    for setting, name in enumerate(names):
        own = frame[frame["setting"] == setting]
        yield Sweep(f"Porian, {name}", own[COLUMNS], tuple(sorted(own["flops"].unique())))


def _best(found: list[Forecast]) -> list[str]:
    lines = [
        "## The best loss of a budget",
        "",
        "Each isoFLOP sweep is fitted by `predict` (parametric, Hoffmann's law) up to its third, fourth, … budget, and"
        f" the best loss of each later budget, up to {BANDS[-1]:g} times the largest fitted, is forecast; what came is"
        " the minimum of that budget's parabola. Errors are predicted less observed. *Either*: between the lower and"
        " the upper end of the law's interval and the pure power law's together. Forecasts of one sweep share runs and"
        " targets: shares have no standard error, and sweeps of one text and family are not independent.",
        "",
        "| sweep | up to | forecasts | in the law's interval | in either | law: median error | pure power law | line"
        " through the last two budgets |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names = list(dict.fromkeys(f.sweep for f in found))
    for name in [*names, "all"]:
        for lower, upper in zip((1.0, *BANDS[:-1]), BANDS, strict=True):
            own = [f for f in found if name in ("all", f.sweep) and lower < f.factor <= upper * 1.001]
            if own:
                lines.append(f"| {name} | {upper:g}× | {len(own)} | {' | '.join(_worth(own))} |")
    lines += [
        "",
        "| fit | pure power law's guess | forecasts | in the law's interval | in either | law: median error |",
        "|---|---|---|---|---|---|",
    ]
    for fit, converged in (("converged", True), ("any other status", False)):
        for words, parted in (("inside the law's interval", False), ("outside: `predict` warns", True)):
            own = [f for f in found if f.parted is parted and (f.status == Status.CONVERGED) is converged]
            if own:
                lines.append(f"| {fit} | {words} | {len(own)} | {' | '.join(_worth(own)[:3])} |")
    lines += [
        "",
        "Over the fitted budgets a parabola through ln L over ln C says how the exponent of the best loss changes in a"
        " decade, another how it does along the law's frontier; told: it exceeds that, interval and all.",
        "",
        "| what `predict` says | fit | forecasts | in the law's interval | law's guess too high | law: median error |",
        "|---|---|---|---|---|---|",
    ]
    for words, way in (("reckon with a lower loss", True), ("nothing", False)):
        for fit, converged in (("converged", True), ("any other status", False)):
            own = [f for f in found if f.bends is way and (f.status == Status.CONVERGED) is converged]
            if own:
                inside, _, error, *_ = _worth(own)
                high = sum(f.law.value > f.observed for f in own)
                lines.append(f"| {words} | {fit} | {len(own)} | {inside} | {high} of {len(own)} | {error} |")
    return lines


def _holds(ends: tuple[float, float], value: float) -> bool:
    return ends[0] <= value <= ends[1]


def _worth(own: list[Forecast]) -> list[str]:
    def median(guess: Callable[[Forecast], float]) -> str:
        return f"{100 * float(np.median([guess(f) / f.observed - 1 for f in own])):+.1f} %"

    return [
        f"{sum(f.inside for f in own)} of {len(own)}",
        f"{sum(f.inside_either for f in own)} of {len(own)}",
        median(lambda f: f.law.value),
        median(lambda f: f.power.value),
        median(lambda f: f.last_two),
    ]


def _runs() -> list[str]:
    lines = [
        "## Single runs of the next decade",
        "",
        "Tables of runs of any N and D: laws are fitted to the runs below a compute, and every run of the decade above"
        " it is predicted with its interval, for computes half a decade apart (`analysis.choosing.choose` on the top"
        " decade of what is left).",
        "",
        "| table | law | fits | runs predicted | in their 90 % intervals | mean error | root mean square error |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, frame in _tables():
        flops = frame["flops"].to_numpy()
        top = flops.max()
        tried: dict[str, list[Any]] = {law: [] for law in LAWS}
        while top >= flops.min() * DECADE * 3:
            kept = frame[flops <= top * 1.001]
            for candidate in choose(kept, LAWS, bootstrap=100).candidates:
                if math.isfinite(candidate.log_rmse):
                    tried[candidate.law].append(candidate)
            top /= math.sqrt(DECADE)
        for law, records in tried.items():
            n = np.array([r.held_out for r in records])
            if not n.sum():
                continue
            share, bias = (np.average([getattr(r, a) for r in records], weights=n) for a in ("coverage", "bias"))
            rms = math.sqrt(np.average([r.log_rmse**2 for r in records], weights=n))
            worth = f"{share:.0%} | {100 * bias:+.1f} % | {100 * rms:.1f} %"
            lines.append(f"| {name} | {law} | {len(records)} | {n.sum()} | {worth} |")
    return lines


def _tables() -> Iterator[tuple[str, pd.DataFrame]]:
    file = _published("epoch_chinchilla", "svg_extracted_data.csv")
    if file is not None:
        frame = pd.read_csv(file).rename(columns={"Model Size": "params", "Training FLOP": "flops"})
        frame = frame.sort_values("loss").iloc[:-5]
        frame["tokens"] = frame["flops"] / 6 / frame["params"]
        yield "Hoffmann et al., read off by Besiroglu et al.", frame[COLUMNS]
    file = _published("scalebench", "farseer_scaling_law")
    if file is not None:
        frame = pd.concat([pd.read_parquet(f) for f in sorted(file.rglob("*.parquet"))], ignore_index=True)
        frame = frame.rename(columns={"N": "params", "D": "tokens"})
        frame["flops"] = 6 * frame["params"] * frame["tokens"]
        yield "Farseer", frame[COLUMNS]
    file = _published("misfitting", "scaling_results_last_ckpt_only.csv")
    if file is not None:
        frame = pd.read_csv(file).rename(columns={"N": "params", "D": "tokens", "C": "flops"})
        best = frame.loc[frame.groupby(["params", "tokens"])["loss"].idxmin()]
        yield "(Mis)Fitting, best rate of each", best[COLUMNS].reset_index(drop=True)


def _published(*parts: str) -> Path | None:
    folder = os.environ.get("SCALING_TEST_DATA")
    file = Path(folder, "tables", *parts) if folder else None
    return file if file is not None and file.exists() else None
