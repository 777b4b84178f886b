"""The arms of the study: which runs, how N and C are counted, where the loss is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.protocols import Arm, Change, Measured, Protocols, measure_protocols
from sweeps.studies.kaplan_parts.tuned import Tuned, at_best_rates
from sweeps.studies.part import Number, Scope

if TYPE_CHECKING:
    import pandas as pd

LABELS = {
    "kaplan": "Kaplan's protocol",
    "counting": "N counts the head",
    "flops": "C counts head and attention",
    "warmup": "short warmup",
    "decay": "decay matched to the run",
    "batch": "batch by the recipe",
    "tuned": "rate tuned by size and budget",
    "fixed_tuned": "fixed batch, rate tuned",
    "flops_blocks": "Kaplan's runs, C exact, N without the head",
    "tuned_blocks": "tuned runs, N without the head",
    "tuned_total": "tuned runs, N of all parameters",
}
CHAIN = ("kaplan", "counting", "flops", "warmup", "decay", "batch", "tuned")
MIDWAY = {"kaplan": "kaplan", "counting": "kaplan", "flops": "kaplan", "flops_blocks": "kaplan", "warmup": "warmup"}
"""The sweep of each arm that is read along its runs."""
CONVENTIONS = {
    "kaplan": ("non_embedding", "6nd", "non_embedding"),
    "counting": ("non_embedding_head", "6nd", "non_embedding"),
    "flops_blocks": ("non_embedding", "exact", ""),
    "tuned_blocks": ("non_embedding", "exact", ""),
    "tuned_total": ("total", "exact", ""),
}
"""What N counts, what C is, and what it counts, where they are not N with the head and exact FLOPs."""
ENDED = {
    "decay": ("decay",),
    "batch": ("batch",),
    "tuned": ("batch", "rates"),
    "tuned_blocks": ("batch", "rates"),
    "tuned_total": ("batch", "rates"),
    "fixed_tuned": ("decay", "fixed-rates", "rates"),
}
"""The sweeps of each arm that is read at the ends of its runs; of several, the best rate of each cell is taken."""

ONE_BATCH = ("fixed_tuned",)
"""Arms of the runs at the batch of `decay` alone."""


def tuned(scope: Scope, name: str) -> Tuned:
    """The runs of an arm that is read at their ends, at the best of its rates."""
    extra = _one_batch(scope) if name in ONE_BATCH else ""
    return at_best_rates(scope.rows(*ENDED[name], extra=extra), scope.where(*ENDED[name], extra=extra))


def _one_batch(scope: Scope) -> str:
    return f"batch_tokens in {sorted({int(b) for b in scope.rows('decay').batch_tokens})}"


def arms(scope: Scope, names: Sequence[str]) -> list[Arm]:
    """The arms of these names."""
    found = []
    for name in names:
        count, cost, cost_count = CONVENTIONS.get(name, ("non_embedding_head", "exact", ""))
        if name in MIDWAY:
            rows = _finished(scope.rows(MIDWAY[name]))
            found.append(Arm(name, LABELS[name], rows, count, cost, scope.curves(rows), cost_count))
        else:
            found.append(Arm(name, LABELS[name], _finished(tuned(scope, name).rows), count, cost))
    return found


def _finished(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows.status == "finished"].reset_index(drop=True)


def measure(scope: Scope, names: Sequence[str]) -> Protocols:
    """The arms of these names, measured together."""
    return measure_protocols(arms(scope, names), level=scope.level, bootstrap=scope.bootstrap, seed=scope.seed)


def where_of(scope: Scope, names: Sequence[str]) -> str:
    """The filter of the runs of some arms."""
    free = [n for n in names if n not in ONE_BATCH]
    sweeps = dict.fromkeys(s for name in free for s in ((MIDWAY[name],) if name in MIDWAY else ENDED[name]))
    parts = [scope.where(*sweeps)] if sweeps else []
    parts += [scope.where(*ENDED[n], extra=_one_batch(scope)) for n in names if n in ONE_BATCH]
    return parts[0] if len(parts) == 1 else " or ".join(f"({p})" for p in parts)


def call(names: Sequence[str]) -> str:
    """The call that measures these arms."""
    return f"analysis.protocols.measure_protocols([{', '.join(names)}])"


def exponent(scope: Scope, arm: Measured, approach: str, published: float | None = None) -> Number:
    """An arm's exponent as a number of the page."""
    found = arm.frontiers[approach]
    how = ", read midway" if arm.midway else ""
    return Number(
        f"a_{arm.name}_{approach}",
        f"a in N* ∝ C^a, {arm.label}{how}, {approach}",
        found.N_exponent,
        str(found.status),
        where_of(scope, [arm.name]),
        len(arm.reads),
        call([arm.name]),
        found.reason,
        "",
        published,
    )


def changed(scope: Scope, name: str, label: str, change: Change, published: float | None = None) -> Number:
    """A difference of arms as a number of the page."""
    names = [arm for _, arm in change.terms]
    terms = ", ".join(f"({weight:g}, {arm})" for weight, arm in change.terms)
    return Number(
        f"{name}_{change.approach}",
        f"{label}, {change.approach}",
        change.value,
        str(change.status),
        where_of(scope, names),
        len(names),
        f"{call(names)}.contrast([{terms}])",
        change.reason,
        "",
        published,
    )
