"""Batch above critical, by the steps taken: too few optimizer steps cost loss that no tuning of the rate gives back.

A batch B needs S = S_min (1 + B_crit/B) steps, so B > B_crit exactly where S < 2 S_min, and no batch reaches the loss
in fewer than S_min; along the compute-efficient frontier S_min = 5.4e3 C^.03, C in PF-days (Kaplan et al. 2020,
arXiv 2001.08361, §5.1 and Table 6). The constant is that of one corpus and optimizer, so only half of it is taken as
evidence, and the table's own grids of batches, where it has them, come first.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from analysis.checks.base import Check, Finding, Subject
from analysis.types import Array

PF_DAY = 8.64e19
_TOO_FEW, _ENOUGH = 0.5, 1.0
_MARGIN = 0.01
"""Loss, as a share, that the smaller batch must gain to count as better where noise is not known."""


def least_steps(flops: Array) -> Array:
    """S_min along the compute-efficient frontier at budgets (n,) in FLOPs; Kaplan et al. 2020, Table 6."""
    return np.asarray(5.4e3 * (np.asarray(flops) / PF_DAY) ** 0.03)


class LargeBatch(Check):
    """Runs of too few optimizer steps for their compute."""

    name: ClassVar[str] = "large_batch"
    summary: ClassVar[str] = "batch above critical by the steps taken"
    source: ClassVar[str] = "Kaplan et al. 2020, arXiv 2001.08361, §5.1"
    undertuning: ClassVar[bool] = True

    def look(self, subject: Subject) -> Finding:
        """See `Check.look`; needs `batch_tokens` or `steps`."""
        batch, steps = subject.batch, subject.number("steps")
        if steps is None:
            steps = None if batch is None else subject.runs.tokens / batch
        if steps is None or not np.isfinite(steps).any():
            return self.cannot_tell("the table has neither batch_tokens nor steps")
        used = np.ones(len(subject.runs), bool)
        for rung in subject.rungs:
            used[rung.rows] = False
            used[rung.best] = True
        ratio = np.where(used, steps / least_steps(subject.flops), np.nan)
        measured = {
            "least_steps": float(np.nanmin(np.where(used, steps, np.nan))),
            "least_ratio": float(np.nanmin(ratio)),
        }
        smaller = self._smaller_is_better(subject)
        if smaller:
            rows = subject.label(np.array(smaller))
            return self.suspected("the smallest batch tried is the best at rungs with a grid", rows, **measured)
        few = ratio < _TOO_FEW
        if few.any():
            return self.suspected(
                f"{int(few.sum())} runs take down to {measured['least_steps']:.0f} steps,"
                f" {measured['least_ratio']:.2g} of the least that a batch of any size needs at their compute",
                subject.label(few),
                **measured,
            )
        between = ratio < _ENOUGH
        if between.any():
            return self.cannot_tell(
                f"{int(between.sum())} runs take {measured['least_steps']:.0f} steps or more, which may be too few;"
                " try half the batch at one of them",
                subject.label(between),
                **measured,
            )
        return self.clear(f"every run takes {measured['least_steps']:.0f} steps or more", **measured)

    @staticmethod
    def _smaller_is_better(subject: Subject) -> list[int]:
        """Best rows of rungs whose smallest batch beats the next by more than noise, and has too few steps for sure."""
        batch = subject.batch
        if batch is None:
            return []
        noise = 2.0 * subject.seed_sigma if subject.seeds is not None else _MARGIN
        found = []
        for rung in subject.rungs:
            sizes = np.unique(batch[rung.rows])
            if sizes.size < 2:
                continue
            lowest = [float(np.log(subject.runs.loss[rung.rows[batch[rung.rows] == b]]).min()) for b in sizes[:2]]
            steps = subject.runs.tokens[rung.best] / sizes[0]
            if lowest[1] - lowest[0] > noise and steps < 2 * least_steps(np.array(rung.flops)):
                found.append(rung.best)
        return found
