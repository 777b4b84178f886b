"""The report on a table: every detector's verdict, the fit's diagnostics, the noise budget, the gaps of tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from analysis.checks.base import Check, Finding, Subject, Verdict
from analysis.checks.checklist import checklist
from analysis.checks.curve_collapse import collapse_of
from analysis.checks.noise_budget import NoiseBudget, noise_budget
from analysis.checks.residuals import Diagnostics, diagnose
from analysis.checks.tuning import Shift, TuningGaps, shifted_frontier, tuning_gaps
from analysis.curves import Collapse
from analysis.fitting import fit as fit_law
from analysis.table import Runs
from analysis.types import FitResult, Frontier, Status, jsonable, text_table
from scaling.errors import InputError


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What `check` found. Arrays for plots are in `diagnostics` and `collapse`; both None where there are none."""

    source: str
    findings: tuple[Finding, ...]
    gaps: TuningGaps
    fit: FitResult | None = None
    diagnostics: Diagnostics | None = None
    noise: NoiseBudget | None = None
    shift: Shift | None = None
    collapse: Collapse | None = None
    checklist: dict[str, dict[str, Any]] = field(default_factory=dict)
    undertuning_checks: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Finding:
        """The finding of that detector.

        Raises:
            KeyError: it was not run.
        """
        for finding in self.findings:
            if finding.check == name:
                return finding
        raise KeyError(f"no finding of {name!r}; there are {', '.join(f.check for f in self.findings)}")

    @property
    def suspected(self) -> tuple[Finding, ...]:
        """What was found."""
        return tuple(f for f in self.findings if f.verdict is Verdict.SUSPECTED)

    @property
    def undertuned(self) -> Finding:
        """Whether some rung looks undertuned: one finding from all detectors of that.

        Suspected where any of them suspects it; clear where any is clear, with those that cannot tell named.
        """
        found = [f for f in self.findings if f.check in self.undertuning_checks]
        guilty = [f for f in found if f.verdict is Verdict.SUSPECTED]
        silent = [f.check for f in found if f.verdict is Verdict.CANNOT_TELL]
        if guilty:
            rows = tuple(dict.fromkeys(r for f in guilty for r in f.rows))
            why = "; ".join(f"{f.check}: {f.reason}" for f in guilty)
            return Finding("undertuned", Verdict.SUSPECTED, why, rows, {"by": [f.check for f in guilty]})
        if len(silent) == len(found):
            return Finding("undertuned", Verdict.CANNOT_TELL, f"none of {', '.join(silent)} can tell")
        also = f"; {', '.join(silent)} cannot tell" if silent else ""
        return Finding("undertuned", Verdict.CLEAR, f"no sign of it{also}")

    def to_json(self) -> dict[str, Any]:
        """`source undertuned findings tuning noise shift diagnostics collapse checklist`, null where there is none."""
        return jsonable(
            {
                "source": self.source,
                "undertuned": self.undertuned,
                "findings": self.findings,
                "tuning": self.gaps,
                "noise": self.noise,
                "shift": self.shift,
                "diagnostics": self.diagnostics,
                "collapse": self.collapse,
                "checklist": self.checklist,
            }
        )

    def __repr__(self) -> str:
        rows = [[f.check, f.verdict.value, f.reason] for f in (*self.findings, self.undertuned)]
        lines = [f"checks of {self.source}", *text_table(["check", "verdict", "reason"], rows), repr(self.gaps)]
        lines += [repr(part) for part in (self.shift, self.noise) if part is not None]
        return "\n".join(lines)


def report(
    runs: Runs,
    checks: Sequence[Check],
    *,
    fit: FitResult | None,
    frontier: Frontier | None,
    law: str,
    approach: str,
    count: str,
    cost: str,
    used: str | None,
    grids: Runs | None,
    budget: bool,
    level: float,
    seed: int,
) -> Report:
    """See `analysis.checks.check`.

    Raises:
        InputError: the fit holds another number of rows than the table.
    """
    if fit is not None and fit.n != len(runs):
        raise InputError(f"the fit holds {fit.n} rows and the table {len(runs)}; check the table that was fitted")
    whole = Subject(runs, count, cost, level, seed, fit, frontier)
    other = None if grids is None else Subject(grids, count, cost, level, seed)
    gaps = tuning_gaps(whole, used=used, grids=other)
    kept = runs.take(gaps.rows)
    alone = len(kept) == len(runs)
    if fit is None or not alone:
        made = fit_law(
            kept, law, count=count, cost=cost, objective="ls_log", bootstrap=_draws(runs), level=level, seed=seed
        )
        fit = made
    subject = Subject(kept, count, cost, level, seed, fit, frontier)
    whole = replace(whole, fit=fit)
    # Grids are looked at whole; what a law says, at the runs that it is fitted to.
    findings = tuple(c.look(whole if c.name in ("rate_edge", "large_batch", "mixed_data") else subject) for c in checks)
    usable = "predicted" in fit.data
    noise = None
    if budget:
        inner = replace(gaps, rows=np.arange(len(kept)))
        noise = noise_budget(subject, approach, gaps=inner)
    shift = None
    if gaps.measured.any() and noise is not None and noise.status is Status.CONVERGED:
        shift = shifted_frontier(whole, gaps, approach)
    curves = collapse_of(subject)
    return Report(
        runs.source,
        findings,
        gaps,
        fit,
        diagnose(fit) if usable else None,
        noise,
        shift,
        curves if curves.status is Status.CONVERGED else None,
        checklist(kept, fit.model, count=fit.count, cost=fit.cost, objective=fit.objective),
        tuple(c.name for c in checks if c.undertuning),
    )


def _draws(runs: Runs) -> int:
    """Draws of the default fit: enough for the interval of its floor, which the collapse of curves needs."""
    return 100 if runs.load_curves is not None else 0
