"""What a step costs in bf16 and in float32 on this processor, and which of the two a run takes here.

Eager steps of one process and thread, alternating, by the processor's own time, so that other work here counts little.
"""

from __future__ import annotations

SHAPES = ((32, 3, 2), (64, 3, 4), (128, 4, 8))
TOKENS, ROUNDS = 512, 5


def seconds(width: int, layers: int, heads: int) -> dict[str, float]:
    """Processor seconds of a training step, the median of the rounds, by the precision of its products."""
    from scaling.execution import choose_execution, prepare_process, put_in_force
    from scaling.step import StepFunction
    from tests.benchmarks.worlds import decoder, step_seconds

    prepare_process()
    of = decoder(width, layers, heads, batch_tokens=TOKENS, steps=1000)
    chosen = choose_execution(of, 256, compile_trials=False)
    put_in_force(chosen)
    functions = {
        "bf16": StepFunction(of, 256, chosen.model_copy(update={"compute": None})),
        "fp32": StepFunction(of, 256, chosen.model_copy(update={"compute": "fp32"})),
    }
    return step_seconds({name: (of, function) for name, function in functions.items()}, ROUNDS, 256)


def table() -> str:
    """The table."""
    from scaling.execution import multiplies_bf16
    from scaling.provenance import environment

    rows = []
    for width, layers, heads in SHAPES:
        found = seconds(width, layers, heads)
        ratio = found["bf16"] / found["fp32"]
        rows.append(f"| {width} × {layers} | {1e3 * found['bf16']:.1f} | {1e3 * found['fp32']:.1f} | {ratio:.2f} |")
    own = multiplies_bf16()
    taken = "in bf16" if own else "in float32"
    return "\n".join(
        (
            "# A step in bf16 and in float32",
            "",
            f"Eager, {TOKENS} tokens, one thread, median of {ROUNDS} alternating rounds, processor time.",
            f"{environment()['processor']}, products in bf16 by hardware: {'yes' if own else 'no'}, so a trial of",
            f"precision bf16 is computed {taken} here. Command: `python -m tests.benchmarks dtypes`.",
            "",
            "| width × layers | bf16, ms | float32, ms | bf16 / float32 |",
            "|---|---|---|---|",
            *rows,
            "",
        )
    )
