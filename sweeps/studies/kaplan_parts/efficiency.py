"""Sample efficiency: tokens and steps to reach a loss, by size; also Fig. 11.9.10 of Dive into Deep Learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.types import Status
from sweeps.studies.part import Finding, Number, Part, Scope, says, show

if TYPE_CHECKING:
    from analysis.sample_efficiency import TargetSummary


class Efficiency(Part):
    """See the module."""

    name = "efficiency"
    title = "Sample efficiency"
    question = "Do larger models reach a loss on fewer tokens and in fewer steps (Figs. 2 and 19)?"
    design = (
        "The curves of the runs of 'Loss by size'. A run that never reaches a loss is censored, not dropped; one that"
        " lies below it at its first evaluation, after the warmup, bounds the tokens from above. The exponent of the"
        " tokens over N is that of the sizes in between, three or more."
    )
    uses = ("sizes", "seeds")
    limits = (
        "A loss along a decaying schedule is reached later than in a run that ends there; all sizes share the"
        " schedule, so that their order is less affected than the tokens themselves.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.figures.sample_efficiency import plot_sample_efficiency
        from analysis.sample_efficiency import measure_sample_efficiency

        rows, where = scope.rows("sizes", "seeds"), scope.where("sizes", "seeds")
        found = measure_sample_efficiency(rows, scope.curves(rows), level=scope.level)
        call = "analysis.sample_efficiency.measure_sample_efficiency(rows, curves)"
        numbers, sentences = [], []
        for s in found.summaries:
            numbers.append(
                Number(
                    f"ratio_{s.target:.3f}", f"tokens of the smallest over those of the largest, to {s.target:.3f}",
                    s.ratio, str(s.status), where, s.pairs, call, s.reason,
                )
            )  # fmt: skip
            status, reason = _worth(s)
            numbers.append(
                Number(
                    f"exponent_{s.target:.3f}", f"exponent of the tokens over N, to {s.target:.3f}", s.exponent,
                    str(status), where, s.sizes, call, reason,
                )
            )  # fmt: skip
            sentences.append(
                f"To {s.target:.3f} nats: {s.sooner} of {s.pairs} pairs of sizes have the larger one first"
                + (f"; the smallest takes {says(s.ratio)} times the tokens of the largest" if s.ratio.known else "")
                + "."
            )
        early = sum(r.early for r in found.reaches)
        if early:
            sentences.append(
                f"{early} of {len(found.reaches)} sizes and losses were passed before the first evaluation."
            )
        censored = [r for r in found.reaches if r.censored]
        if censored:
            sentences.append(
                f"{len(censored)} of {len(found.reaches)} sizes and losses are censored: the first is N ="
                f" {show(censored[0].params)}, which had not reached {censored[0].target:.3f} after"
                f" {show(censored[0].at_least)} tokens."
            )
        caption = "Loss by tokens and by steps, by size, and the tokens to reach a loss."
        return Finding(
            numbers=tuple(numbers),
            pictures=(scope.draw("efficiency", caption, lambda: plot_sample_efficiency(found)),),
            says=(*sentences, *found.warnings),
            detail={"sample_efficiency": found},
        )


def _worth(target: TargetSummary) -> tuple[Status, str]:
    """Of the exponent of tokens over size at one target."""
    if not target.exponent.known:
        return Status.TOO_FEW_POINTS, f"{target.sizes} sizes have curves that pass it; three are wanted"
    return target.exponent.told_from()


PART = Efficiency()
