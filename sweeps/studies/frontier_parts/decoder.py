"""The decoder's frontier: isoFLOP sweeps of a causal model, trained rung by rung, by every approach."""

from __future__ import annotations

from sweeps.studies.frontier_parts.arm import HOFFMANN, Arm, measure
from sweeps.studies.part import Finding, Part, Scope

ARM = Arm(
    "decoder", "Decoder", "decoder", ("decoder-seeds", "decoder-upper-seeds"), HOFFMANN, ("tuning", "tuning-confirm")
)


class Decoder(Part):
    """See the module."""

    name = "decoder"
    title = "The decoder's frontier"
    question = (
        "At a fixed number of training FLOPs, how large should a causal model be and on how many tokens should it be"
        " trained (Hoffmann et al. 2022), and do the approaches that answer this agree on the same runs?"
    )
    design = (
        "Budgets a factor 2.5 apart, seven sizes a factor 2 apart about a centre that moves with the budget; depth,"
        " heads, batch, rate and warmup by recipe small-v1, cosine to the end of each run. Two more seeds at a quarter"
        " of the centre, at it and at four times it, at the two lowest budgets, one more at an upper one."
    )
    sweeps = ARM.sweeps
    limits = (
        "Budgets span a factor of 40: nothing is claimed of the exponents beyond their intervals, and two approaches"
        " whose difference is not resolved are not shown to agree.",
        "The floor E cannot be told from a slower power law by runs this short; a and b hold near these budgets only.",
        "One seed in most cells: the noise is that of the few repeated cells, or of the residuals about the law.",
        "Batch and rate follow one rule; a rung that the rule tunes worse than the others tilts the frontier. How far"
        " is measured in the section on tuning, on grids at two budgets alone.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        return measure(scope, ARM, target=ARM.family(scope).beyond[-1])


PART = Decoder()
