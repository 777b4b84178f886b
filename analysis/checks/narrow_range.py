"""Too narrow a range: a slope's standard error is sigma/sqrt(Sxx), and less than a decade tells no two laws apart.

Choshen et al. 2024 (arXiv 2410.11840) ask for five sizes; the floor takes up what a short range leaves open.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from analysis.checks.base import Check, Finding, Subject

DECADE = 10.0
SIZES = 5


class NarrowRange(Check):
    """Sizes, tokens or FLOPs that span less than a decade, or take fewer than five values."""

    name: ClassVar[str] = "narrow_range"
    summary: ClassVar[str] = "N, D or C span less than a decade, or too few values"
    source: ClassVar[str] = "Choshen et al. 2024, arXiv 2410.11840"

    def look(self, subject: Subject) -> Finding:
        """See `Check.look`."""
        runs = subject.runs
        spans, values, narrow = {}, {}, []
        for name, x in (("N", subject.params), ("D", runs.tokens), ("C", subject.flops)):
            spans[name] = float(x.max() / x.min())
            values[name] = int(np.unique(np.round(np.log(x), 6)).size)
            if spans[name] < DECADE:
                narrow.append(f"{name} spans {spans[name]:.3g}×")
        if values["N"] < SIZES:
            narrow.append(f"{values['N']} sizes")
        measured = {"span": spans, "values": values}
        if narrow:
            return self.suspected(f"{', '.join(narrow)}; a decade and {SIZES} sizes are the least", (), **measured)
        said = ", ".join(f"{name} {span:.3g}×" for name, span in spans.items())
        return self.clear(f"spans: {said}", **measured)
