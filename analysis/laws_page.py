"""Makes the page of the laws from the laws themselves: formula, picture, what data each needs, when it misleads.

    python -m analysis.laws_page docs        (`make docs`; writes docs/laws.md and docs/figures/laws/*.svg)

A picture is drawn from published constants where the law has any, else from its example values, and says which.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from analysis.figures import style
from analysis.figures.base import Drawn, Rows, finish, save
from analysis.figures.style import Convention
from analysis.laws import get_law, list_laws
from analysis.laws.base import Law
from analysis.laws.schedule import ScheduleLaw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.types import Array

PICTURES = Path("figures") / "laws"
UNITS = Convention(count="parameters", cost="6nd")
SYMBOLS = {"params": "N", "tokens": "D", "unique_tokens": "U", "flops": "C", "steps": "S", "loss": "L"}
RANGES: Mapping[str, tuple[float, ...]] = {
    "params": (1e6, 1e12),
    "tokens": (1e9, 1e10, 1e11, 1e12),
    "unique_tokens": (1e10, 1e11, 1e12),
    "flops": (1e18, 1e26),
    "steps": (1e3, 1e4, 1e5, 1e6),
    "batch_tokens": (1e4, 1e8),
    "loss": (1.5, 5.0),
}
"""Where a law that states no view is drawn."""
STEPS, PEAK, WARMUP = 20_000, 3e-4, 500
"""Of the schedules over which a law of schedules is drawn."""

HEAD = """# The laws

Made from the laws themselves by `make docs`; `scaling list laws` names them, `scaling fit TABLE --law NAME` fits one.
N are parameters, D tokens, U unique tokens among them, C training FLOPs, S optimizer steps, L the loss in nats. Logs
are natural. Pictures show published constants where there are any, else example values, which are nobody's measurement.
A law of your own is one file in `analysis/laws/`; see `analysis/laws/smooth.py`.

| law | gives | of | source |
|---|---|---|---|
"""


def constants(law: Law) -> tuple[str, Mapping[str, float]]:
    """The name and values that a law's picture shows: its first published instance, else its example."""
    for name, values in law.instances.items():
        return name, values
    return "example values", law.example


def page() -> str:
    """The page, Markdown."""
    laws = [get_law(item["name"]) for item in list_laws()]
    rows = [
        f"| [{law.name}](#{law.name}) | {_said(law.response)} | {', '.join(map(_said, law.variables))} | {law.source} |"
        for law in laws
    ]
    return HEAD + "\n".join(rows) + "\n" + "".join(map(section, laws))


def section(law: Law) -> str:
    """One law's section."""
    summary = law.summary[0].upper() + law.summary[1:]
    published = "\n".join(
        f"| `{name}` | {', '.join(f'{k} {v:.5g}' for k, v in values.items())} |"
        for name, values in law.instances.items()
    )
    parameters = "\n".join(f"| {p.name} | {p.meaning} | {p.unit} |" for p in law.parameters)
    lines = [
        "",
        f"## {law.name}",
        "",
        f"{summary}. {law.source}.",
        "",
        f"    {law.formula}",
        "",
        f"![{law.name}, {constants(law)[0]}]({(PICTURES / law.name).as_posix()}.svg)",
        "",
        f"**Needs.** {law.needs}",
        "",
        f"**Misleads.** {law.misleads}",
        "",
        "| parameter | meaning | unit |",
        "|---|---|---|",
        parameters,
    ]
    if not published:
        lines += ["", f"Example values (no published ones are kept here): {_values(law.example)}."]
    else:
        lines += ["", "| published | values |", "|---|---|", published]
    return "\n".join(lines) + "\n"


def _values(values: Mapping[str, float], digits: int = 5) -> str:
    return ", ".join(f"{k} {v:.{digits}g}" for k, v in values.items())


def _said(name: str) -> str:
    return name.replace("_", " ")


def picture(law: Law) -> Drawn:
    """A law's picture: its response over its first variable, a line for each value of the second."""
    name, values = constants(law)
    with style.styled():
        figure = style.new_figure(110.0, 78.0)
        axes = figure.add_subplot()
        rows = Rows(["line"], ["x", "y"])
        draw = _draw_schedules if isinstance(law, ScheduleLaw) else _draw_lines
        handles = draw(axes, law, values, rows)
        said = _values(values, 4)
        shown = f"{name}: {said}" if len(said) < 40 else name
        style.legend_below(figure, [*handles, style.note(shown)], columns=3)
        return finish(figure, rows)


def _draw_lines(axes: Axes, law: Any, values: Mapping[str, float], rows: Rows) -> list[Line2D]:
    """Lines over the first variable of the law's view."""
    view = dict(law.view) or {v: RANGES.get(v, (1.0, 1e6)) for v in law.variables}
    names = list(view)
    ends = view.pop(names[0])
    x = np.geomspace(ends[0], ends[-1], 121)
    fixed = {n: view.pop(n)[0] for n in names[2:]}
    (line, at), *_ = [*view.items(), ("", (None,))]
    handles = []
    for value, colour in zip(at, style.shades(len(at)), strict=True):
        given = {names[0]: x, **fixed, **({line: value} if line else {})}
        y = law.predict(values, **{k: np.broadcast_to(v, x.shape) for k, v in given.items()})
        label = f"{SYMBOLS.get(line, line)} = {style.si_number(value)}" if line else law.name
        axes.plot(x, y, color=colour if line else style.COLOURS[0])
        handles.append(Line2D([], [], color=colour if line else style.COLOURS[0], label=label))
        rows.add(line=label, x=x, y=y)
    label, text = UNITS.variable_label(names[0])
    if names[0] == "loss":
        style.linear_axis(axes.xaxis)
    else:
        style.log_axis(axes.xaxis, text)
    if law.response == "error":
        style.linear_axis(axes.yaxis)
    else:
        style.log_axis(axes.yaxis, style.plain_number if law.response in ("loss", "lr") else style.si_number)
    axes.set_xlim(x[0], x[-1])
    _draw_floor(axes, law, values, handles)
    axes.set_xlabel(label)
    axes.set_ylabel(UNITS.response_label(law.response) if law.response != "error" else "downstream error, share")
    handles += [style.note(f"{SYMBOLS.get(n, n)} = {style.si_number(v)}") for n, v in fixed.items()]
    return handles


def _draw_floor(axes: Axes, law: Any, values: Mapping[str, float], handles: list[Line2D]) -> None:
    if law.floor is None or law.floor not in values:
        return
    axes.axhline(values[law.floor], color=style.MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
    label = f"{law.floor} = {values[law.floor]:.3g}"
    handles.append(Line2D([], [], color=style.MUTED, linewidth=0.8, linestyle=(0, (4, 2)), label=label))


def schedules() -> dict[str, Array]:
    """Rates of every step under a constant rate, a cosine to a tenth, and a plateau with a late linear decay."""
    t = np.arange(STEPS)
    rise = np.minimum(1.0, (t + 1) / WARMUP)
    along = np.clip((t - WARMUP) / (STEPS - 1 - WARMUP), 0.0, 1.0)
    late = np.clip((along - 0.8) / 0.2, 0.0, 1.0)
    shapes = {
        "constant": np.ones(STEPS),
        "cosine to a tenth": 0.55 + 0.45 * np.cos(np.pi * along),
        "linear over the last fifth": 1.0 - 0.9 * late,
    }
    return {name: PEAK * rise * shape for name, shape in shapes.items()}


def _draw_schedules(axes: Axes, law: Any, values: Mapping[str, float], rows: Rows) -> list[Line2D]:
    """Loss along each schedule."""
    steps = np.arange(2 * WARMUP, STEPS, 100)
    handles = []
    for (name, rates), colour in zip(schedules().items(), style.COLOURS, strict=False):
        y = law.predict(values, rates=rates, steps=steps)
        axes.plot(steps, y, color=colour)
        handles.append(Line2D([], [], color=colour, label=name))
        rows.add(line=name, x=steps, y=y)
    _draw_floor(axes, law, values, handles)
    style.linear_axis(axes.xaxis, style.si_number)
    style.linear_axis(axes.yaxis)
    axes.set_xlabel("S, optimizer steps")
    axes.set_ylabel(UNITS.loss_label())
    handles.append(style.note(f"peak rate {PEAK:g}, warmup {WARMUP} steps"))
    return handles


def main(folder: str = "docs") -> None:
    """Writes the page and its pictures into `folder`."""
    out = Path(folder)
    for item in list_laws():
        drawn = picture(get_law(item["name"]))
        save(drawn.figure, None, out / PICTURES, item["name"], ("svg",))
    (out / "laws.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:2])
