"""Rows read before their horizon's end: with a decaying schedule, a loss in mid-run is not that of a shorter run.

Hoffmann et al. 2022 (arXiv 2203.15556) §3; pooling checkpoints of one cosine is what Kaplan et al. 2020 did.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from analysis.checks.base import Check, Finding, Subject

_SLACK = 0.01
_DECAYED = 0.5
"""A rate above this share of its peak at the end of the curve has not decayed."""
_HOLDS = ("constant",)


class ReadEarly(Check):
    """Rows whose loss was read before the end of their schedule."""

    name: ClassVar[str] = "read_early"
    summary: ClassVar[str] = "losses read before the end of the run's schedule"
    source: ClassVar[str] = "Hoffmann et al. 2022, arXiv 2203.15556, §3"

    def look(self, subject: Subject) -> Finding:
        """See `Check.look`."""
        runs = subject.runs
        share = subject.number("portion_steps_elapsed", "progress")
        steps = subject.number("steps", "current_steps", "total steps")
        if share is None and steps is not None:
            planned = subject.number("total_steps", "planned_steps")
            if planned is None and subject.specs is not None:
                planned = np.array([float(s.get("steps", np.nan)) for s in subject.specs])
            share = None if planned is None else steps / planned
        if share is not None and np.isfinite(share).any():
            early = share < 1.0 - _SLACK
            if early.any():
                return self.suspected(
                    f"{int(early.sum())} rows are read at {np.nanmin(share):.0%} of their run or later, before its end",
                    subject.label(early),
                )
            held = self._not_decayed(subject)
            if held.any():
                return self.suspected(
                    f"{int(held.sum())} rows end with their rate above half its peak", subject.label(held)
                )
            return self.clear("every row is read at the end of its run")
        schedule = subject.text("schedule", "decay")
        decays = np.array([s not in ("", *_HOLDS) for s in schedule]) if schedule is not None else None
        repeated = np.bincount(runs.lineage)[runs.lineage] > 1
        distinct = np.array([np.unique(runs.tokens[runs.lineage == k]).size > 1 for k in runs.lineage])
        if decays is not None and (repeated & distinct & decays).any():
            rows = repeated & distinct & decays & ~_longest(runs.lineage, runs.tokens)
            return self.suspected(f"{int(rows.sum())} rows are checkpoints of runs that went on", subject.label(rows))
        return self.cannot_tell("the table does not say how long its runs were meant to be")

    @staticmethod
    def _not_decayed(subject: Subject) -> np.ndarray:
        """Rows of decaying schedules whose curve ends with a high rate (n,)."""
        found = np.zeros(len(subject.runs), bool)
        schedule, curves = subject.text("schedule"), subject.runs.curves
        if schedule is None or curves is None or "lr" not in curves.columns:
            return found
        ordered = curves.sort_values("tokens").groupby(curves["run_id"].astype(str))["lr"]
        last, peak = ordered.last().to_dict(), ordered.max().to_dict()
        for i, run in enumerate(subject.runs.frame["run_id"].astype(str)):
            if schedule[i] not in _HOLDS and peak.get(run, 0.0) > 0:
                found[i] = last[run] > _DECAYED * peak[run]
        return found


def _longest(lineage: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Which rows have the most tokens of their lineage (n,)."""
    most = np.zeros(lineage.max() + 1)
    np.maximum.at(most, lineage, tokens)
    return np.asarray(tokens >= most[lineage])
