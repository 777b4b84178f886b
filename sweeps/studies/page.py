"""The page of a Hoffmann study: question, design, figures, numbers with intervals and commands, what is not settled."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_name("hoffmann.md.jinja")


def write_page(folder: Path, result: dict[str, Any]) -> Path:
    """Writes README.md of a study folder from what fits.json holds; returns its path."""
    from jinja2 import Environment, StrictUndefined

    # Markdown, not HTML: nothing here is rendered by a browser without its own escaping.
    environment = Environment(undefined=StrictUndefined, autoescape=False)
    environment.filters |= {
        "flops": lambda x: f"{x:.3g}".replace("e+", "e"),
        "si": _si,
        "words": lambda text: text.replace("_", " "),
        "estimate": _estimate,
        "losses": lambda xs: ", ".join(f"{x:.4f}" for x in xs) or "not trained",
        "error": _error,
        "inside": lambda p: "" if not p["score"] else ("yes" if p["score"]["inside"] else "**no**"),
        "baseline": _baseline,
    }
    families = {name: {**f, **_reading(f)} for name, f in result["families"].items()}
    text = environment.from_string(TEMPLATE.read_text()).render(
        **{**result, "families": families}, target_factor=3, commands=_commands(result)
    )
    path = folder / "README.md"
    path.write_text(text)
    return path


def _reading(family: dict[str, Any]) -> dict[str, Any]:
    chosen = [
        p
        for p in family["frontier"]["agreement"].get("pairs", [])
        if (p["count"], p["cost"]) == ("non_embedding", "exact")
    ]
    refused = [
        f"{f['approach']} at {p['flops']:.3g}: {p['status']}".replace("e+", "e")
        for f in family["frontier"]["frontiers"]
        if (f["count"], f["cost"]) == ("non_embedding", "exact") and f["approach"] == "isoflop"
        for p in f["points"]
        if p["status"] != "converged"
    ]
    return {"agreement": chosen, "refused": refused, "margin": family["frontier"]["agreement"].get("margin", "")}


def _commands(result: dict[str, Any]) -> str:
    lines = [f"scaling reproduce hoffmann --scale {result['scale']}"]
    for family in result["families"].values():
        lines.append(f"scaling frontier store --where \"sweep == '{family['sweep']}'\" --count non_embedding")
    lines.append("scaling score store")
    return "\n".join(lines)


def _si(value: float) -> str:
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3g}{unit}"
    return f"{value:g}"


def _estimate(value: dict[str, Any], si: bool = False) -> str:
    if value["value"] is None:
        return "–"
    show = _si if si else _plain
    lo, hi = ("?" if end is None else show(end) for end in value["ci"])
    return f"{show(value['value'])} [{lo}, {hi}]"


def _plain(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.3f}" if 0.01 <= abs(value) < 100 else f"{value:.3g}".replace("e+", "e")


def _error(prediction: dict[str, Any]) -> str:
    return f"{100 * prediction['score']['error_relative']:+.2f} %" if prediction["score"] else ""


def _baseline(prediction: dict[str, Any], name: str) -> str:
    value = prediction["baselines"].get(name)
    if value is None:
        return "–"
    error = (prediction["score"] or {}).get("baseline_errors", {}).get(name)
    relative = "" if error is None else f" ({100 * error / (value - error):+.2f} %)"
    return f"{value:.4f}{relative}"
