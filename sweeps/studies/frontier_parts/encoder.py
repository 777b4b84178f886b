"""The encoder's frontier: isoFLOP sweeps of masked models, of words over a learned vocabulary and of bytes."""

from __future__ import annotations

from sweeps.studies.frontier_parts.arm import Arm, measure, together
from sweeps.studies.part import Finding, Part, Scope

ARM = Arm("encoder", "Encoder, words", "encoder", ("encoder-seeds",))
BYTES = Arm("bytes", "Encoder, bytes", "encoder-bytes")


class Encoder(Part):
    """See the module."""

    name = "encoder"
    title = "The encoder's frontier"
    question = (
        "What is the compute-optimal size of a masked encoder, and does it grow with compute as the decoder's does? And"
        " is it the same for whole words over a learned vocabulary as for single bytes?"
    )
    design = (
        "As the decoder's, with 15 % of the tokens masked (80 % masked, 10 % random, 10 % kept): whole words over a"
        " byte-pair vocabulary of 2,048, six sizes at budgets a factor 2.5 apart about twice the centre of bytes (a"
        " token holds some three bytes, so that fewer are needed for each parameter), with two more seeds of two"
        " sizes at the two lowest; and beside it single bytes, five sizes at the three lower budgets. Small models of"
        " large budgets pass over the text more than once, with new masks each time. Losses are nats per masked"
        " token, so that those of the two are on different scales; exponents can be set beside each other, losses"
        " cannot."
    )
    sweeps = (*ARM.sweeps, *BYTES.sweeps)
    limits = (
        "A seventh of the tokens bear loss, so that a run of the same cost is noisier and less of it is learning; the"
        " lowest budgets are near where masked models begin to learn at all.",
        "Rate and batch are the recipe's for bidirectional models, tuned on bytes at one budget, not for words.",
        "The two arms differ in tokenizer and unit at once: their difference is that of both together.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        target = ARM.family(scope).beyond[-1]
        return together([measure(scope, ARM, target=target), measure(scope, BYTES)])


PART = Encoder()
