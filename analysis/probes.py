"""Which scores on tasks count: those over an untrained model and over a bag of n-grams by three standard errors.

An evaluation stores a score `<metric>` with `<metric>:over_<baseline>`, the paired difference and its standard error;
what that means is judged here, when it is read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MARGIN = 3.0
"""Standard errors by which a score must beat each baseline."""

ABOVE, BELOW = "above_baseline", "below_baseline"


@dataclass(frozen=True)
class TaskScore:
    """A run's score on a task, and whether it says anything: status `above_baseline` or `below_baseline`."""

    run_id: str
    metric: str
    settings: str
    value: float
    se: float
    n: int
    status: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def judge(evals: pd.DataFrame) -> list[TaskScore]:
    """The scores in a store's evals (`Store.evals()`) that have baselines, by run, settings and metric."""
    found = []
    keys = ["run_id", "settings", "eval_version"]
    for (run_id, settings, _), group in evals.groupby(keys, sort=True):
        rows: dict[str, Any] = {str(row.metric): row for row in group.itertuples()}
        for metric in sorted({m.split(":over_")[0] for m in rows if ":over_" in m} & set(rows)):
            lost = [_shortfall(name, row) for name, row in rows.items() if name.startswith(f"{metric}:over_")]
            reason = "; ".join(text for text in lost if text)
            row = rows[metric]
            status = BELOW if reason else ABOVE
            score = (float(row.value), float(row.se), int(row.n))
            found.append(TaskScore(str(run_id), metric, str(settings), *score, status, reason))
    return found


def _shortfall(name: str, row: Any) -> str:
    """Why a difference is not one; empty where it is."""
    value, se = float(row.value), float(row.se)
    if value > MARGIN * se:
        return ""
    baseline = name.split(":over_")[1]
    return f"{value:+.4f} over {baseline}, se {se:.4f}: not {MARGIN:g} standard errors above"
