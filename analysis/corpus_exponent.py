"""The data-limited exponent that a corpus's own statistics foretell, before any training: alpha_D = gamma/(2 beta).

Cagnetta et al. 2026 (arXiv 2602.07488): let H_n, the entropy of the next token given the n before it, go as
H_n − H_inf ~ n^−gamma, and the largest singular value of the covariance of two tokens l apart as ||C(l)|| ~ l^−beta.
Then D tokens resolve correlations up to the lag n*(D) ~ D^(1/(2 beta)), and a model that uses what is resolved reaches
L(D) − H_inf ~ D^−(gamma/(2 beta)).

A prediction is one only if it does not depend on where the two lines are drawn: both are fitted over every admissible
window, and where gamma/(2 beta) spreads by more than a fifth it is not resolved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analysis.corpus_statistics import PROTOCOL, Points, Protocol, correlation_points, entropy_points, read_statistics
from analysis.corpus_windows import Window, correlation_windows, entropy_windows
from analysis.types import Array, Estimate, Plain, Status, jsonable
from scaling.errors import InputError

FORMAT = 1
FLOORS = {"zero": "power", "free": "power_floor"}
"""Treatments of H_inf, and the law of L(D) that each one's exponent is to be compared with."""


@dataclass(frozen=True, eq=False)
class Foretold(Plain):
    """The exponent under one treatment of H_inf: median over windows, interval over resampled documents, and spread.

    `range` is the least and the greatest alpha of a pair of windows, `spread` their difference over the median;
    `compare_with` the law of L(D) whose exponent this foretells.
    """

    floor: str
    compare_with: str
    alpha: Estimate
    gamma: Estimate
    range: tuple[float, float]
    spread: float
    windows: int
    status: Status
    reason: str


@dataclass(frozen=True, eq=False)
class CorpusExponent:
    """alpha_D of a corpus by its statistics; `status` is `not_resolved` where windows or treatments disagree.

    `alpha` is that of H_inf = 0, the paper's form; `foretold` holds both treatments, `spread` and `range` are over all
    windows of both. `corpus`, `tokenizer` and `digest` name the text; `windows` holds every line.
    """

    corpus: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    digest: str
    tokens: int
    alpha: Estimate
    gamma: Estimate
    beta: Estimate
    foretold: Mapping[str, Foretold]
    range: tuple[float, float]
    spread: float
    status: Status
    reason: str
    windows: tuple[Window, ...]
    entropies: Points
    correlations: Points
    composition: float
    protocol: Protocol = field(default=PROTOCOL)

    def to_json(self) -> dict[str, Any]:
        """The prediction as it is registered: numbers, statuses, every window, and the protocol."""
        left_out = ("windows", "entropies", "correlations", "composition", "protocol")
        found = {"format": FORMAT, **{k: v for k, v in vars(self).items() if k not in left_out}}
        found["contexts"] = {"used": self.entropies.x, "ended_by": self.entropies.reason}
        found["lags"] = {"used": self.correlations.x, "ended_by": self.correlations.reason}
        found |= {"windows": self.windows, "protocol": vars(self.protocol)}
        plain: dict[str, Any] = jsonable(found)
        return plain

    def plot(self) -> Any:
        """The figure `corpus_exponent`."""
        from analysis.figures.corpus_exponent import plot_corpus_exponent

        return plot_corpus_exponent(self).figure

    def __repr__(self) -> str:
        lines = [
            f"{self.corpus.get('type', 'corpus')} {self.digest}: {self.status}",
            f"  alpha_D = gamma/(2 beta) {self.alpha}, {_over(self.range, self.spread)}",
            f"  gamma {self.gamma} over n = {_span(self.entropies.x)}",
            f"  beta {self.beta} over lags {_span(self.correlations.x)}",
        ]
        lines += [
            f"  H_inf {f.floor}: {f.alpha}, {_over(f.range, f.spread)}: {f.status}; compare with"
            f" the exponent of `{f.compare_with}`"
            for f in self.foretold.values()
        ]
        return "\n".join([*lines, f"  {self.reason}"] if self.reason else lines)


def _over(ends: tuple[float, float], spread: float) -> str:
    if not math.isfinite(spread):
        return "no pair of windows"
    return f"over windows {ends[0]:.3g} to {ends[1]:.3g} (spread {spread:.0%})"


def _span(x: Array) -> str:
    return f"{x[0]:g}..{x[-1]:g}" if len(x) else "none"


def foretell(statistics: str | Path | Mapping[str, Any], protocol: Protocol = PROTOCOL) -> CorpusExponent:
    """alpha_D of a corpus from its statistics, a file of `scaling corpus statistics` or what is in one.

    Raises:
        InputError: the file cannot be read, or is none of these.
    """
    found = read_statistics(statistics)
    entropies, correlations = entropy_points(found, protocol), correlation_points(found, protocol)
    gammas = {floor: entropy_windows(entropies, floor, protocol) for floor in FLOORS}
    betas = correlation_windows(correlations, protocol)
    foretold = {floor: _combine(floor, gammas[floor], betas, protocol) for floor in FLOORS}
    values = np.concatenate([_ratios(gammas[floor], betas) for floor in FLOORS])
    head = foretold["zero"]
    spread, ends = _spread(values)
    status, reason = _verdict(entropies, correlations, list(gammas.values()), betas, spread, protocol)
    return CorpusExponent(
        corpus=found["corpus"],
        tokenizer=found["tokenizer"],
        digest=found["digest"],
        tokens=found["tokens"],
        alpha=head.alpha,
        gamma=head.gamma,
        beta=_estimate(betas, protocol.level),
        foretold=foretold,
        range=ends,
        spread=spread,
        status=status,
        reason=reason,
        windows=(*gammas["zero"], *gammas["free"], *betas),
        entropies=entropies,
        correlations=correlations,
        composition=found["composition"],
        protocol=protocol,
    )


def _ratios(gammas: Sequence[Window], betas: Sequence[Window]) -> Array:
    """(G * B,) gamma/(2 beta) of every pair of windows; NaN where either has none."""
    return np.array([g.exponent / (2 * b.exponent) for g in gammas for b in betas], dtype=np.float64)


def _spread(values: Array) -> tuple[float, tuple[float, float]]:
    known = values[np.isfinite(values)]
    if not len(known):
        return math.nan, (math.nan, math.nan)
    ends = float(known.min()), float(known.max())
    return (ends[1] - ends[0]) / float(np.median(known)), ends


def _estimate(windows: Sequence[Window], level: float) -> Estimate:
    """Median over windows, with the interval of that median over resampled documents."""
    known = [w for w in windows if math.isfinite(w.exponent)]
    if not known:
        return Estimate.missing(level)
    drawn = np.median([w.draws for w in known], axis=0)
    return Estimate(float(np.median([w.exponent for w in known])), _interval(drawn, level), level)


def _interval(drawn: Array, level: float) -> tuple[float, float]:
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 2:
        return math.nan, math.nan
    lo, hi = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(lo), float(hi)


def _combine(floor: str, gammas: Sequence[Window], betas: Sequence[Window], protocol: Protocol) -> Foretold:
    values = _ratios(gammas, betas)
    spread, ends = _spread(values)
    pairs = [(g, b) for g in gammas for b in betas if math.isfinite(g.exponent) and math.isfinite(b.exponent)]
    alpha = Estimate.missing(protocol.level)
    if pairs:
        drawn = np.median([g.draws / (2 * b.draws) for g, b in pairs], axis=0)
        alpha = Estimate(float(np.nanmedian(values)), _interval(drawn, protocol.level), protocol.level)
    status, reason = Status.CONVERGED, ""
    if len(pairs) < len(values) or not pairs:
        status, reason = Status.NOT_RESOLVED, _missing([*gammas, *betas]) or "no window is admissible"
    elif spread > protocol.spread:
        status, reason = (
            Status.NOT_RESOLVED,
            f"gamma/(2 beta) spreads by {spread:.0%} over {len(pairs)} pairs of windows",
        )
    law = FLOORS[floor]
    return Foretold(floor, law, alpha, _estimate(gammas, protocol.level), ends, spread, len(pairs), status, reason)


def _missing(windows: Sequence[Window]) -> str:
    for w in windows:
        if w.reason:
            return f"{w.quantity} from {w.first} to {w.last}{' with a floor' if w.floor == 'free' else ''}: {w.reason}"
    return ""


def _verdict(
    entropies: Points,
    correlations: Points,
    gammas: Sequence[Sequence[Window]],
    betas: Sequence[Window],
    spread: float,
    protocol: Protocol,
) -> tuple[Status, str]:
    """Status of the whole, and every reason for it."""
    reasons = []
    if not gammas[0]:
        reasons.append(f"no window of contexts: {entropies.reason or 'too few were measured'}")
    if not betas:
        reasons.append(f"no window of lags: {correlations.reason or 'too few were measured'}")
    for what, windows, points in (("contexts", gammas[0], entropies), ("lags", betas, correlations)):
        if len(windows) == 1:
            reasons.append(f"one window of {what} alone, so that its exponent cannot be checked: {points.reason}")
    for name, windows in (("gamma", gammas[0]), ("beta", betas)):
        alone, ends = _spread(np.array([w.exponent for w in windows]))
        if alone > protocol.spread:
            reasons.append(f"{name} itself goes from {ends[0]:.3g} to {ends[1]:.3g} over its windows")
    if missing := _missing([w for part in gammas for w in part] + list(betas)):
        reasons.append(missing)
    if spread > protocol.spread:
        reasons.append(
            f"gamma/(2 beta) spreads by {spread:.0%} over windows and treatments of H_inf, more than "
            f"{protocol.spread:.0%}: no one power law holds over these contexts and lags"
        )
    return (Status.NOT_RESOLVED, "; ".join(reasons)) if reasons else (Status.CONVERGED, "")


def register_exponent(found: CorpusExponent, date: str) -> dict[str, Any]:
    """The prediction to commit before L(D) is measured: the result, the day it was made, and what it will be held to.

    Args:
        found: of `foretell`.
        date: ISO, such as 2026-02-07.

    Raises:
        InputError: the date is none.
    """
    import datetime

    try:
        datetime.date.fromisoformat(date)
    except ValueError:
        raise InputError(f"date {date!r} is not of the form 2026-02-07") from None
    question = "exponent of L(D), data-limited: size and training ample at every D, D in tokens of this corpus"
    return {"registered": date, "question": question, **found.to_json()}
