"""The decoder's frontier with as many layers at every size, where the recipe's depth grows with width."""

from __future__ import annotations

from sweeps.studies.frontier_parts.arm import HOFFMANN, Arm, measure
from sweeps.studies.part import Finding, Part, Scope

ARM = Arm(
    "one_depth", "Decoder, one depth", "decoder-one-depth", ("decoder-one-depth-seeds",), HOFFMANN,
    ("tuning", "tuning-confirm"), rungs=False,
)  # fmt: skip


class OneDepth(Part):
    """See the module."""

    name = "decoder-one-depth"
    title = "The decoder's frontier at one depth"
    question = (
        "The recipe gives wider models more layers, and the law of the decoder's rungs foretold too high losses beyond"
        " them. Does it foretell a family better whose depth is one, and does depth move the frontier?"
    )
    design = (
        "As the decoder's, with three layers at every size: the runs of up to 279k parameters are the same, larger ones"
        " are wider and shallower. Two more seeds of three sizes at the two lowest budgets. Made after the decoder's"
        " misses were seen; the forecast beyond is registered before its runs."
    )
    sweeps = ARM.sweeps
    limits = (
        "Most runs are the decoder's own: the two families are not independent.",
        "What is best at one depth is not best of all: at the upper budgets four layers reached lower losses.",
        "Budgets span a factor of 40, one seed in most cells.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        return measure(scope, ARM, target=ARM.family(scope).beyond[-1])


PART = OneDepth()
