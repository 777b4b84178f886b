"""What the cross-entropy's kernel saves of a compiled step, by vocabulary and width.

One process and thread, alternating, by the processor's own time, so that other work here counts little.
"""

from __future__ import annotations

SHAPES = ((16, 3, 1), (64, 3, 4), (128, 3, 8))
VOCABULARIES = (259, 2048, 4096, 16384)
TOKENS, ROUNDS = 2048, 11


def seconds(width: int, layers: int, heads: int, vocab: int) -> dict[str, float]:
    """Processor seconds of a training step by torch's cross-entropy and by the kernel."""
    from scaling.execution import choose_execution, prepare_process, put_in_force
    from scaling.step import StepFunction
    from tests.benchmarks.worlds import decoder, step_seconds

    prepare_process()
    functions = {}
    for name, loss in (("torch", None), ("kernel", "native")):
        of = decoder(width, layers, heads, batch_tokens=TOKENS, steps=1000)
        chosen = choose_execution(of, vocab, compile_trials=True).model_copy(update={"loss": loss})
        put_in_force(chosen)
        functions[name] = (of, StepFunction(of, vocab, chosen))
    return step_seconds(functions, ROUNDS, vocab)


def table() -> str:
    """The table."""
    from scaling.provenance import environment

    rows = []
    for width, layers, heads in SHAPES:
        for vocab in VOCABULARIES:
            found = seconds(width, layers, heads, vocab)
            by_torch, ours = 1e3 * found["torch"], 1e3 * found["kernel"]
            rows.append(f"| {width} × {layers} | {vocab:,} | {by_torch:.1f} | {ours:.1f} | {by_torch / ours:.2f} |")
    return "\n".join(
        (
            "# The cross-entropy by this project's kernel",
            "",
            f"A decoder's training step, compiled, {TOKENS} tokens, windows of 128, one thread, median of {ROUNDS}",
            f"alternating rounds, processor time, {environment()['processor']}. Command:",
            "`python -m tests.benchmarks cross_entropy`.",
            "",
            "| width × layers | vocabulary | torch, ms | kernel, ms | torch / kernel |",
            "|---|---|---|---|---|",
            *rows,
            "",
        )
    )
