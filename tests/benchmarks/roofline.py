"""What the step benchmark found, as a table and as a figure: achieved FLOP/s by width against the machine's ceiling."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.plain import Shape

NAMES = {"plain": "plain torch", "jax": "JAX", "eager": "ours, eager", "compiled": "ours, compiled"}


def ratios(entry: dict[str, Any], side: str) -> list[float]:
    """A side's rate over the plain one's, by round."""
    return [a / b for a, b in zip(entry["rates"][side], entry["rates"]["plain"], strict=True)]


def share(entry: dict[str, Any], side: str) -> list[float]:
    """Model FLOP/s as a share of the bf16 ceiling, by round."""
    flops = Shape(**entry["shape"]).flops_per_token
    return [rate * flops / top for rate, top in zip(entry["rates"][side], entry["ceiling"], strict=True)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def render(found: list[dict[str, Any]]) -> str:
    """The table, as Markdown."""
    tops = [c for e in found for c in e["ceiling"]]
    sides = [s for s in NAMES if s in found[0]["rates"]]
    lines = [
        "# Training step: tokens per second against a plain eager float32 GPT",
        "",
        "Two processes of one thread each run a side at once; sides alternate; tokens per second are of one process,",
        f"medians of {len(found[0]['ceiling'])} rounds, [lowest, highest]. Command: `python -m tests.benchmarks step`.",
        "Ceiling: bf16 products of 1024 × 1024 on the same machine in the same rounds,",
        f"{statistics.median(tops) / 1e9:.0f} GFLOP/s a core [{min(tops) / 1e9:.0f}, {max(tops) / 1e9:.0f}].",
        "Model FLOPs: 6(12 L d² + V d) + 12 L d T a token, attention not halved for causality.",
        "",
        "| width × layers | V, T | batch, tokens | "
        + " | ".join(f"{NAMES[s]}, tokens/s" for s in sides)
        + " | eager ratio | compiled ratio | compiled, share of the ceiling |",
        "|---" * (len(sides) + 6) + "|",
    ]
    for entry in found:
        s = Shape(**entry["shape"])
        cells = [f"{s.width} × {s.layers}", f"{s.vocab}, {s.seq_len}", str(s.batch_tokens)]
        cells += [f"{statistics.median(entry['rates'][side]) / 1e3:.1f}k" for side in sides]
        cells += [spread(ratios(entry, side)) for side in ("eager", "compiled")] + [spread(share(entry, "compiled"))]
        lines.append("| " + " | ".join(cells) + " |")
    if "jax" not in sides:
        lines += ["", "JAX is not installed here; with it (`pip install jax`) the same command measures it too."]
    return "\n".join(lines) + "\n"


def draw(found: list[dict[str, Any]], stem: Path) -> None:
    """The figure, SVG and PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    tops = [c / 1e9 for e in found for c in e["ceiling"]]
    ax.axhspan(min(tops), max(tops), color="0.85", lw=0)
    ax.axhline(statistics.median(tops), color="0.4", lw=1)
    ax.annotate(
        "bf16 products of 1024 × 1024",
        (0.02, statistics.median(tops)),
        xycoords=("axes fraction", "data"),
        xytext=(0, -12),
        textcoords="offset points",
        fontsize=8,
        color="0.3",
    )
    styles = {"plain": ("0.45", "s"), "jax": ("#cc8833", "^"), "eager": ("#4f8fc0", "o"), "compiled": ("#1b4f8a", "o")}
    large = [e for e in found if e["shape"]["batch_tokens"] >= 2048 and e["shape"]["vocab"] == 256]
    for side in [s for s in NAMES if s in found[0]["rates"]]:
        colour, marker = styles[side]
        x = [e["shape"]["width"] for e in large]
        rates = [[r * Shape(**e["shape"]).flops_per_token / 1e9 for r in e["rates"][side]] for e in large]
        middle = [statistics.median(r) for r in rates]
        error = [
            [m - min(r) for m, r in zip(middle, rates, strict=True)],
            [max(r) - m for m, r in zip(middle, rates, strict=True)],
        ]
        ax.errorbar(x, middle, error, color=colour, marker=marker, ms=5, lw=1.3, label=NAMES[side])
    ax.set(xscale="log", yscale="log", xlabel="width", ylabel="model GFLOP/s, one core of two at work")
    ax.set_xticks([e["shape"]["width"] for e in large], [str(e["shape"]["width"]) for e in large])
    ax.minorticks_off()
    ax.set_yticks([20, 50, 100, 200, 500], ["20", "50", "100", "200", "500"])
    ax.legend(frameon=False, fontsize=8, loc="lower right")
    ax.spines[["top", "right"]].set_visible(False)
    for suffix in ("svg", "png"):
        fig.savefig(stem.with_suffix(f".{suffix}"), dpi=160)
    plt.close(fig)
