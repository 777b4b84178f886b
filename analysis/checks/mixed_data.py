"""Mixed data: losses on different text, or under different tokenizers, are not on one axis."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import numpy as np

from analysis.checks.base import Check, Finding, Subject

_COLUMNS = ("data_digest", "corpus", "dataset", "tokenizer", "vocab_size", "objective")


class MixedData(Check):
    """Rows of several data sets, tokenizers, vocabularies or held-out parts."""

    name: ClassVar[str] = "mixed_data"
    summary: ClassVar[str] = "data digests, tokenizers or held-out parts differ between rows"
    source: ClassVar[str] = "Li et al. 2025, arXiv 2502.18969"

    def look(self, subject: Subject) -> Finding:
        """See `Check.look`."""
        seen = {name: column for name in _COLUMNS if (column := subject.text(name)) is not None}
        if subject.specs is not None:
            seen["heldout"] = np.array([str(s.get("heldout", "full")) for s in subject.specs], dtype=object)
        if not seen:
            return self.cannot_tell("the table says nothing of its data or tokenizer")
        mixed = {name: Counter(column.tolist()) for name, column in seen.items() if len(set(column)) > 1}
        if not mixed:
            return self.clear(f"{', '.join(seen)} are the same in every row")
        odd = np.zeros(len(subject.runs), bool)
        for name, count in mixed.items():
            odd |= seen[name] != count.most_common(1)[0][0]
        said = "; ".join(f"{len(count)} values of {name}" for name, count in mixed.items())
        return self.suspected(said, subject.label(odd), values={n: dict(c) for n, c in mixed.items()})
