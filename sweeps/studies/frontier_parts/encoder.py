"""The encoder's frontier: isoFLOP sweeps of masked models, of words over a learned vocabulary and of bytes."""

from __future__ import annotations

from sweeps.studies.frontier_parts.arm import Arm, measure, together
from sweeps.studies.part import Finding, Part, Scope

ARM = Arm("encoder", "Encoder, words", "encoder", ("encoder-seeds",), grids=("encoder-tuning",))
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
        "As the decoder's, with 15 % of the tokens masked (80 % masked, 10 % random, 10 % kept) and three layers at"
        " every size: whole words over a byte-pair vocabulary of 2,048, six sizes at budgets a factor 2.5 apart, rate"
        " and batch by a rule tuned for words at the least budget, with two more seeds of two sizes at the two lowest;"
        " and beside it single bytes, five sizes at the three lower budgets, rate and batch as tuned for bytes. Small"
        " models of large budgets pass over the text more than once, with new masks each time. Losses are nats per"
        " masked token, so that those of the two are on different scales; exponents can be set beside each other,"
        " losses cannot."
    )
    sweeps = (*ARM.sweeps, *BYTES.sweeps)
    limits = (
        "A seventh of the tokens bear loss, so that a run of the same cost is noisier and less of it is learning; the"
        " lowest budgets are near where masked models begin to learn at all.",
        "Words: rate and batch were tuned at the least budget, at two sizes; above it they follow the rule.",
        "Bytes: rate and batch were tuned at one budget, on a coarser grid (`results/LOG.md`).",
        "The two arms differ in tokenizer, unit and the rule of rates at once: their difference is that of all.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        target = ARM.family(scope).beyond[-1]
        return together([measure(scope, ARM, target=target), measure(scope, BYTES)])


PART = Encoder()
