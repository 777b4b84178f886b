"""Counting: Pearce and Song's account on our own tuned surface, and one set of runs under three conventions of N."""

from __future__ import annotations

from analysis.protocols import APPROACHES
from sweeps.studies.gap_parts.arms import changed, exponent, measure, tuned
from sweeps.studies.part import CONVERGED, Finding, Number, Part, Scope, says

CONVENTIONS = ("tuned", "tuned_total", "tuned_blocks")
NANOCHAT = {"tuned": 0.54, "tuned_total": 0.37, "tuned_blocks": 0.70}
"""Exponents that nanochat's notes give for four budgets of 1e18 to 1e19 FLOPs, by what N counts."""
WORDS = {
    "exact": "N all parameters, C exact",
    "total": "all parameters, C = 6ND",
    "non_embedding_head": "non-embedding with the head, C = 6ND",
    "non_embedding": "non-embedding, C = 6ND",
}


class Counting(Part):
    """See the module."""

    name = "counting"
    title = "What counting alone does"
    question = (
        "If the loss is one surface of all parameters and tokens, how much steeper does the best size grow when N and C"
        " leave out embeddings (Pearce and Song 2024)? And what do the tuned runs give under nanochat's three"
        " conventions of N?"
    )
    design = (
        "Hoffmann's law is fitted to the tuned runs with all parameters; on it the best size of our own family is found"
        " under each count, over the costs of the same runs. Then the tuned runs themselves, at the same exact budgets,"
        " with N counted three ways."
    )
    uses = ("batch", "rates")
    limits = (
        "The size of the effect depends on the vocabulary and on how small the models are: ours are smaller than"
        " Pearce and Song's median and have 4,096 tokens, theirs 800 to 1.6e9 parameters and 32,000.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.recounting import PUBLISHED, recount
        from analysis.table import read_table

        best = tuned(scope, "tuned")
        surface = scope.fit("chinchilla", best.where, count="total", cost="exact")
        account = recount(surface, read_table(best.rows), level=scope.level)
        numbers = []
        status, reason = str(account.status), account.reason
        for name, slope in account.exponents.items():
            beyond = status == CONVERGED and not slope.known
            numbers.append(
                Number(
                    f"surface_{name}", f"a on the fitted surface: {WORDS[name]}", slope,
                    "non_interior" if beyond else status, best.where, len(best.rows),
                    "analysis.recounting.recount(surface, runs)",
                    "the best sizes lie outside those trained" if beyond else reason, "", PUBLISHED.get(name),
                )
            )  # fmt: skip
        change = account.changes["non_embedding"]
        if status != CONVERGED or not change.known:
            outside = "the best sizes lie outside those trained"
            worth = ("non_interior", outside) if status == CONVERGED else (status, reason)
        else:
            told, why = change.told_from()
            worth = (str(told), why)
        numbers.append(
            Number(
                "surface_change", "non-embedding less all parameters, on the surface", change, worth[0], best.where,
                len(best.rows), "analysis.recounting.recount(surface, runs)", worth[1], "",
                PUBLISHED["non_embedding"] - PUBLISHED["total"],
            )
        )  # fmt: skip
        found = measure(scope, CONVENTIONS)
        for approach in APPROACHES:
            theirs = NANOCHAT if approach == APPROACHES[0] else {}
            numbers += [exponent(scope, found.arms[n], approach, theirs.get(n)) for n in CONVENTIONS]
            spread = found.change("tuned_total", "tuned_blocks", approach)
            numbers.append(
                changed(
                    scope, "conventions", "transformer alone less all parameters, the same runs", spread,
                    NANOCHAT["tuned_blocks"] - NANOCHAT["tuned_total"],
                )
            )  # fmt: skip
        spread = found.change("tuned_total", "tuned_blocks")
        text = [
            f"On the surface of the tuned runs leaving out the embeddings changes a by {says(change)}; at equal exact"
            f" FLOPs, the same runs counted without embeddings and head rather than with all change it by"
            f" {says(spread.value)}."
        ]
        return Finding(
            numbers=tuple(numbers), says=tuple(text), detail={"surface": surface, "account": account, "arms": found}
        )


PART = Counting()
