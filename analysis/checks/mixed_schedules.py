"""Mixed schedules: runs of one table whose schedule, decay or share of warmup differ do not lie on one law.

Hoffmann et al. 2022 (arXiv 2203.15556) App. A.1 on cycles longer than the run; Porian et al. 2024 (arXiv 2406.19146) on
warmup that is fixed in steps.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import numpy as np

from analysis.checks.base import Check, Finding, Subject

_COLUMNS = ("schedule", "warmup_fraction", "warmup", "decay", "decay_fraction", "hparams")


class MixedSchedules(Check):
    """Rows whose schedule, decay or share of warmup differ."""

    name: ClassVar[str] = "mixed_schedules"
    summary: ClassVar[str] = "schedule, decay or share of warmup differ between rows"
    source: ClassVar[str] = "Hoffmann et al. 2022, arXiv 2203.15556, App. A.1"

    def look(self, subject: Subject) -> Finding:
        """See `Check.look`."""
        seen: dict[str, list[str]] = {}
        for name in _COLUMNS:
            column = subject.text(name)
            if column is not None:
                seen[name] = [_plain(v) for v in column]
        for name, values in _from_specs(subject).items():
            seen.setdefault(name, values)
        if not seen:
            return self.cannot_tell("the table says nothing of schedule, warmup or decay")
        mixed = {name: Counter(values) for name, values in seen.items() if len(set(values)) > 1}
        if not mixed:
            return self.clear(f"{', '.join(seen)} are the same in every row")
        odd = np.zeros(len(subject.runs), bool)
        for name, count in mixed.items():
            usual = count.most_common(1)[0][0]
            odd |= np.array([v != usual for v in seen[name]])
        said = "; ".join(f"{name}: {_listed(count)}" for name, count in mixed.items())
        return self.suspected(said, subject.label(odd), values={n: dict(c) for n, c in mixed.items()})


def _plain(value: Any) -> str:
    """One spelling for each number: warmup fractions of horizons in whole steps differ in their last digits."""
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return str(value)


def _from_specs(subject: Subject) -> dict[str, list[str]]:
    """What only the canonical trials tell: the schedule's other fields, the optimizer's type."""
    if subject.specs is None:
        return {}
    fields = sorted(
        {k for s in subject.specs for k in (s.get("schedule") or {}) if k not in ("type", "warmup_fraction")}
    )
    found = {f: [_plain((s.get("schedule") or {}).get(f, "default")) for s in subject.specs] for f in fields}
    found["optimizer"] = [str((s.get("optimizer") or {}).get("type", "")) for s in subject.specs]
    return found


def _listed(count: Counter[str]) -> str:
    return ", ".join(f"{value} ({n})" for value, n in count.most_common(4))
