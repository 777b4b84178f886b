"""The page of a study in parts: every number from fits.json, a part that is not measured said to be so."""

from __future__ import annotations

import re
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

LONG = 100
"""A reason longer than this is cut at its parenthesis, a list of runs gets a file; fits.json has the whole."""


def write_page(folder: Path, result: dict[str, Any], *, template: str, first: str, published: str) -> Path:
    """Writes README.md of a study folder from what fits.json holds; returns its path.

    Args:
        folder: of the study.
        result: what fits.json holds.
        template: a file of this package.
        first: the part whose section opens the page.
        published: whose values stand beside ours.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Markdown, not HTML: nothing here is rendered by a browser without its own escaping.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "estimate": _estimate,
        "number": _number,
        "si": si,
        "span": _span,
        "cell": lambda text: text.replace("|", "\\|"),
        "brief": lambda text: text.split(" (")[0] if len(text) > LONG else text,
    }
    parts = result["parts"]
    text = environment.get_template(template).render(
        **result,
        first=parts[first],
        published=published,
        rest={name: p for name, p in parts.items() if name != first},
        measured=[p for p in parts.values() if p["state"] == "measured"],
        totals=_totals(result["sweeps"]),
        commands=_with_filters(folder, _commands(result, "scaling "), result["sweeps"]),
        calls=_commands(result, "analysis."),
    )
    path = folder / "README.md"
    path.write_text(re.sub(r"\n{3,}", "\n\n", text))
    return path


def _totals(sweeps: dict[str, Any]) -> dict[str, Any]:
    done = [s for s in sweeps.values() if s["finished"]]
    return {
        "wanted": sum(s["wanted"] for s in sweeps.values()),
        "finished": sum(s["finished"] for s in done),
        "diverged": sum(s["diverged"] for s in sweeps.values()),
        "flops": sum(s["flops"] for s in done),
        "core_hours": sum(s["core_seconds"] for s in done) / 3600.0,
    }


def _commands(result: dict[str, Any], start: str) -> list[str]:
    """Every command line (or Python call) behind a number that begins so, once, in the order of the page."""
    named = [n["command"] for p in result["parts"].values() for n in p["numbers"]]
    return list(dict.fromkeys(c for c in named if c.startswith(start)))


def _with_filters(folder: Path, commands: list[str], sweeps: dict[str, Any]) -> list[str]:
    """Commands whose long lists of runs stand in files of `filters`, which the shell puts in their place."""
    place = folder / "filters"
    shutil.rmtree(place, ignore_errors=True)
    names = {s["where"]: name for name, s in sweeps.items()}

    def named(found: re.Match[str]) -> str:
        runs = found[0]
        name = names.get(runs) or f"runs-{sha256(runs.encode()).hexdigest()[:8]}"
        place.mkdir(exist_ok=True)
        (place / f"{name}.txt").write_text(f"{runs}\n")
        return f"$(cat filters/{name}.txt)"

    return [re.sub(rf"run_id in \[[^]]{{{LONG},}}\]", named, c) for c in commands]


def _number(value: float | None) -> str:
    if value is None:
        return "?"
    if value == 0 or 0.001 <= abs(value) < 1000:
        return f"{value:.3g}"
    if 1000 <= abs(value) < 1e4:
        return f"{value:,.0f}"
    if 1e4 <= value < 1e10:
        return si(value)
    return f"{value:.3g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


def _estimate(number: dict[str, Any]) -> str:
    """Value and interval with the unit; a count, and what has no interval, stands alone."""
    value = number["value"]
    if value["value"] is None:
        return "–"
    unit = f" {number['unit']}" if number["unit"] and "·" not in number["unit"] else ""
    lo, hi = value["ci"]
    if lo == hi == value["value"] or (lo is None and hi is None):
        return f"{_number(value['value'])}{unit}"
    return f"{_number(value['value'])} [{_number(lo)}, {_number(hi)}]{unit}"


def si(value: float) -> str:
    """1230000 → "1.23M", in three digits; k, M and G."""
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * scale:  # what rounds to the scale is written in it
            return f"{value / scale:.3g}{unit}"
    return f"{value:g}"


def _span(ends: list[float]) -> str:
    low, high = (si(e) for e in ends)
    return low if low == high else f"{low}–{high}"
