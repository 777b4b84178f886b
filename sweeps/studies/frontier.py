"""Hoffmann et al. 2022 (arXiv 2203.15556) done thoroughly at small scale: frontiers, and a ledger of predictions.

Every rung of a family's isoFLOP sweep is predicted from those below it before it is trained, and so is a run at ten
times the largest budget; seeds, tuning, collapse of curves and trunks say what the frontiers are worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sweeps.studies.base import Options
from sweeps.studies.frontier_parts import PARTS
from sweeps.studies.part import Part
from sweeps.studies.parts import PartsStudy

if TYPE_CHECKING:
    from sweeps.definition import Sweep
    from sweeps.studies.frontier_parts.rolling import Family
    from sweeps.studies.parts import RunsOf


class Frontier(PartsStudy):
    """See the module."""

    name = "frontier"
    summary = "compute-optimal frontiers by every approach, each rung predicted before it is trained, up to 10x beyond"
    source = "Hoffmann et al. 2022 (arXiv 2203.15556)"
    members: ClassVar[tuple[Part, ...]] = PARTS
    parts: ClassVar[tuple[str, ...]] = tuple(p.name for p in PARTS)
    first = "decoder"
    template = "frontier.md.jinja"
    compared = "Hoffmann et al."

    def train(self, part: Part, sweeps: Mapping[str, Sweep], options: Options, seconds: float | None) -> bool:
        """See `PartsStudy.train`; families are trained rung by rung, with forecasts between."""
        from sweeps.studies.frontier_parts.rolling import train, train_beyond

        families = _families(options)
        if part.name == "predictions":
            return train_beyond(list(families.values()), options, seconds)
        if part.name in families:
            return train(families[part.name], options, seconds)
        return super().train(part, sweeps, options, seconds)

    def foretold(self, part: Part, options: Options, store: Path) -> tuple[list[Sweep], tuple[float, ...]]:
        """See `PartsStudy.foretold`: the targets of a family's rungs, and of all families those beyond."""
        from sweeps.studies.frontier_parts.rolling import foretold

        families = _families(options)
        if part.name == "predictions":
            wanted = [(f, f.beyond) for f in families.values()]
        else:
            wanted = [(f, f.predicted) for n, f in families.items() if n == part.name]
        found = [foretold(family, budgets, store) for family, budgets in wanted]
        return [s for sweeps, _ in found for s in sweeps], tuple(c for _, later in found for c in later)

    def _results(self, options: Options, store: Path, runs: dict[str, RunsOf]) -> dict[str, Any]:
        """See `PartsStudy`; complete where every forecast has met its runs as well."""
        from sweeps.studies.frontier_parts.predictions import complete

        found = super()._results(options, store, runs)
        return {**found, "complete": found["complete"] and complete(found["parts"]["predictions"])}


def _families(options: Options) -> dict[str, Family]:
    """The families that are predicted, by their part."""
    from sweeps.studies.frontier_parts.predictions import ARMS

    return {a.main: a.family_in(options.out, options.scale) for a in ARMS}


STUDY = Frontier()
