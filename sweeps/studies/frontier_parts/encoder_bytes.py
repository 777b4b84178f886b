"""The frontier of the same encoder on single masked bytes: three budgets, five sizes."""

from __future__ import annotations

from sweeps.studies.frontier_parts.arm import Arm, measure
from sweeps.studies.part import Finding, Part, Scope

ARM = Arm("bytes", "Encoder, bytes", "encoder-bytes", grids=("encoder-bytes-tuning",))


class EncoderBytes(Part):
    """See the module."""

    name = "encoder-bytes"
    title = "The encoder's frontier on bytes"
    question = "Is the frontier of a masked encoder the same for single bytes as for whole words of a vocabulary?"
    design = (
        "As the encoder of words, on single masked bytes: five sizes at the three lower budgets, rate and batch as"
        " tuned for bytes. Losses are nats per masked byte: exponents can be set beside those of words, losses cannot."
    )
    sweeps = ARM.sweeps
    limits = (
        "Three budgets, a factor of 6.3 apart in all.",
        "Rate and batch were tuned at the least budget, at two sizes; above it they follow the recipe.",
        "The two encoders differ in tokenizer, unit and the rule of rates at once: their difference is that of all.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        return measure(scope, ARM)


PART = EncoderBytes()
