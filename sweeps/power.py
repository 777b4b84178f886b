"""What a sweep can resolve, before it runs: its fit is simulated on a known loss surface with seed noise.

Each simulated sweep has the plan's own sizes, tokens and FLOPs, losses (E + A N^−alpha + B D^−beta)·exp(sigma z), and
goes through the same `analysis.frontier` as real rows, intervals included. A difference is called resolved where eight
sweeps in ten would show it: delta ≥ (z_level + z_0.8)/z_level half-widths (Cohen 1988, Statistical Power Analysis).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.accounting import COUNTS
from scaling.errors import InputError, ScalingError
from sweeps.plan import Plan, PlanRow

if TYPE_CHECKING:
    import pandas as pd

    from analysis.table import Runs

APPROACHES = ("isoflop", "parametric", "vpnls")
"""The envelope needs training curves, which a plan has not."""

SIMULATIONS = 16
DRAWS = 100

DEFAULT_NOISE = 0.01
"""Noise of a run's log loss where no rows tell it: about the residuals of the committed toy study."""

REFERENCE_FLOPS = 1e20
"""Where the published surface is read: in the range of the runs it was fitted to."""

LEAST_ROWS = 8
"""A store with fewer finished rows than this fits no surface worth simulating."""

EFFECTS: Mapping[str, float] = {
    "a difference of .05 between approaches on these rows": 0.05,
    "a difference of .05 from another sweep like this one": 0.05,
    "a difference of .10 from another sweep like this one": 0.10,
    "Kaplan's exponent (.73) from Hoffmann's (.50)": 0.23,
}
_BETWEEN, _OTHER_05, _OTHER_10, _PUBLISHED = EFFECTS


@dataclass(frozen=True)
class Surface:
    """L(N, D) = E + A N^−alpha + B D^−beta, nats, and in words where it is from."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float
    source: str

    def loss(self, params: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Loss of runs of these sizes and tokens."""
        return np.asarray(self.E + self.A * params**-self.alpha + self.B * tokens**-self.beta)


@dataclass(frozen=True)
class Resolved:
    """An exponent N* ∝ C^a as one approach would find it: the value on noiseless rows and the typical interval.

    `smallest` is the least difference of another such sweep that eight in ten would show; `failed` the share of
    simulated sweeps that gave no interval; `reason` why there are no numbers at all.
    """

    approach: str
    value: float
    ci: tuple[float, float]
    half_width: float
    smallest: float
    failed: float
    reason: str = ""


@dataclass(frozen=True)
class Effect:
    """Whether an effect could be seen, by an approach (or a pair of them)."""

    effect: str
    approach: str
    size: float
    smallest: float
    resolved: bool


@dataclass(frozen=True)
class Power:
    """What a sweep can resolve. `parameters` maps the surface's parameters to their typical interval (parametric)."""

    surface: Surface
    noise: float
    noise_from: str
    count: str
    level: float
    simulations: int
    exponents: tuple[Resolved, ...]
    parameters: Mapping[str, tuple[float, float]]
    effects: tuple[Effect, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as plain data; numbers that are not known are NaN, which prints as null."""
        return asdict(self)

    @property
    def lines(self) -> list[str]:
        """What it means, for people."""
        found = [
            f"surface: {self.surface.source}",
            f"noise of a run's log loss: {self.noise:.2%} ({self.noise_from}); {self.simulations} simulated sweeps,"
            f" intervals at {self.level:.0%}, N = {self.count.replace('_', ' ')}",
        ]
        for r in self.exponents:
            if r.reason:
                found.append(f"{r.approach}: no exponent: {r.reason}")
                continue
            found.append(
                f"{r.approach}: a = {r.value:.3f} would come with [{r.ci[0]:.3f}, {r.ci[1]:.3f}]"
                + (f"; {r.failed:.0%} of such sweeps give no interval" if r.failed else "")
            )
        for name, ci in self.parameters.items():
            found.append(f"parametric: {name} = {getattr(self.surface, name):.3g} would come with [{_ends(ci)}]")
        for effect in dict.fromkeys(e.effect for e in self.effects):
            mine = [e for e in self.effects if e.effect == effect]
            able = [e.approach for e in mine if e.resolved]
            verdict = f"resolved by {', '.join(able)}" if able else "CANNOT be resolved"
            least = ", ".join(f"{e.smallest:.2f} ({e.approach})" for e in mine)
            found.append(f"{effect}: {verdict}; the least that can: {least}")
        return found


def _ends(ci: tuple[float, float]) -> str:
    return ", ".join(f"{end:.3g}" if math.isfinite(end) else "unknown" for end in ci)


def power(
    plan: Plan,
    *,
    surface: str | Path | Surface | None = None,
    noise: float | None = None,
    count: str = "non_embedding",
    approaches: Sequence[str] = APPROACHES,
    level: float = 0.9,
    simulations: int = SIMULATIONS,
    seed: int = 0,
    own_store: Path | None = None,
) -> Power:
    """Simulates a plan's fit.

    Args:
        plan: the sweep's plan.
        surface: a table or store whose fitted surface is taken; None: the sweep's own store where that has rows
            enough, else Hoffmann's law with the constants of Besiroglu et al. 2024 moved to the plan's range.
        noise: standard deviation of a run's log loss; None: that of the rows the surface was fitted to.
        count: what N counts.
        approaches: of `analysis.frontier`.
        level: nominal coverage of the intervals.
        simulations: simulated sweeps.
        seed: of the simulated noise.
        own_store: the sweep's own store, where it exists.

    Raises:
        InputError: no such count, a noise that is not positive, or a surface that cannot be fitted.
    """
    from analysis.frontiers import frontier

    if count not in COUNTS:
        raise InputError(f"there is no count {count!r}; there are {', '.join(COUNTS)}")
    if noise is not None and not 0.0 < noise < 1.0:
        raise InputError(f"--noise {noise} is no standard deviation of a log loss; 0.01 is usual")
    if simulations < 2:
        raise InputError(f"{simulations} simulated sweeps tell nothing; 16 are usual")
    chosen, found_noise, noise_from = _surface(plan, surface, count, own_store)
    if noise is not None:
        found_noise, noise_from = noise, "as given"
    frame = _design(plan.rows, count)
    clean = chosen.loss(frame["params"].to_numpy(), frame["tokens"].to_numpy())
    rng = np.random.default_rng(seed)
    truth = frontier(frame.assign(loss=clean), list(approaches), bootstrap=0)
    simulated = [
        frontier(
            frame.assign(loss=clean * np.exp(found_noise * rng.standard_normal(clean.size))),
            list(approaches),
            bootstrap=DRAWS,
            level=level,
            seed=seed + number,
        )
        for number in range(simulations)
    ]
    exponents = tuple(_resolved(name, truth[name], [s[name] for s in simulated], level) for name in approaches)
    return Power(
        surface=chosen,
        noise=found_noise,
        noise_from=noise_from,
        count=count,
        level=level,
        simulations=simulations,
        exponents=exponents,
        parameters=_parameters(chosen, simulated, approaches),
        effects=tuple(_effects(exponents, simulated, level)),
    )


def _design(rows: Sequence[PlanRow], count: str) -> pd.DataFrame:
    """The plan as a table without losses."""
    import pandas as pd

    return pd.DataFrame(
        {
            "params": [float(row.params[count]) for row in rows],
            "tokens": [float(row.tokens) for row in rows],
            "flops": [row.flops for row in rows],
            "budget": [row.budget if row.budget is not None else math.nan for row in rows],
        }
    )


def _surface(
    plan: Plan, given: str | Path | Surface | None, count: str, own_store: Path | None
) -> tuple[Surface, float, str]:
    """The surface to simulate on, the noise of a run, and in words where the noise is from."""
    if isinstance(given, Surface):
        return given, DEFAULT_NOISE, "the usual figure"
    if given is not None:
        return _fitted(_rows(plan, given), given, count)
    if own_store is not None and (own_store / "format.json").exists():
        try:
            runs = _rows(plan, own_store)
            if len(runs) >= LEAST_ROWS:
                return _fitted(runs, own_store, count)
        except ScalingError:
            pass  # An own store that fits nothing yet is no mistake of the user's.
    return published(plan, count), DEFAULT_NOISE, "about the residuals of this project's toy study; --noise sets it"


def _rows(plan: Plan, table: str | Path) -> Runs:
    """The table's rows that are most like the plan's: of the same sweep, else of the same objective."""
    from analysis.table import read_table

    objective = f"objective == '{plan.rows[0].objective}'"
    if not Path(table).is_dir():
        return read_table(table)
    try:
        same = read_table(table, where=f"{objective} and sweep == '{plan.sweep}'")
        if len(same) >= LEAST_ROWS:
            return same
    except ScalingError:
        pass
    return read_table(table, where=objective)


def _fitted(runs: Runs, table: str | Path, count: str) -> tuple[Surface, float, str]:
    from analysis.fitting import fit
    from analysis.frontiers import frontier

    found = fit(runs, "chinchilla", count=count, bootstrap=0)
    values = found.values
    if not all(math.isfinite(v) for v in values.values()):
        raise InputError(f"{table}: no surface to simulate on: the fit is {found.status.value}, {found.reason}")
    surface = Surface(
        **values, source=f"fitted to {len(runs)} runs of {table} ({found.status.value}), N = {count.replace('_', ' ')}"
    )
    repeated = _seed_noise(runs, count)
    if repeated is not None:
        return surface, repeated, f"between seeds in {table}"
    parabolas = frontier(runs, ["isoflop"], counts=count, bootstrap=0)["isoflop"].diagnostics.get("noise_relative")
    each = [s for s in (found.sigma, parabolas) if isinstance(s, float) and math.isfinite(s) and s > 0]
    if not each:
        return surface, DEFAULT_NOISE, "the usual figure: the rows leave no residual"
    return surface, math.sqrt(sum(s * s for s in each) / len(each)), f"residuals about the fits to {table}"


def _seed_noise(runs: Runs, count: str) -> float | None:
    """Pooled standard deviation of the log loss of runs that differ by their seed alone; None where there are few."""
    cells: dict[tuple[float, float], list[float]] = {}
    for n, d, loss in zip(runs.params(count), runs.tokens, runs.loss, strict=True):
        cells.setdefault((float(n), float(d)), []).append(math.log(loss))
    free = sum(len(c) - 1 for c in cells.values())
    if free < 3:
        return None
    return math.sqrt(sum(float(np.var(c)) * len(c) for c in cells.values()) / free)


def published(plan: Plan, count: str) -> Surface:
    """Hoffmann's law with Besiroglu's constants (arXiv 2404.10102), moved to the plan's sizes and tokens.

    N and D are rescaled so that the law's optimum at REFERENCE_FLOPS lies at the plan's geometric means: exponents,
    floor and the loss there stay those of the paper.
    """
    from analysis.laws import get_law

    law: Any = get_law("chinchilla")
    constants = dict(law.instances["besiroglu_2024"])
    best = law.frontier(constants, REFERENCE_FLOPS)
    n = math.exp(np.mean([math.log(row.params[count]) for row in plan.rows]))
    d = math.exp(np.mean([math.log(row.tokens) for row in plan.rows]))
    return Surface(
        E=constants["E"],
        A=constants["A"] * (float(best.params) / n) ** -constants["alpha"],
        alpha=constants["alpha"],
        B=constants["B"] * (float(best.tokens) / d) ** -constants["beta"],
        beta=constants["beta"],
        source=f"Besiroglu et al. 2024 (arXiv 2404.10102), its optimum at {REFERENCE_FLOPS:g} FLOPs moved to"
        f" N = {n:.3g}, D = {d:.3g}, the middle of this plan",
    )


def _resolved(name: str, truth: Any, simulated: Sequence[Any], level: float) -> Resolved:
    """One approach's typical interval: medians over the simulated sweeps of how far its ends lie from its value."""
    known = [s.N_exponent for s in simulated if all(map(math.isfinite, s.N_exponent.ci))]
    failed = 1.0 - len(known) / len(simulated)
    if not truth.known or not known:
        reason = truth.reason or next((s.reason for s in simulated if s.reason), "no simulated sweep gave an interval")
        return Resolved(name, math.nan, (math.nan, math.nan), math.nan, math.nan, failed, reason)
    value = truth.N_exponent.value
    below = float(np.median([e.value - e.ci[0] for e in known]))
    above = float(np.median([e.ci[1] - e.value for e in known]))
    half = float(np.median([(e.ci[1] - e.ci[0]) / 2 for e in known]))
    smallest = _smallest(math.sqrt(2.0) * half, level)
    return Resolved(name, value, (value - below, value + above), half, smallest, failed)


def _smallest(half_width: float, level: float) -> float:
    """The least difference that eight sweeps in ten show, of an interval of this half-width."""
    z = NormalDist().inv_cdf(0.5 + level / 2)
    return half_width * (z + NormalDist().inv_cdf(0.8)) / z


def _parameters(
    surface: Surface, simulated: Sequence[Any], approaches: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Typical intervals of E, alpha and beta by the parametric approach; amplitudes hang on the unit of N and D."""
    if "parametric" not in approaches:
        return {}
    found = {}
    fits = [s["parametric"].surface for s in simulated if s["parametric"].surface is not None]
    for name in ("E", "alpha", "beta"):
        known = [f.params[name] for f in fits if all(map(math.isfinite, f.params[name].ci))]
        if known:
            below = float(np.median([e.value - e.ci[0] for e in known]))
            above = float(np.median([e.ci[1] - e.value for e in known]))
            value = getattr(surface, name)
            found[name] = (value - below, value + above)
    return found


def _effects(exponents: Sequence[Resolved], simulated: Sequence[Any], level: float) -> list[Effect]:
    found = []
    widths: dict[str, list[float]] = {}
    for sweep in simulated:
        for pair in sweep.agreement["pairs"]:
            lo, hi = pair["difference"].ci
            if math.isfinite(lo) and math.isfinite(hi):
                widths.setdefault(f"{pair['a']} − {pair['b']}", []).append((hi - lo) / 2)
    for pair_name, each in widths.items():
        found.append(_effect(_BETWEEN, pair_name, _smallest(float(np.median(each)), level)))
    for r in exponents:
        if not r.reason:
            found.append(_effect(_OTHER_05, r.approach, r.smallest))
            found.append(_effect(_OTHER_10, r.approach, r.smallest))
            found.append(_effect(_PUBLISHED, r.approach, r.smallest / math.sqrt(2.0)))
    return sorted(found, key=lambda e: list(EFFECTS).index(e.effect))


def _effect(effect: str, approach: str, smallest: float) -> Effect:
    return Effect(effect, approach, EFFECTS[effect], smallest, smallest <= EFFECTS[effect])
