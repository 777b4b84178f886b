"""House style of the figures: sizes, palette, ticks, labels that name unit and convention, legends beside the data.

Colours are those of Okabe and Ito 2008 (distinct to colour-blind readers); a marker repeats what a colour says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullFormatter, NullLocator

if TYPE_CHECKING:
    from analysis.types import FitResult

MM = 1 / 25.4
SINGLE_MM, DOUBLE_MM = 85.0, 170.0
"""Widths of one and of two columns of print."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
INK, MUTED, FAINT = "#1a1a1a", "#6b6b6b", "#d9d9d9"

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.labelsize": 8.0,
    "axes.titlesize": 8.5,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.title_fontsize": 7.0,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.4,
    "legend.labelspacing": 0.35,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.0,
    "errorbar.capsize": 0.0,
    "mathtext.fontset": "dejavusans",
    "axes.unicode_minus": True,
    "text.usetex": False,
    "path.simplify": True,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "scaling-lab",
    "pdf.fonttype": 42,
}

COUNT_LABELS = {
    "total": "all parameters",
    "non_embedding": "non-embedding parameters",
    "non_embedding_head": "non-embedding + head parameters",
    "given": "parameters as the table gives them",
}
COST_LABELS = {
    "exact": "exact training FLOPs",
    "6nd": "training FLOPs as 6ND",
    "given": "training FLOPs as the table gives them",
}
STATUS_LABELS = {
    "converged": "converged",
    "bound_hit": "stopped at a bound",
    "unidentified": "not identified",
    "non_interior": "refused, minimum not interior",
    "too_few_points": "too few points",
    "needs_curves": "needs training curves",
    "not_isoflop": "no isoFLOP groups",
    "not_resolved": "minimum not resolved",
    "not_converged": "not converged",
}
"""Short words for each status; where there is more to say the figure's table has it."""


@contextmanager
def styled() -> Iterator[None]:
    """The house style inside, the caller's settings afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcParams.update(matplotlib.rcParamsDefault | {"backend": matplotlib.rcParams["backend"]} | RC)
        yield


@dataclass(frozen=True)
class Convention:
    """How N and C are counted, and the units of D and of the loss: everything an axis label must say."""

    count: str = "total"
    cost: str = "exact"
    token: str = "tokens"
    loss: str = "nats per token"
    what: str = "loss"

    @classmethod
    def of_fit(cls, fit: FitResult) -> Convention:
        """The convention a fit was made under, by its checklist; the units of tokens and loss where the table says."""
        answers = fit.diagnostics.get("checklist", {}).values()
        said = {k: v for part in answers for k, v in part.items() if v != "not stated"}
        given = said.get("params_counted") == "as in the table"
        cost = {"exact": "exact", "6nd": "6nd", "6ND": "6nd"}.get(said.get("flops_counted", fit.cost), fit.cost)
        token, loss = units(said.get("tokenizers") or (), said.get("objectives") or ())
        what = "held-out loss" if said.get("tokenizers") else "loss"
        return cls("given" if given else fit.count, "given" if given and cost == "exact" else cost, token, loss, what)

    def params_label(self, symbol: str = "N") -> str:
        """Such as "N, non-embedding parameters"."""
        return f"{symbol}, {COUNT_LABELS.get(self.count, self.count)}"

    def flops_label(self, symbol: str = "C") -> str:
        """Such as "C, exact training FLOPs"."""
        return f"{symbol}, {COST_LABELS.get(self.cost, self.cost)}"

    def tokens_label(self, symbol: str = "D") -> str:
        """Such as "D, tokens (bytes)"."""
        return f"{symbol}, {self.token}"

    def variable_label(self, name: str) -> tuple[str, Callable[[float], str]]:
        """Label of a law's variable, and how its ticks are written."""
        if name == "params":
            return self.params_label(), si_number
        if name == "flops":
            return self.flops_label(), power_number
        if name == "loss":
            return self.loss_label(), plain_number
        labels = {
            "tokens": self.tokens_label(),
            "unique_tokens": self.tokens_label("U").replace(", ", ", unique ", 1),
            "batch_tokens": self.tokens_label("B").replace(", ", ", batch, ", 1),
            "steps": "S, optimizer steps",
            "lr": "learning rate",
        }
        return labels.get(name, name.replace("_", " ")), plain_number if name == "lr" else si_number

    def response_label(self, name: str, before: str = "") -> str:
        """Label of what a law gives: the loss, or another of the table's columns."""
        return self.loss_label(before) if name == "loss" else f"{before} {self.variable_label(name)[0]}".strip()

    def loss_label(self, before: str = "") -> str:
        """Such as "held-out loss, nats per predicted token"; `before` goes in front."""
        return f"{before} {self.what}, {self.loss}".strip()


def units(tokenizers: Sequence[str], objectives: Sequence[str]) -> tuple[str, str]:
    """Units of D and of the loss, from the names of the tokenizers and objectives of a table; () where not known.

    A causal loss is per token (or byte); a masked one per masked position; others per predicted position.
    """
    token = "tokens"
    if tokenizers:
        token = "tokens (bytes)" if set(tokenizers) == {"byte"} else f"tokens ({', '.join(sorted(set(tokenizers)))})"
    position = "byte" if token == "tokens (bytes)" else "token"
    kind = {("causal",): "", (): "", ("masked",): "masked "}.get(tuple(sorted(set(objectives))), "predicted ")
    return token, f"nats per {kind}{position}"


def new_figure(width_mm: float, height_mm: float) -> Figure:
    """An empty figure of that size whose layout makes room for what lies outside the axes."""
    layout = ConstrainedLayoutEngine(w_pad=1.5 * MM, h_pad=1.2 * MM, wspace=0.04, hspace=0.03)
    figure = Figure(figsize=(width_mm * MM, height_mm * MM), layout=layout, dpi=200)
    FigureCanvasAgg(figure)
    return figure


def is_narrow(width_mm: float) -> bool:
    """Whether panels stand above one another rather than side by side."""
    return width_mm < 120.0


def si_number(value: float, _: Any = None) -> str:
    """100000 → "100k", 2.5e6 → "2.5M", then B (1e9) and T (1e12)."""
    for scale, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * scale and abs(value) < 1e15:
            return f"{value / scale:.3g}{suffix}"
    return f"{value:.3g}" if abs(value) < 1e15 else power_number(value)


def power_number(value: float, _: Any = None) -> str:
    """2e12 → "2e12"."""
    if value <= 0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def plain_number(value: float, _: Any = None) -> str:
    """2.50 → "2.5"."""
    return f"{value:.4g}"


class LogTicks(Locator):
    """Labelled ticks of a log axis: whole decades over many, 1–2–5 over one or two, finer below, as labels fit."""

    STEPS: tuple[tuple[float, ...], ...] = (
        (1,),
        (1, 3),
        (1, 2, 5),
        (1, 1.5, 2, 3, 5, 7),
        (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9),
    )

    def __init__(self, text: Callable[[float], str]) -> None:
        self.text = text

    def __call__(self) -> list[float]:
        """Ticks between the axis' limits."""
        axis: Any = self.axis
        return self.tick_values(*axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """The sparsest set of at least four that fits, else the largest that fits."""
        low, high = sorted((vmin, vmax))
        if not 0 < low < high:
            return []
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        sets: list[list[float]] = []
        for stride in range(max(1, last - first), 1, -1):
            sets.append([10.0**e for e in range(first, last + 1) if e % stride == 0])
        for steps in self.STEPS:
            sets.append([s * 10.0**e for e in range(first, last + 1) for s in steps])
        for n in (3, 4, 5):
            sets.append(list(MaxNLocator(n, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)))
        slack = 1e-9
        best: list[float] = []
        for ticks in sets:
            inside = [t for t in ticks if low * (1 - slack) <= t <= high * (1 + slack)]
            if len(inside) > len(best) and self._fits(inside, low, high):
                best = inside
            if len(best) >= 4:
                break
        return best

    def _fits(self, ticks: Sequence[float], low: float, high: float) -> bool:
        if self.axis is None or len(ticks) < 2:
            return True
        axis: Any = self.axis
        box = axis.axes.bbox
        points = 72.0 / axis.get_figure(root=True).dpi
        horizontal = axis.axis_name == "x"
        length = (box.width if horizontal else box.height) * points
        where = np.log(np.asarray(ticks) / low) / math.log(high / low) * length
        size = 7.0
        if not horizontal:
            return bool(np.diff(where).min() >= 1.7 * size)
        widths = np.array([0.62 * size * len(self.text(t)) for t in ticks])
        return bool((np.diff(where) >= (widths[1:] + widths[:-1]) / 2 + 0.6 * size).all())


def log_axis(axis: XAxis | YAxis, text: Callable[[float], str]) -> None:
    """Puts an axis on a log scale with `LogTicks` labelled by `text`, and unlabelled ticks at 2…9 between."""
    getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    axis.set_major_locator(LogTicks(text))
    axis.set_major_formatter(lambda value, _: text(value))
    axis.set_minor_locator(LogLocator(subs=list(range(2, 10))))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(which="major", length=3.0, width=0.6, labelsize=7.0)
    axis.set_tick_params(which="minor", length=1.6, width=0.4)


def linear_axis(axis: XAxis | YAxis, text: Callable[[float], str] = plain_number, most: int = 5) -> None:
    """A linear axis with at most `most` intervals."""
    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(lambda value, _: text(value))
    axis.set_tick_params(which="major", length=3.0, width=0.6, labelsize=7.0)


def log_limits(values: Any, margin: float = 0.06) -> tuple[float, float]:
    """Limits around positive values, with a margin as a share of their log range; a single value gets ±10 %."""
    x = np.asarray(values, dtype=np.float64)
    x = x[np.isfinite(x) & (x > 0)]
    low, high = float(x.min()), float(x.max())
    pad = margin * math.log(high / low) if high > low * (1 + 1e-9) else math.log(1.1)
    return low * math.exp(-pad), high * math.exp(pad)


def sequential() -> LinearSegmentedColormap:
    """Viridis without its palest fifth, which white paper swallows; lightness alone orders it."""
    colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.86, 256))
    return LinearSegmentedColormap.from_list("viridis_dark", colours)


def shades(n: int) -> list[Any]:
    """`n` colours in order along `sequential`."""
    return [sequential()(t) for t in (np.linspace(0.0, 1.0, n) if n > 1 else [0.3])]


def size_scale(params: Any) -> LogNorm:
    """The log colour scale of a set of sizes."""
    low, high = log_limits(params, 0.0)
    return LogNorm(low, high)


def size_bar(
    figure: Figure, axes: Axes | Sequence[Axes], norm: LogNorm, label: str, text: Callable[[float], str] = si_number
) -> None:
    """A thin log colour bar of sizes (or budgets), labelled by `text`."""
    mappable = matplotlib.cm.ScalarMappable(norm, sequential())
    bar = figure.colorbar(mappable, ax=axes, pad=0.015, aspect=36, fraction=0.05)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(LogTicks(text))
    bar.ax.yaxis.set_major_formatter(lambda value, _: text(value))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.tick_params(labelsize=7.0, length=2.0, width=0.5)
    bar.set_label(label, size=8.0)


def note(text: str) -> Line2D:
    """A legend entry without a mark."""
    return Line2D([], [], linestyle="none", marker="none", label=text)


def summarise(reasons: Sequence[str]) -> str:
    """Reasons counted by what stands before a colon: "2 diverged, 1 failed"."""
    short = [reason.split(":")[0] for reason in reasons]
    return ", ".join(f"{short.count(s)} {s}" for s in dict.fromkeys(short))


def signed_number(value: float) -> str:
    """0.5 → "+0.5", −0.5 → "−0.5" with a true minus sign."""
    return f"{value:+.3g}".replace("-", "−") if abs(value) > 1e-12 else "0"


def legend_below(figure: Figure, handles: Sequence[Any], *, columns: int = 6, title: str | None = None) -> None:
    """One legend under the axes, in as many columns as the width takes, so that it covers no data."""
    if not handles:
        return
    for n in range(min(columns, len(handles)), 0, -1):
        legend = figure.legend(
            handles=list(handles), loc="outside lower center", ncols=n, borderaxespad=0.2, title=title, alignment="left"
        )
        width = legend.get_window_extent(figure.canvas.get_renderer()).width  # type: ignore[attr-defined]
        if width <= 0.99 * figure.bbox.width or n == 1:
            return
        legend.remove()


def wrap_long_labels(figure: Figure) -> bool:
    """Breaks axis labels that are longer than their axes at their first comma; whether there were any."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    wrapped = False
    for axes in figure.axes:
        for label, room in ((axes.xaxis.label, axes.bbox.width), (axes.yaxis.label, axes.bbox.height)):
            text, box = label.get_text(), label.get_window_extent(renderer)
            length = box.width if label is axes.xaxis.label else box.height
            if length > room and ", " in text:
                label.set_text(text.replace(", ", ",\n", 1))
                wrapped = True
    return wrapped


def panel_letter(axes: Axes, letter: str) -> None:
    """A bold letter above the axes' left corner."""
    axes.set_title(letter, loc="left", fontweight="bold", fontsize=8.5, pad=3.0)
