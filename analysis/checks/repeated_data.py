"""Repeated data under a law that knows none: beyond about four epochs a repeated token is worth less than a new one.

Muennighoff et al. 2023 (arXiv 2305.16264): at up to four epochs the loss is close to that of as many new tokens.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from analysis.checks.base import Check, Finding, Subject

_SLACK = 1e-6
_NEARLY_FREE = 4.0


class RepeatedData(Check):
    """Runs of more than one epoch, fitted with a law of tokens seen alone."""

    name: ClassVar[str] = "repeated_data"
    summary: ClassVar[str] = "runs of more than one epoch under a law without repetition"
    source: ClassVar[str] = "Muennighoff et al. 2023, arXiv 2305.16264"

    def look(self, subject: Subject) -> Finding:
        """See `Check.look`; needs `epochs`, or `tokens_unique`."""
        epochs = subject.number("epochs")
        if epochs is None:
            unique = subject.number("tokens_unique", "unique_tokens")
            epochs = None if unique is None else subject.runs.tokens / unique
        if epochs is None or not np.isfinite(epochs).any():
            return self.cannot_tell("the table says nothing of epochs or distinct tokens")
        most = float(np.nanmax(epochs))
        over = epochs > 1.0 + _SLACK
        if not over.any():
            return self.clear(f"at most {most:.2g} epochs", largest=most)
        variables = () if subject.fit is None else subject.fit.model.variables
        if any("unique" in str(v) or "epoch" in str(v) for v in variables):
            return self.clear(f"up to {most:.2g} epochs, which the law {subject.fit.law} knows", largest=most)  # type: ignore[union-attr]
        small = "close to new ones up to four epochs, yet " if most <= _NEARLY_FREE else ""
        return self.suspected(
            f"{int(over.sum())} rows of up to {most:.2g} epochs: their tokens are {small}not all new",
            subject.label(over),
            largest=most,
        )
