"""Numbers for people: durations."""

from __future__ import annotations

import math


def duration(seconds: float | None) -> str:
    """Seconds for people: 42s, 3m07s, 2h05m."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
