"""Sources whose exponent, floor or entropies theory gives, put through the project's own estimators and fits."""

from __future__ import annotations

import numpy as np
import pandas as pd

import analysis
from analysis.corpus_exponent import foretell
from scaling.corpora.markov import Markov
from scaling.corpora.prepare import prepare
from scaling.corpora.statistics import measure_statistics
from scaling.tokenizers.byte import Byte
from tests.analysis.known_sources import (
    FLOOR,
    Curve,
    exact_entropies,
    memoriser,
    quanta_of_data,
    quanta_of_size,
)

REPLICATES, SEEDS, DRAWS = 20, 3, 200
SEED_NOISE = 0.005
"""Standard deviation of a run's log loss beside what the draw of the data gives."""
SOURCE = Markov(n_documents=2048, document_length=1024)


def table() -> str:
    """The tables, as Markdown."""
    return f"# Known answers\n\n{_markov()}\n\n{_curves()}\n"


def _markov() -> str:
    found = measure_statistics(prepare(SOURCE, Byte()))
    exact = exact_entropies(SOURCE, len(found["entropies"]))
    lines = [
        f"A Markov source of order {SOURCE.order} over {SOURCE.symbols} symbols, {found['tokens']:,} tokens:"
        " conditional entropies, nats. The truth must lie between the bounds (less and plus two standard errors); from"
        f" n = {SOURCE.order} on it is the entropy rate.",
        "",
        "| n | truth | plug-in (lower) | corrected | held-out code (upper) | se | between |",
        "|---|---|---|---|---|---|---|",
    ]
    for truth, e in zip(exact, found["entropies"], strict=True):
        inside = e["plugin"] - 2 * e["se"] <= truth <= e["upper"] + 2 * e["se"]
        cells = [f"{v:.4f}" for v in (truth, e["plugin"], e["corrected"], e["upper"], e["se"])]
        lines.append(f"| {e['context']} | {' | '.join(cells)} | {'yes' if inside else 'NO'} |")
    said = foretell(found)
    lines += ["", f"Its exponent from these statistics: `{said.status}`: {said.reason}."]
    return "\n".join(lines)


def _curves() -> str:
    """Every learning curve of known exponent through `fit`."""
    lines = [
        f"Simulated learning curves, nine rungs, {SEEDS} seeds each, {REPLICATES} times: the exponent that"
        f" `scaling fit` finds (mean and standard deviation over the {REPLICATES}), how often its 90 % interval holds"
        " the theory's, and the statuses. The memoriser's own noise is that of the draw of its items; the sub-tasks'"
        f" runs have {SEED_NOISE:.1%} more. *Local* is the exact curve's slope (of the loss above its floor) over the"
        " last half decade: where it differs from the theory the range is not yet asymptotic.",
        "",
        "| source | alpha | law | theory | local | fitted | covered | floor covered | statuses |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    n, size, data = np.geomspace(1e2, 1e6, 9), np.geomspace(1e4, 1e7, 9), np.geomspace(1e4, 1e7, 9)
    for alpha in (0.5, 1.0):
        by_data = alpha / (1 + alpha)
        errors = memoriser(alpha, n.round())
        for law in ("power", "power_floor"):
            lines.append(_row("Zipf memoriser, E_n", alpha, errors, law, "tokens", by_data, 0.0, 0.0))
        of_size = quanta_of_size(alpha, size.round())
        lines.append(_row("sub-tasks, L_N", alpha, of_size, "power_floor", "params", alpha, FLOOR, SEED_NOISE))
        of_data = quanta_of_data(alpha, data.round())
        lines.append(_row("sub-tasks, L_D", alpha, of_data, "power_floor", "tokens", by_data, FLOOR, SEED_NOISE))
    return "\n".join(lines)


def _row(name: str, alpha: float, curve: Curve, law: str, x: str, theory: float, floor: float, noise: float) -> str:
    found = [_fitted(curve, law, x, noise, seed) for seed in range(REPLICATES)]
    values = np.array([f.params["alpha"].value for f in found])
    above = Curve(curve.x, curve.loss - floor, curve.sd)
    statuses = [str(f.status) for f in found]
    counted = ", ".join(f"{statuses.count(s)} {s}" for s in dict.fromkeys(statuses))
    cells = [
        name, f"{alpha:g}", f"`{law}`", f"{theory:.4f}", f"{above.local_exponent(-2):.4f}",
        f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}", _covered(found, "alpha", theory),
        _covered(found, "E", floor) if law == "power_floor" and floor else "", counted,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _covered(found: list[analysis.FitResult], name: str, truth: float) -> str:
    ends = [f.params[name].ci for f in found]
    return f"{sum(lo <= truth <= hi for lo, hi in ends)}/{len(found)}"


def _fitted(curve: Curve, law: str, x: str, noise: float, seed: int) -> analysis.FitResult:
    rng = np.random.default_rng([7, seed])
    at, loss, sd = (np.repeat(v, SEEDS) for v in curve)
    loss = (loss + sd * rng.standard_normal(loss.size)) * np.exp(noise * rng.standard_normal(loss.size))
    runs = pd.DataFrame({"params": 1e6, "tokens": 1e6, "loss": loss} | {x: at})
    return analysis.fit(runs, f"{law}:{x}", bootstrap=DRAWS, verify=False)
