"""Undertuned at the large end: residuals that turn one-sidedly positive, and grow, towards the largest sizes.

Score test of an excess in the log loss. Hoffmann's law is fitted; each candidate shape of excess (a hinge that grows
with ln N beyond one of the larger sizes, over all runs or within each budget, and a constant at the largest size) is
cleared of what the law's own parameters could take up (h - J (J'J)^-1 J' h), and its coefficient is a t statistic. The
largest over the candidates is judged against its distribution under normal noise and no excess, which depends on the
design alone and is drawn by Monte Carlo, so that looking at several shapes does not raise the rate of false alarms.
What looks like an excess at the large end can be a misfit of the law at the small end: the mirrored candidates are
tried as well, and where they say more the verdict is `cannot_tell`. An excess that the law's own parameters can mimic
leaves no residual; `detectable` says how large one must be at the largest size to be seen half of the time. Runs far
from the best of their budget are left out, since their misfit would be taken for an excess.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from analysis.checks.base import Check, Finding, Subject
from analysis.checks.residuals import log_jacobian
from analysis.fitting import fit as fit_law
from analysis.types import Array, FitResult

FALSE_ALARMS = 0.03
"""Nominal rate at which a sweep without an excess is suspected."""
_DRAWS = 2000
_LEAST_DOF = 4
_LEAST = 1e-3
"""An excess of a smaller share of the loss is none, however sure."""
BASIN = 0.15
"""Runs whose log loss is further than this above the best of their budget are left out: no law is meant for them."""
_ABSORBED = 0.02
"""A candidate of which less than this share (of its norm) is left is one that the law's parameters mimic."""


def candidates(log_n: Array, budget: NDArray[np.intp]) -> list[Array]:
    """Shapes (n,) of an excess at the large end, each 1 at its largest: hinges in ln N, over all and by budget."""
    found: list[Array] = []
    relative = log_n.copy()
    for k in np.unique(budget):
        relative[budget == k] -= np.median(log_n[budget == k])
    grouped = min(np.sum(budget == k) for k in np.unique(budget)) >= 3 and np.unique(budget).size > 1
    for u in [log_n, relative] if grouped else [log_n]:
        levels = np.unique(np.round(u, 9))
        for share in (0.4, 0.6, 0.75):
            knot = float(np.quantile(levels, share))
            hinge = np.maximum(u - knot, 0.0)
            if hinge.max() > 0:
                found.append(hinge / hinge.max())
    top = (log_n > log_n.max() - 1e-9).astype(np.float64)
    if 1 < top.sum() < log_n.size:
        found.append(top)
    return found


def cleared(shapes: list[Array], jac: Array) -> tuple[Array, list[int]]:
    """Unit parts (K, n) of the shapes that the columns of `jac` (n, P) cannot mimic; which shapes have one."""
    q, _ = np.linalg.qr(jac)
    parts, kept = [], []
    for k, shape in enumerate(shapes):
        rest = shape - q @ (q.T @ shape)
        size = float(np.linalg.norm(rest))
        if size > _ABSORBED * float(np.linalg.norm(shape)):
            parts.append(rest / size)
            kept.append(k)
    return np.array(parts).reshape(len(parts), jac.shape[0]), kept


def t_statistics(residual: Array, parts: Array, dof: int) -> Array:
    """t (…, K) of each unit part's coefficient in residuals (…, n) that hold no law any more, `dof` before it."""
    along = residual @ parts.T
    total = (residual**2).sum(axis=-1, keepdims=True)
    return np.asarray(along / np.sqrt(np.maximum(total - along**2, 1e-300) / (dof - 1)))


class SizeResiduals(Check):
    """One-sided residuals that grow towards the largest sizes."""

    name: ClassVar[str] = "size_residuals"
    summary: ClassVar[str] = "losses above the law at the largest sizes: an undertuned rung"
    source: ClassVar[str] = "score test; Rao 1948, Proc. Camb. Phil. Soc. 44:50"
    undertuning: ClassVar[bool] = True

    def look(self, subject: Subject) -> Finding:
        """See `Check.look`; needs a fitted surface with four degrees of freedom or more."""
        subject = _basin(subject)
        fit = fitted_surface(subject)
        if fit is None:
            return self.cannot_tell("no law of size and data could be fitted to the table")
        jac = log_jacobian(fit)
        n, p = jac.shape
        dof = n - p
        if dof < _LEAST_DOF:
            return self.cannot_tell(f"{n} runs for {p} parameters leave {dof} degrees of freedom; {_LEAST_DOF} needed")
        budget, log_n = subject.runs.budget, np.log(subject.params)
        residual = np.log(fit.data["loss"]) - np.log(fit.data["predicted"])
        q, _ = np.linalg.qr(jac)
        residual = residual - q @ (q.T @ residual)
        shapes = candidates(log_n, budget)
        parts, kept = cleared(shapes, jac)
        mirrored, _ = cleared(candidates(-log_n, budget), jac)
        if not kept:
            return self.cannot_tell("any excess at the large end would be taken up by the law's own parameters")
        t = t_statistics(residual, parts, dof)
        best = int(np.argmax(t))
        noise = np.random.default_rng([subject.seed, 11]).standard_normal((_DRAWS, n))
        noise -= (noise @ q) @ q.T
        null = t_statistics(noise, parts, dof).max(axis=1)
        p_value = float((1 + np.sum(null >= t[best])) / (_DRAWS + 1))
        sigma = float(np.sqrt(max((residual**2).sum() - (residual @ parts[best]) ** 2, 0.0) / (dof - 1)))
        left = float(parts[best] @ shapes[kept[best]])
        excess = float(residual @ parts[best]) / left
        limit = float(np.quantile(null, 1 - FALSE_ALARMS))
        measured: dict[str, Any] = {
            "p_value": p_value,
            "excess_of_loss_at_largest": excess,
            "excess_se": sigma / left,
            "detectable": min(limit * sigma / float(part @ shapes[k]) for part, k in zip(parts, kept, strict=True)),
            "residual_sd": sigma,
            "false_alarm_rate": FALSE_ALARMS,
        }
        rows = subject.label(shapes[kept[best]] > 0.25)
        if p_value >= FALSE_ALARMS or excess < _LEAST:
            seen = measured["detectable"]
            return self.clear(f"no excess at the large end (p = {p_value:.2f}); {seen:.1%} would be seen", **measured)
        if mirrored.size and float(t_statistics(residual, mirrored, dof).max()) > t[best]:
            return self.cannot_tell(
                f"the law misfits (p = {p_value:.3f}), at the small end at least as much as at the large", **measured
            )
        return self.suspected(
            f"the largest sizes lie {excess:.1%} above the law and more the larger they are (p = {p_value:.3f})",
            rows,
            **measured,
        )


def _basin(subject: Subject) -> Subject:
    """The runs near the best of their budget, fitted anew where that leaves some out; all runs where there are none."""
    runs, log_loss = subject.runs, np.log(subject.runs.loss)
    near = np.ones(len(runs), bool)
    for k in np.unique(runs.budget):
        rows = np.flatnonzero(runs.budget == k)
        near[rows] = log_loss[rows] <= log_loss[rows].min() + BASIN
    if near.all() or subject.fit is None:
        return subject
    kept = runs.take(near)
    fit = fit_law(
        kept,
        subject.fit.model,
        count=subject.count,
        cost=subject.cost,
        objective="ls_log",
        bootstrap=0,
        seed=subject.seed,
    )
    return replace(subject, runs=kept, fit=fit)


def fitted_surface(subject: Subject) -> FitResult | None:
    """The subject's fit where it is one of size and data, with values."""
    fit = subject.fit
    if fit is None or not {"params", "tokens"} <= set(fit.model.variables) or len(fit.data.get("loss", ())) == 0:
        return None
    return fit if all(np.isfinite(v) for v in fit.values.values()) and "predicted" in fit.data else None
