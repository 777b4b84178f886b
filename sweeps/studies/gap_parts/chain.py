"""The chain: a in N* ∝ C^a from Kaplan's protocol to the tuned one, with the interval of every step."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from analysis.protocols import APPROACHES, PUBLISHED
from sweeps.studies.gap_parts.arms import CHAIN, LABELS, MIDWAY, arms, call, changed, exponent, measure, tuned
from sweeps.studies.part import CONVERGED, Finding, Number, Part, Scope, says, show

if TYPE_CHECKING:
    from analysis.protocols import Protocols

THEIRS = PUBLISHED["RefinedWeb"]
GROUPS = (("kaplan", "flops"), ("flops", "warmup"), ("warmup", "decay"), ("decay", "tuned"))
"""Our steps put together as Porian et al. made theirs."""
NAMES = ("counting", "warmup", "decay", "tuning (batch and rate)")
SPANS = (
    ("flops", "training", "all that is not counting: warmup, decay, batch, rate"),
    (CHAIN[0], "whole", "the whole difference"),
)
"""First arm, name and label of the differences to the last arm."""
NAIVE = 0.88
"""Kaplan et al. 2020, Fig. 14: the best size at a fixed batch, read off the envelope of the curves."""


class Chain(Part):
    """See the module."""

    name = "chain"
    title = "From Kaplan's protocol to the tuned one"
    question = (
        "Which of the two protocols' differences make the exponent of the best size differ, on one text and one family"
        " of models, and by how much (Porian et al. 2024, Fig. 1)?"
    )
    design = (
        "Cumulative steps, one factor each. Kaplan's protocol: one batch, one warmup in tokens and one cosine horizon"
        " for all sizes, their rule for the rate, losses read midway, N without embeddings and head, C = 6ND. Then N"
        " counts the head; C is exact (head and attention); the warmup is short; each run's decay ends with it (one run"
        " a size and budget); the batch follows the recipe; the rate is the best of four. The first three arms are the"
        " same runs, counted anew. At each budget the best size is the minimum of the interpolated losses (porian) or"
        " of a parabola (isoflop)."
    )
    sweeps = ("kaplan", "warmup", "decay", "batch", "rates")
    limits = (
        "One seed a cell: the noise is what the losses leave about smooth curves, pooled over all arms; budgets span a"
        " decade, so that a line's slope rests on few optima.",
        "The order of the factors is Porian's; what a factor does depends on those changed before it, for which see the"
        " interactions.",
        "Rates are tuned, and the batch follows a recipe made for bytes; β2, weight decay and shape are not tuned.",
        "The three steps of counting are of one set of runs at one part of the plane; Porian et al. count C as 6ND with"
        " the head where ours is exact.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.compute import measure_compute
        from analysis.figures.gap_chain import plot_gap_chain

        found = measure(scope, CHAIN)
        numbers = []
        for approach in APPROACHES:
            theirs = THEIRS if approach == APPROACHES[0] else {}
            numbers += [exponent(scope, found.arms[n], approach, theirs.get(n)) for n in CHAIN]
        for approach in APPROACHES:
            for before, after in pairwise(CHAIN):
                change = found.change(before, after, approach)
                fall = THEIRS[after] - THEIRS[before] if (before, after) in GROUPS else None
                numbers.append(changed(scope, f"step_{after}", f"step: {LABELS[after]}", change, fall))
            for (before, after), name in zip(GROUPS, NAMES, strict=True):
                if (before, after) not in set(pairwise(CHAIN)):
                    change = found.change(before, after, approach)
                    fall = THEIRS[after] - THEIRS[before]
                    numbers.append(changed(scope, f"group_{after}", f"steps together: {name}", change, fall))
            for before, name, label in SPANS:
                theirs_fall = THEIRS[CHAIN[-1]] - THEIRS[before]
                numbers.append(changed(scope, name, label, found.change(before, CHAIN[-1], approach), theirs_fall))
        long = arms(scope, ["kaplan"])[0].rows
        naive = measure_compute(
            long, scope.curves(long), count="non_embedding", cost="6nd", level=scope.level, bootstrap=scope.bootstrap
        ).naive
        if "N" in naive.trends:
            trend = naive.trends["N"]
            numbers.append(
                Number(
                    "a_kaplan_envelope", "a in N* ∝ C^a, Kaplan's protocol, envelope of the curves (no seeds, so no"
                    " interval)", trend.exponent, str(trend.status), scope.where(MIDWAY["kaplan"]), len(naive.points),
                    "analysis.compute.measure_compute(rows, curves, count='non_embedding', cost='6nd')",
                    trend.reason or naive.reason, "", NAIVE,
                )
            )  # fmt: skip
        numbers.append(tuned(scope, "tuned").number(scope.level))
        caption = (
            "The exponent at each step of the protocol with its interval, Porian et al.'s beside it, and what each step"
            " changes."
        )
        return Finding(
            numbers=tuple(numbers),
            pictures=(scope.draw("gap-chain", caption, lambda: plot_gap_chain(found, CHAIN)),),
            says=(*verdict(found), *found.warnings),
            detail={"protocols": found, "published": PUBLISHED, "call": call(CHAIN)},
        )


def verdict(found: Protocols, approach: str = APPROACHES[0]) -> tuple[str, ...]:
    """Sign and order of the steps and the whole difference, against the published ones; what is not known said so."""
    text = []
    for before, _, label in SPANS:
        change = found.change(before, CHAIN[-1], approach)
        theirs = THEIRS[CHAIN[-1]] - THEIRS[before]
        head = label[0].upper() + label[1:]
        if not all(map(math.isfinite, change.value.ci)):
            text.append(f"{head}: not known, {change.reason} (theirs {theirs:+.3f}).")
        else:
            told = "its interval excludes 0" if change.value.excludes() else "its interval does not exclude 0"
            text.append(f"{head}: a changes by {says(change.value)}, {told} (theirs {theirs:+.3f}).")
    steps = [(name, found.change(a, b, approach), THEIRS[b] - THEIRS[a])
             for (a, b), name in zip(GROUPS, NAMES, strict=True)]  # fmt: skip
    known = [(n, c, t) for n, c, t in steps if str(c.status) == CONVERGED]
    vague = [n for n, c, _ in steps if str(c.status) != CONVERGED]
    for name, change, theirs in known:
        way = "falls" if change.value.value < 0 else "rises"
        same = "as theirs did" if change.value.value * theirs > 0 else "where theirs fell"
        text.append(f"By {name} a {way} by {show(abs(change.value.value))}, {same} (theirs {theirs:+.3f}).")
    if vague:
        text.append(f"Not told from 0: {', '.join(vague)}; nor is the order of the steps known.")
    else:
        ours = [n for n, c, _ in sorted(known, key=lambda s: s[1].value.value)]
        published = [n for n, _, t in sorted(known, key=lambda s: s[2])]
        same = "the order of theirs" if ours == published else f"not the order of theirs ({', '.join(published)})"
        text.append(f"From the largest fall to the least: {', '.join(ours)}; {same}.")
    walks = len(known) == len(steps) and all(c.value.value < 0 for _, c, _ in known)
    text.append(
        "Every step goes the way of the published chain, and is told from 0."
        if walks
        else "Ours does not walk as the published chain did, or cannot be told to: see the steps above."
    )
    return tuple(text)


PART = Chain()
