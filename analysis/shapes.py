"""Effect of a model's shape at fixed size; Kaplan et al. 2020 (arXiv 2001.08361) §3.1, Fig. 5.

One of d_model/n_layer, d_ff/d_model and d_model/n_head varies about a reference shape, each shape at its best learning
rate. Small differences of size are taken out with L ∝ N^−slope. An effect is the mean log loss less the reference's,
with Student's interval by one noise pooled over the seeds of all shapes; which effects are resolved is asked of all
shapes of a family together (Šidák), so that one of ten is not resolved by chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from analysis.labels import UNLABELLED, Labels
from analysis.replicates import Pooled, pooled, student
from analysis.table import Runs, read_table
from analysis.types import Array, Dropped, Estimate, Status, jsonable
from scaling.errors import InputError, TableError

if TYPE_CHECKING:
    import pandas as pd

FAMILIES = {
    "aspect_ratio": "d_model/n_layer",
    "feed_forward_ratio": "d_ff/d_model",
    "head_width": "d_model/n_head",
}
_SAME = 0.02
"""Ratios that agree within this share count as equal."""


class Shape(NamedTuple):
    """Layers, width, feed-forward width, heads."""

    n_layer: int
    d_model: int
    d_ff: int
    n_head: int

    def ratio(self, family: str) -> float:
        """The ratio that a family varies."""
        if family == "aspect_ratio":
            return self.d_model / self.n_layer
        return self.d_ff / self.d_model if family == "feed_forward_ratio" else self.d_model / self.n_head


@dataclass(frozen=True)
class ShapeEffect:
    """One shape against the reference of its family.

    `ratio` is the value of the family's ratio; `loss` the mean over seeds at the best rate `lr`, corrected to the
    common size (nats); `effect_percent` 100 times the log of its ratio to the reference's loss, positive for worse;
    `resolution_percent` the least effect that these seeds resolve among the family's shapes. Status `not_resolved`:
    the effect is below it; `non_interior`: the best rate is the lowest or highest tried, so the effect may be the
    rate's.
    """

    family: str
    shape: Shape
    ratio: float
    params: float
    lr: float
    loss: Estimate
    effect_percent: Estimate
    resolution_percent: float
    runs: int
    is_reference: bool
    status: Status
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return jsonable({**vars(self), "shape": self.shape._asdict()})


@dataclass(frozen=True)
class Shapes:
    """Effects by family and rising ratio; `noise` is the seeds' pooled sd of the log loss."""

    effects: tuple[ShapeEffect, ...]
    reference: Shape
    reference_params: float
    slope: float
    noise: Pooled
    status: Status
    reason: str = ""
    warnings: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    labels: Labels = UNLABELLED

    def family(self, name: str) -> tuple[ShapeEffect, ...]:
        """The effects of one family, by rising ratio, the reference among them."""
        return tuple(e for e in self.effects if e.family == name)

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return jsonable({**vars(self), "reference": self.reference._asdict(), "noise": vars(self.noise)})


def measure_shapes(
    rows: pd.DataFrame,
    *,
    slope: float | Estimate,
    reference: Mapping[str, int] | None = None,
    count: str = "non_embedding",
    level: float = 0.9,
) -> Shapes:
    """Measures the effect of shape at fixed size.

    Args:
        rows: a store's rows: shapes × learning rates × seeds at nearly one size, equal in all else.
        slope: the local exponent of L ∝ N^−slope near that size; its interval, where it has one, widens the effects'.
        reference: n_layer, d_model, d_ff and n_head of the shape the others are measured against; by default the best.
        count: which parameters N counts.
        level: nominal coverage of the intervals.

    Raises:
        TableError: a column is missing or holds no positive numbers.
        InputError: the reference is not among the shapes.
    """
    runs = read_table(rows, needs=("params", "tokens", "lr", "loss"))
    lacking = [c for c in Shape._fields if c not in runs.frame.columns]
    if lacking:
        raise TableError(f"{runs.source}: shapes need the columns {', '.join(lacking)}")
    cells = _cells(runs, rows, count)
    alpha = slope.value if isinstance(slope, Estimate) else float(slope)
    doubt = 0.0
    if isinstance(slope, Estimate) and all(map(math.isfinite, slope.ci)):
        doubt = (slope.ci[1] - slope.ci[0]) / 2
    if reference is not None:
        base = Shape(**{k: int(v) for k, v in reference.items()})
        if base not in cells:
            known = "; ".join("×".join(map(str, s)) for s in cells)
            raise InputError(f"reference {tuple(base)} is not among the shapes n_layer×d_model×d_ff×n_head: {known}")
    else:
        size = float(np.median([c.params for c in cells.values()]))
        base = min(cells, key=lambda s: cells[s].mean + alpha * math.log(cells[s].params / size))
    common = cells[base].params
    groups = [(s, lr) for s, c in cells.items() for lr, values in c.by_rate.items() for _ in values]
    noise = pooled(groups, np.concatenate([v for c in cells.values() for v in c.by_rate.values()]))
    effects = []
    for name in FAMILIES:
        mine = sorted((s for s in cells if s == base or _family(s, base) == name), key=lambda s: s.ratio(name))
        if len(mine) > 1:
            effects += [_effect(name, s, base, cells, noise, alpha, doubt, len(mine) - 1, level) for s in mine]
    status, reason, notes = Status.CONVERGED, "", []
    if noise.dof == 0:
        status, reason = Status.UNIDENTIFIED, "no shape was run with several seeds: no effect can be told from noise"
    elif not effects:
        status, reason = Status.TOO_FEW_POINTS, "one shape only"
    away = max(abs(math.log(c.params / common)) for c in cells.values())
    if away > math.log(1.25):
        notes.append(f"sizes lie up to {100 * math.expm1(away):.0f} % from the reference's: the correction is large")
    thin = [tuple(s) for s in cells if s.n_layer == 1]
    if thin:
        notes.append("nets of one layer are a kind of their own: leave them out of fits over size")
    return Shapes(
        tuple(effects), base, common, alpha, noise, status, reason, tuple(notes), runs.dropped, Labels.of(runs, count)
    )


@dataclass(frozen=True)
class _Cell:
    """One shape: log losses by rate, all rates tried (diverged ones too), and the best."""

    params: float
    by_rate: dict[float, Array]
    tried: frozenset[float]

    @property
    def lr(self) -> float:
        return min(self.by_rate, key=lambda r: (float(self.by_rate[r].mean()), r))

    @property
    def mean(self) -> float:
        return float(self.by_rate[self.lr].mean())

    @property
    def runs(self) -> int:
        return int(self.by_rate[self.lr].size)


def _cells(runs: Runs, rows: pd.DataFrame, count: str) -> dict[Shape, _Cell]:
    columns = list(Shape._fields)
    shapes = [Shape(*map(int, v)) for v in runs.frame[columns].itertuples(index=False)]
    ended = rows[rows["status"] != "failed"] if "status" in rows.columns else rows
    tried: dict[Shape, set[float]] = {}
    for values in ended[[*columns, "lr"]].itertuples(index=False):
        tried.setdefault(Shape(*map(int, values[:4])), set()).add(float(f"{values[4]:.4g}"))
    size, rate, loss = runs.params(count), runs.variable("lr"), np.log(runs.loss)
    found: dict[Shape, _Cell] = {}
    for s in dict.fromkeys(shapes):
        at = np.array([k for k, other in enumerate(shapes) if other == s])
        rounded = np.array([float(f"{r:.4g}") for r in rate[at]])
        by_rate = {float(r): loss[at][rounded == r] for r in np.unique(rounded)}
        found[s] = _Cell(float(size[at[0]]), by_rate, frozenset(tried[s]))
    return found


def _family(shape: Shape, base: Shape) -> str:
    """What a shape varies: the feed-forward ratio if that differs, else depth against width, else heads."""
    if abs(math.log(shape.ratio("feed_forward_ratio") / base.ratio("feed_forward_ratio"))) > _SAME:
        return "feed_forward_ratio"
    return "head_width" if shape[:2] == base[:2] else "aspect_ratio"


def _effect(
    family: str,
    shape: Shape,
    base: Shape,
    cells: dict[Shape, _Cell],
    noise: Pooled,
    alpha: float,
    doubt: float,
    others: int,
    level: float,
) -> ShapeEffect:
    """One shape against the reference, at the reference's size."""
    cell, ref = cells[shape], cells[base]
    moved = math.log(cell.params / ref.params)
    corrected = cell.mean + alpha * moved
    half = noise.half_width(1.0 / cell.runs, level)
    loss = Estimate(math.exp(corrected), (math.exp(corrected - half), math.exp(corrected + half)), level)
    effect = 100.0 * (corrected - ref.mean)
    variance = 1.0 / cell.runs + 1.0 / ref.runs
    half = 100.0 * math.hypot(noise.half_width(variance, level), doubt * moved)
    together = level ** (1.0 / others)
    resolution = math.nan
    if noise.dof > 0:
        resolution = 100.0 * math.hypot(student(noise.dof, together) * noise.sd * math.sqrt(variance), doubt * moved)
    status, reason = Status.CONVERGED, ""
    if shape == base:
        return ShapeEffect(
            family, shape, shape.ratio(family), cell.params, cell.lr, loss, Estimate(0.0, (0.0, 0.0), level),
            resolution, cell.runs, True, *_at_edge(cell),
        )  # fmt: skip
    status, reason = _at_edge(cell)
    if status is Status.CONVERGED and not abs(effect) > resolution:
        status = Status.NOT_RESOLVED
        reason = f"{effect:+.2g} % is within the {resolution:.2g} % that the seeds resolve"
    return ShapeEffect(
        family, shape, shape.ratio(family), cell.params, cell.lr, loss,
        Estimate(effect, (effect - half, effect + half), level), resolution, cell.runs, False, status, reason,
    )  # fmt: skip


def _at_edge(cell: _Cell) -> tuple[Status, str]:
    if len(cell.tried) > 1 and min(cell.tried) < cell.lr < max(cell.tried):
        return Status.CONVERGED, ""
    if len(cell.tried) == 1:
        return Status.NON_INTERIOR, "one learning rate only"
    end = "lowest" if cell.lr == min(cell.tried) else "highest"
    return Status.NON_INTERIOR, f"the best rate, {cell.lr:g}, is the {end} tried"
