"""Horizons on one trunk beside separate runs: what the same width of interval costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sweeps.studies.part import COST, COUNT, Finding, Number, Part, Scope, Table, of_fit, plain, says, show

if TYPE_CHECKING:
    from analysis.trunks import Saving

CALL = "analysis.trunks.saving(trunk_fit, separate_fit, …)"
AXIS = {
    "alpha": "alpha",
    "beta": "beta",
    "a": "a",
    "log_loss": "log loss of the largest size at twice the longest horizon",
}
WORDS = {
    "alpha": "alpha",
    "beta": "beta",
    "a": "a = beta/(alpha + beta)",
    "log_loss": "ln of the loss predicted for the largest size at twice the longest horizon",
}


class Trunks(Part):
    """See the module."""

    name = "trunks"
    title = "Horizons on one trunk"
    question = (
        "Cooldown branches of one constant-rate trunk give all horizons of a size at half the cost of separate runs"
        " (Hägele et al. 2024). Do they give the law as sharply, and so how many FLOPs does the same interval cost?"
    )
    design = (
        "Four widths, six horizons a factor √2 apart: branches of warmup-stable-decay trunks with a fifth of each"
        " horizon as cooldown, and cosine runs of the same sizes, horizons, batch and peak rate. Hoffmann's law is"
        " fitted to either; draws of the noise share within a lineage what its residuals share. FLOPs of separate"
        " runs for the trunks' interval are those spent, times the square of the ratio of widths."
    )
    sweeps = ("trunks", "matched")
    limits = (
        "Four trunks: how much of the noise their branches share is measured on four, and a whole trunk's luck cannot"
        " be told from the effect of its size.",
        "One seed, and peak rates are the recipe's, made for cosine; a schedule that wants another rate is at a"
        " disadvantage in its loss, not in its widths.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.figures.trunks import plot_trunks
        from analysis.trunks import saving

        fits, rows = {}, {}
        for name in self.sweeps:
            rows[name] = scope.rows(name, extra="status == 'finished'")
            fits[name] = scope.fit("chinchilla", scope.where(name))
        one, other = rows["trunks"], rows["matched"]
        at = (float(other[f"params_{COUNT}"].max()), 2.0 * float(other.tokens.max()))
        found = saving(
            fits["trunks"],
            fits["matched"],
            trunk_flops=float(one.flops_marginal.sum()),
            separate_flops=float(other[f"flops_{COST}"].sum()),
            lineages=int(one.lineage.nunique()),
            at=at,
        )
        where = scope.where(*self.sweeps)
        numbers = [
            Number(
                "cost", "FLOPs of the trunks over those of the separate runs", plain(found.cost, scope.level),
                "converged", where, len(one) + len(other), "sum of flops_marginal / sum of flops_exact",
            )
        ]  # fmt: skip
        numbers += [
            Number(
                f"share_{q.name}", f"FLOPs of trunks over separate runs' for the same interval of {WORDS[q.name]}",
                q.share, str(q.status), where, len(one) + len(other), CALL, q.reason,
            )
            for q in found.quantities
        ]  # fmt: skip
        for name, words in (("trunks", "trunks"), ("matched", "separate runs")):
            wanted = {p: (f"{name}_{p}", f"{p}, {words}") for p in fits[name].params}
            numbers += of_fit(fits[name], wanted, scope.where(name))
        caption = "Losses of either design with its law, and the FLOPs of trunks for the same interval."
        pairs = ((one, fits["trunks"]), (other, fits["matched"]))
        return Finding(
            numbers=tuple(numbers),
            pictures=(scope.draw("trunks", caption, lambda: plot_trunks(found, *pairs, AXIS, count=COUNT)),),
            tables=(_widths(found),),
            says=tuple(_sentences(found)),
            detail={"saving": found, "cost": found.cost, "at": at},
        )


def _widths(found: Saving) -> Table:
    rows = tuple((WORDS[q.name], says(q.trunk), says(q.separate), says(q.share)) for q in found.quantities)
    header = ("quantity", "trunks", "separate runs", "share of FLOPs for the same width")
    return Table("Each quantity by both designs, with its interval.", header, rows)


def _sentences(found: Saving) -> list[str]:
    cost = f"The trunks cost {show(found.trunk_flops)} FLOPs, the separate runs {show(found.separate_flops)}"
    if not (math.isfinite(found.trunk_sigma) and math.isfinite(found.separate_sigma)):
        return [f"{cost}; there are too few runs to say how far they lie about either law."]
    return [
        f"{cost}; runs lie about either law with a standard deviation of {100 * found.trunk_sigma:.2f} % and"
        f" {100 * found.separate_sigma:.2f} % of the loss."
    ]


PART = Trunks()
