"""The data-constrained law fitted to fresh and repeated runs: R_D* and R_N*, with and without what overfits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from sweeps.studies.part import (
    CONVERGED,
    Finding,
    Number,
    Part,
    Scope,
    command_of,
    of_fit,
    plain,
    says,
)

if TYPE_CHECKING:
    import pandas as pd

    from analysis.types import FitResult

LAW, WITHOUT = "data_constrained", "chinchilla"
SWEEPS = ("fresh", "repeated", "seeds")
WANTED = {
    "R_D": ("R_D", "R_D*, repetitions after which a token's worth has fallen to 1/e"),
    "R_N": ("R_N", "R_N*, the same of parameters beyond the best size for U tokens"),
    "E": ("E", "floor E"),
    "alpha": ("alpha", "α, exponent of effective parameters"),
    "beta": ("beta", "β, exponent of effective tokens"),
}
PUBLISHED = {"R_D": 15.387756, "R_N": 5.309743, "E": 1.8691438, "alpha": 0.3526596, "beta": 0.3526596}


class Law(Part):
    """See the module."""

    name = "law"
    title = "The law of repeated data"
    question = (
        "Does L = E + A N'^−α + B D'^−β with D' = U (1 + R_D* (1 − e^(−R/R_D*))) and N' alike describe the runs, and"
        " with what R_D* and R_N* (eqs. 5 and 6)?"
    )
    design = (
        "All runs, fresh and repeated, of all seeds: the law has Hoffmann's terms from the fresh ones and R_D*, R_N*"
        " from the rest. It cannot turn upwards, so it is fitted once more without the runs past the epochs of the"
        " least loss of their size and text. Hoffmann's law, for which a repeated token is a fresh one, stands beside."
    )
    sweeps = SWEEPS
    limits = (
        "Three sizes within a decade and three amounts of text: the exponents are those of this corner, and E is an"
        " extrapolation.",
        "R_D* is of one dropout and one weight decay, and of rates and batches that follow the tokens seen, not"
        " tuned to repetition.",
        "The fit without runs past the least loss leaves out runs by their outcome, which flatters the law; it is given"
        " to show how much hangs on them.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        where, rows = scope.where(*SWEEPS), scope.rows(*SWEEPS)
        whole = scope.fit(LAW, where)
        scope.handed_on["law"] = whole
        numbers = of_fit(whole, WANTED, where, published=PUBLISHED)
        kept = before_the_turn(rows)
        turned = len(rows[rows.status == "finished"]) - len(kept)
        fits = {"all": whole}
        if turned:
            own = f"run_id in {sorted(kept)}"
            fits["before_the_turn"] = scope.fit(LAW, own)
            labels = {k: (f"{k}_before", f"{label}, without the runs past their least loss")
                      for k, (_, label) in WANTED.items() if k in ("R_D", "R_N")}  # fmt: skip
            numbers += of_fit(fits["before_the_turn"], labels, own, published=PUBLISHED)
        fits["hoffmann"] = scope.fit(WITHOUT, where, bootstrap=0)
        for name, label in (
            ("all", "the law of repeated data"),
            ("hoffmann", "Hoffmann's law, a repeat as good as new"),
        ):
            numbers.append(_residual(f"residual_{name}", label, fits[name], where, scope.level))
        noise = (whole.diagnostics.get("seed_noise") or {}).get("sd", math.nan)
        text = [
            f"R_D* is {says(whole.params['R_D'])} ({whole.status}), theirs 15.4; R_N* {says(whole.params['R_N'])},"
            " theirs 5.31."
            if whole.params
            else f"The law could not be fitted: {whole.reason}.",
            f"{turned} of {len(kept) + turned} runs lie past the epochs of the least loss of their size and text."
            + (" The law has no such turn." if turned else ""),
        ]
        if math.isfinite(noise):
            text.append(f"Seeds differ by {100 * noise:.2g} % (sd of the log loss).")
        text += [w for w in whole.warnings if "distinct" not in w]
        return Finding(numbers=tuple(numbers), says=tuple(text), detail={**fits, "past_least_loss": turned})


def _residual(name: str, label: str, fit: FitResult, where: str, level: float) -> Number:
    """What the runs leave about a law, percent."""
    known = math.isfinite(fit.sigma)
    return Number(
        name, f"sd of the log loss about {label}", plain(100.0 * fit.sigma, level),
        CONVERGED if known else str(fit.status), where, fit.n, command_of(fit, where), "" if known else fit.reason, "%",
    )  # fmt: skip


def before_the_turn(rows: pd.DataFrame) -> list[str]:
    """Finished runs but those past the epochs of the least mean log loss of their size and text."""
    done = rows[rows.status == "finished"]
    kept: list[str] = []
    for _, series in done.groupby(["params_non_embedding", "tokens_unique"]):
        if not (series.tokens > 1.2 * series.tokens_unique).any():
            kept += list(series.run_id)
            continue
        means = np.log(series.loss).groupby(series.tokens).mean()
        kept += list(series[series.tokens <= means.idxmin()].run_id)
    return sorted(kept)


PART = Law()
