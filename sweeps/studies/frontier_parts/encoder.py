"""The encoder's frontier: an isoFLOP sweep of masked words over a learned vocabulary, trained rung by rung."""

from __future__ import annotations

from sweeps.studies.frontier_parts.arm import Arm, measure
from sweeps.studies.part import Finding, Part, Scope

ARM = Arm("encoder", "Encoder, words", "encoder", ("encoder-seeds",), grids=("encoder-tuning",))


class Encoder(Part):
    """See the module."""

    name = "encoder"
    title = "The encoder's frontier"
    question = (
        "What is the compute-optimal size of a masked encoder, and does it grow with compute as the decoder's does?"
    )
    design = (
        "As the decoder's, with 15 % of the tokens masked (80 % masked, 10 % random, 10 % kept): whole words over a"
        " byte-pair vocabulary of 2,048, three layers at every size, six sizes at budgets a factor 2.5 apart, rate and"
        " batch by a rule tuned for words at the least budget, with two more seeds of two sizes at the two lowest."
        " Small models of large budgets pass over the text more than once, with new masks each time. Losses are nats"
        " per masked token: exponents can be set beside the decoder's, losses cannot."
    )
    sweeps = ARM.sweeps
    limits = (
        "A seventh of the tokens bear loss, so that a run of the same cost is noisier and less of it is learning; the"
        " lowest budgets are near where masked models begin to learn at all.",
        "Rate and batch were tuned at two sizes of the least budget and tried at one of the next; above they follow the"
        " rule.",
        "Budgets span a factor of 16: nothing is claimed of the exponents beyond their intervals.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        return measure(scope, ARM, target=ARM.family(scope).beyond[-1])


PART = Encoder()
