"""How a table counts size and cost, and in which units its tokens and losses are, carried along to the figures."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.table import Runs
from analysis.types import Plain

HELD_OUT, TRAINING = "held-out loss", "training loss, smoothed"


@dataclass(frozen=True)
class Labels(Plain):
    """Count and cost; tokenizers and objectives by name, () where the table does not say; what the loss is."""

    count: str = "non_embedding"
    cost: str = "exact"
    tokenizers: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()
    loss: str = HELD_OUT

    @classmethod
    def of(cls, runs: Runs, count: str, cost: str = "exact", *, measured: bool = True) -> Labels:
        """What the rows say of themselves; a plain table has one size, as it gives it.

        `measured` says whether the losses are held-out ones, rather than smoothed training losses.
        """
        named = [
            tuple(sorted({str(v) for v in runs.frame[c].dropna()})) if c in runs.frame.columns else ()
            for c in ("tokenizer", "objective")
        ]
        given = not runs.conventions
        loss = HELD_OUT if measured else TRAINING
        return cls("given" if given else count, "given" if given else cost, named[0], named[1], loss)


UNLABELLED = Labels()
"""Of a result made without a table."""
