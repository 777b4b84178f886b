"""Interactions: does tuning the rate do the same at a fixed batch, and counting the same on tuned runs?"""

from __future__ import annotations

from dataclasses import replace

from analysis.protocols import APPROACHES
from sweeps.studies.gap_parts.arms import changed, exponent, measure, tuned
from sweeps.studies.part import CONVERGED, Finding, Part, Scope, says

ARMS = ("flops", "flops_blocks", "decay", "batch", "fixed_tuned", "tuned", "tuned_blocks")
EFFECTS = (
    ("rate_at_fixed_batch", "tuning the rate, at the fixed batch", ((1, "fixed_tuned"), (-1, "decay"))),
    ("rate_at_recipe_batch", "tuning the rate, at the recipe's batch", ((1, "tuned"), (-1, "batch"))),
    ("batch_untuned", "batch by the recipe, at Kaplan's rates", ((1, "batch"), (-1, "decay"))),
    ("batch_tuned", "batch by the recipe, at the best rates", ((1, "tuned"), (-1, "fixed_tuned"))),
    (
        "batch_by_rate",
        "interaction of batch and rate",
        ((1, "tuned"), (-1, "batch"), (-1, "fixed_tuned"), (1, "decay")),
    ),
    (
        "counting_by_protocol",
        "interaction of the head in N and the rest of the protocol",
        ((1, "tuned"), (-1, "tuned_blocks"), (-1, "flops"), (1, "flops_blocks")),
    ),
)
"""Name, label and terms of each; the last two say whether effects add up."""


class Interactions(Part):
    """See the module."""

    name = "interactions"
    title = "Interactions"
    question = (
        "Does the order of the steps matter: does tuning the rate do at a fixed batch what it does at the recipe's, and"
        " does counting the head do on tuned runs what it does on Kaplan's?"
    )
    design = (
        "Batch (fixed, recipe's) × rate (Kaplan's rule, best of those tried), all four with matched decay; and N with"
        " and without the head × Kaplan's and the tuned runs, at exact FLOPs. An interaction is the change of a change."
    )
    sweeps = ("fixed-rates",)
    uses = ("kaplan", "decay", "batch", "rates")
    limits = (
        "The best of a few rates a cell; where two were tried at the fixed batch, whether the better is the best cannot"
        " be told.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        found = measure(scope, ARMS)
        interior = tuned(scope, "fixed_tuned").number(scope.level)
        numbers = [replace(interior, name="interior_rates_fixed", label=f"{interior.label}, at the fixed batch")]
        text = []
        for approach in APPROACHES:
            numbers += [exponent(scope, found.arms[n], approach) for n in ("fixed_tuned", "tuned_blocks")]
            for name, label, terms in EFFECTS:
                change = found.contrast(terms, approach)
                numbers.append(changed(scope, name, label, change))
                if approach == APPROACHES[0] and "interaction" in label:
                    told = "is told from 0" if str(change.status) == CONVERGED else f"is not resolved ({change.reason})"
                    text.append(f"The {label} is {says(change.value)} and {told}.")
        return Finding(numbers=tuple(numbers), says=tuple(text), detail={"protocols": found})


PART = Interactions()
