"""The page of a Hoffmann study: question, design, figures, numbers with intervals and commands, what is not settled."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from sweeps.studies.parts_page import si

TEMPLATE = Path(__file__).with_name("hoffmann.md.jinja")


def write_page(folder: Path, result: dict[str, Any]) -> Path:
    """Writes README.md of a study folder from what fits.json holds; returns its path."""
    from jinja2 import Environment, StrictUndefined

    # Markdown, not HTML: nothing here is rendered by a browser without its own escaping.
    environment = Environment(undefined=StrictUndefined, autoescape=False)
    environment.filters |= {
        "flops": lambda x: f"{x:.3g}".replace("e+", "e"),
        "si": si,
        "words": lambda text: text.replace("_", " "),
        "estimate": _estimate,
        "losses": lambda xs: ", ".join(f"{x:.4f}" for x in xs) or "not trained",
        "error": _error,
        "inside": _inside,
        "baseline": _baseline,
    }
    families = {name: {**f, **_reading(f)} for name, f in result["families"].items()}
    span = max(max(f["runs"]["budgets"]) / min(f["runs"]["budgets"]) for f in families.values())
    text = environment.from_string(TEMPLATE.read_text()).render(
        **{**result, "families": families}, target_factor=3, span=f"{span:.3g}", commands=_commands(result)
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


def _estimate(value: dict[str, Any], large: bool = False) -> str:
    if value["value"] is None:
        return "–"
    show = si if large else _plain
    lo, hi = ("?" if end is None else show(end) for end in value["ci"])
    return f"{show(value['value'])} [{lo}, {hi}]"


def _plain(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.3f}" if 0.01 <= abs(value) < 100 else f"{value:.3g}".replace("e+", "e")


def _error(prediction: dict[str, Any]) -> str:
    return f"{100 * prediction['score']['error_relative']:+.2f} %" if prediction["score"] else ""


def _inside(prediction: dict[str, Any]) -> str:
    return "" if not prediction["score"] else ("yes" if prediction["score"]["inside"] else "**no**")


def _baseline(prediction: dict[str, Any], name: str) -> str:
    value = prediction["baselines"].get(name)
    if value is None:
        return "–"
    error = (prediction["score"] or {}).get("baseline_errors", {}).get(name)
    relative = "" if error is None else f" ({100 * error / (value - error):+.2f} %)"
    return f"{value:.4f}{relative}"


def summary_table(result: dict[str, Any]) -> str:
    """The study in one Markdown table: exponents by approach, optima, prediction, score; non-embedding N, exact C."""
    families = result["families"]
    rows = [["", *(f"{name} ({_OBJECTIVES[name]})" for name in families)]]
    rows.append(["budgets, exact FLOPs", *(_span(f["runs"]["budgets"]) for f in families.values())])
    rows.append(["runs", *(str(f["runs"]["finished"]) for f in families.values())])
    for approach in ("isoflop", "parametric", "vpnls", "envelope"):
        cells = []
        for family in families.values():
            found = _chosen(family, approach)
            note = "" if found["status"] == "converged" else f", {found['status']}"
            cells.append(_estimate(found["N_exponent"]) + note)
        rows.append([f"a in N* ∝ C^a, {approach}", *cells])
    best = [[p for p in _chosen(f, "isoflop")["points"] if p["status"] == "converged"] for f in families.values()]
    rows.append(
        [
            "N* and D*/N*, isoflop, largest budget",
            *(
                f"{si(p[-1]['params'])}, {p[-1]['tokens'] / p[-1]['params']:.0f} bytes" if p else "refused"
                for p in best
            ),
        ]
    )
    made = [f["prediction"] for f in families.values()]
    rows.append(
        ["predicted loss at 3× the largest budget", *(_estimate(p["predicted"]["loss"]) if p else "–" for p in made)]
    )
    rows.append(["observed", *(", ".join(f"{x:.4f}" for x in p["observed"]) if p else "–" for p in made)])
    rows.append(["error of the law", *(_error(p) if p else "–" for p in made)])
    rows.append(["inside its interval?", *(_inside(p) if p else "–" for p in made)])
    rows.append(["pure power law (its error)", *(_baseline(p, "power_law") if p else "–" for p in made)])
    rows.append(
        ["line through the last two budgets (its error)", *(_baseline(p, "last_two") if p else "–" for p in made)]
    )
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


_OBJECTIVES = {"decoder": "causal, nats per token", "encoder": "masked 15 %, nats per predicted token"}


def _chosen(family: dict[str, Any], approach: str) -> dict[str, Any]:
    for found in family["frontier"]["frontiers"]:
        if (found["approach"], found["count"], found["cost"]) == (approach, "non_embedding", "exact"):
            return dict(found)
    raise KeyError(approach)


def _span(budgets: list[float]) -> str:
    return ", ".join(f"{b:.3g}".replace("e+", "e") for b in budgets)
