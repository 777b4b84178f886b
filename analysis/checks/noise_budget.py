"""Noise budget of an interval: what each source alone gives as standard deviation of the exponent of N* and of ln N*.

Each source is drawn by itself with its covariance of the log losses and the frontier refitted to every draw: a
parametric bootstrap (Davison and Hinkley 1997 §2.2) with one cause at a time. Sources: the finite held-out text (what
the runs share in it moves the floor alone, and so drops out), seeds with sigma(N, D), tuning (the gaps' own errors),
and the choice of form, which is no noise of the losses: the standard deviation of the estimates over approaches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.checks.base import Subject
from analysis.checks.evaluation import evaluation_covariance
from analysis.checks.refits import moved_frontier, moved_values, spread
from analysis.checks.tuning import TuningGaps
from analysis.types import Array, Frontier, Status, jsonable, text_table

if TYPE_CHECKING:
    from analysis.table import Runs

FORMS = ("isoflop", "parametric", "vpnls")
"""Approaches whose spread stands for the choice of form: those that need no curves."""
_DRAWS = 300


@dataclass(frozen=True)
class Source:
    """One source: standard deviations of the exponent of N* and of ln N*, NaN where not known, and where it is from."""

    name: str
    exponent: float
    log_params: float
    origin: str

    @property
    def known(self) -> bool:
        """Whether it could be measured."""
        return bool(np.isfinite(self.exponent))

    def to_json(self) -> dict[str, Any]:
        """Every field, plain."""
        return jsonable({name: getattr(self, name) for name in self.__dataclass_fields__})


@dataclass(frozen=True, repr=False)
class NoiseBudget:
    """Sources of the uncertainty of one frontier; `total` adds the known ones in quadrature.

    `interval` are the same two quantities as half the frontier's own interval over its normal quantile; `floor` is the
    relative standard deviation that all runs share through the held-out text, which only E takes up.
    """

    approach: str
    flops: float
    sources: tuple[Source, ...]
    interval: tuple[float, float]
    floor: float
    status: Status
    reason: str = ""

    @property
    def total(self) -> tuple[float, float]:
        """Standard deviations of the exponent and of ln N* over all known sources."""
        known = [s for s in self.sources if s.known]
        if not known:
            return float("nan"), float("nan")
        return (
            float(np.sqrt(sum(s.exponent**2 for s in known))),
            float(np.sqrt(sum(s.log_params**2 for s in known))),
        )

    @property
    def missing(self) -> tuple[str, ...]:
        """Sources that could not be measured; the total is then a lower bound."""
        return tuple(s.name for s in self.sources if not s.known)

    def to_json(self) -> dict[str, Any]:
        """`{"approach", "flops", "sources", "total", "interval", "floor", "missing", "status", "reason"}`."""
        pair = ("exponent", "log_params")
        return jsonable(
            {
                "approach": self.approach,
                "flops": self.flops,
                "sources": [s.to_json() for s in self.sources],
                "total": dict(zip(pair, self.total, strict=True)),
                "interval": dict(zip(pair, self.interval, strict=True)),
                "floor": self.floor,
                "missing": list(self.missing),
                "status": self.status.value,
                "reason": self.reason,
            }
        )

    def __repr__(self) -> str:
        rows = [[s.name, _show(s.exponent), _show(s.log_params), s.origin] for s in self.sources]
        rows.append(["total", *(_show(v) for v in self.total), "a lower bound" if self.missing else ""])
        rows.append(["bootstrap interval", *(_show(v) for v in self.interval), "as it stands"])
        lines = text_table(["source", "sd of exponent", f"sd of ln N* at {self.flops:.3g}", ""], rows)
        if self.status is not Status.CONVERGED:
            lines.append(f"{self.status}: {self.reason}")
        return "\n".join([f"noise budget of {self.approach}", *lines])


def _show(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else "not measured"


def noise_budget(
    subject: Subject, approach: str = "isoflop", *, gaps: TuningGaps | None = None, bootstrap: int = 200
) -> NoiseBudget:
    """The budget of a table's frontier by one approach.

    Args:
        subject: the table; rows that only belong to a grid should be left out of it.
        approach: of `frontier`.
        gaps: tuning gaps of the same rows, of `tuning_gaps`.
        bootstrap: draws of the frontier's own interval.
    """
    runs = subject.runs
    own = _frontier(subject, runs, approach, bootstrap)
    flops = float(subject.flops.max())
    nan = float("nan")
    if not own.known:
        return NoiseBudget(approach, flops, (), (nan, nan), nan, own.status, own.reason)
    refits = _Refits(subject, approach, flops)
    covariance, origin = evaluation_covariance(runs)
    sources = [refits.source("evaluation", covariance, origin)]
    shared = nan
    if covariance is not None and origin.startswith("per-document"):
        n = len(runs)
        shared = float(np.sqrt(max((covariance.sum() - np.trace(covariance)) / max(n * (n - 1), 1), 0.0)))
    if subject.seeds is not None:
        said = f"{subject.seeds.cells} repeated cells, sigma {subject.seed_sigma:.2%}"
        sources.append(refits.source("seeds", np.diag(subject.seeds.sigma**2), said))
    else:
        sources.append(Source("seeds", nan, nan, "no cell is repeated"))
    sources.append(_tuning(gaps, refits))
    sources.append(_forms(subject, flops, own))
    from scipy.special import ndtri

    z = float(ndtri((1 + subject.level) / 2))
    lo, hi = own.band(np.array([flops]))
    width = (own.N_exponent.ci[1] - own.N_exponent.ci[0]) / 2 / z
    return NoiseBudget(
        approach,
        flops,
        tuple(sources),
        (float(width), float((np.log(hi[0]) - np.log(lo[0])) / 2 / z)),
        shared,
        own.status,
        own.reason,
    )


def _frontier(subject: Subject, runs: Runs, approach: str, bootstrap: int) -> Frontier:
    from analysis.frontiers import frontier

    found = frontier(
        runs,
        approach,
        counts=subject.count,
        costs=subject.cost,
        level=subject.level,
        bootstrap=bootstrap,
        seed=subject.seed,
    )
    return next(iter(found))


@dataclass(frozen=True, eq=False)
class _Refits:
    """The frontier of a subject's runs, refitted to losses moved by noise."""

    subject: Subject
    approach: str
    flops: float

    def source(self, name: str, covariance: Array | None, origin: str) -> Source:
        """What noise of this covariance (n, n) of the log losses gives; not known without one."""
        if covariance is None:
            return Source(name, float("nan"), float("nan"), origin)
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        noise = np.random.default_rng([self.subject.seed, 13]).standard_normal((_DRAWS, len(covariance))) @ root.T
        return self.drawn(name, noise, origin)

    def drawn(self, name: str, moved: Array, origin: str) -> Source:
        """What these changes (B, n) of the log losses give."""
        found = moved_frontier(self.subject, self.subject.runs, self.approach, moved)
        if not found.known:
            return Source(name, float("nan"), float("nan"), found.reason)
        exponent, log_params = spread(moved_values(found, self.flops))
        return Source(name, float(exponent), float(log_params), origin)


def _tuning(gaps: TuningGaps | None, refits: _Refits) -> Source:
    nan = float("nan")
    if gaps is None or not gaps.measured.any():
        return Source("tuning", nan, nan, "no rung has a grid of rates and batches" if gaps is None else gaps.reason)
    moved = np.zeros((gaps.draws.shape[0], len(refits.subject.runs)))
    moved[:, gaps.rows] = gaps.draws - gaps.draws.mean(axis=0)
    missing = int((~gaps.measured).sum())
    said = f"gaps of {int(gaps.measured.sum())} runs" + (f"; {missing} not measured" if missing else "")
    return refits.drawn("tuning", moved, said)


def _forms(subject: Subject, flops: float, own: Frontier) -> Source:
    found = {own.approach: own}
    for name in FORMS:
        if name not in found:
            found[name] = _frontier(subject, subject.runs, name, 0)
    known = {k: f for k, f in found.items() if f.known}
    if len(known) < 2:
        return Source("form", float("nan"), float("nan"), "fewer than two approaches give a frontier")
    exponents = [f.N_exponent.value for f in known.values()]
    sizes = [float(np.log(f.params(flops))) for f in known.values()]
    return Source("form", float(np.std(exponents, ddof=1)), float(np.std(sizes, ddof=1)), ", ".join(sorted(known)))
