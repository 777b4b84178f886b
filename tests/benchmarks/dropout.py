"""What dropout costs a compiled step: drawn ahead, against drawn by torch within the step, and against none.

One process and thread, alternating, by the processor's own time, so that other work here counts little.
"""

from __future__ import annotations

SHAPES = ((28, 3, 2), (56, 3, 4), (88, 3, 4))
TOKENS, ROUNDS, SHARE = 2048, 15, 0.1


def seconds(width: int, layers: int, heads: int) -> dict[str, float]:
    """Processor seconds of a training step by how dropout is drawn."""
    from scaling.execution import choose_execution, prepare_process, put_in_force
    from scaling.step import StepFunction
    from tests.benchmarks.worlds import decoder, step_seconds

    prepare_process()
    functions = {}
    for name, share in (("none", 0.0), ("torch", SHARE), ("ahead", SHARE)):
        of = decoder(width, layers, heads, batch_tokens=TOKENS, steps=1000)
        of = of.model_copy(update={"architecture": of.architecture.model_copy(update={"dropout": share})})
        chosen = choose_execution(of, 256, compile_trials=True)
        if name == "torch":
            chosen = chosen.model_copy(update={"dropout": None, "attention": "manual"})
        put_in_force(chosen)
        functions[name] = (of, StepFunction(of, 256, chosen))
    return step_seconds(functions, ROUNDS, 256)


def table() -> str:
    """The table."""
    from scaling.provenance import environment

    rows = []
    for width, layers, heads in SHAPES:
        found = seconds(width, layers, heads)
        none, torch, ahead = (found[n] for n in ("none", "torch", "ahead"))
        cells = (1e3 * none, 1e3 * torch, 1e3 * ahead)
        shown = " | ".join(f"{c:.1f}" for c in cells)
        rows.append(f"| {width} × {layers} | {shown} | {torch / ahead:.2f} | {ahead / none:.2f} |")
    return "\n".join(
        (
            "# Dropout drawn ahead of a step",
            "",
            f"Compiled, dropout {SHARE:g}, {TOKENS} tokens, windows of 128, one thread, median of {ROUNDS} alternating",
            f"rounds, processor time, {environment()['processor']}. By torch: drawn within the step, attention by",
            "plain products. Ahead: one flat draw a micro-batch, attention by this project's kernel. Command:",
            "`python -m tests.benchmarks dropout`.",
            "",
            "| width × layers | no dropout, ms | by torch, ms | ahead, ms | torch / ahead | ahead / none |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        )
    )
