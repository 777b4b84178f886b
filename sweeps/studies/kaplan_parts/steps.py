"""L(N, S_min): learning curves after warmup, steps corrected to a batch far above the critical one."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from typing import TYPE_CHECKING, Any

from analysis.bootstrap import percentile
from analysis.types import Estimate
from sweeps.studies.kaplan_parts.tuned import at_best_rates
from sweeps.studies.part import Finding, Number, Part, Scope, of_fit

if TYPE_CHECKING:
    from analysis.learning_curves import LearningCurves


CALL = "analysis.learning_curves.fit_learning_curves(rows, curves, batch)"


class Steps(Part):
    """See the module."""

    name = "steps"
    title = "Loss by size and steps, L(N, S_min)"
    question = "Do learning curves after warmup follow A N^−α_N + B S_min^−α_S (eq. 1.6, Fig. 4)?"
    design = "The curves of the runs of 'Loss by size', their steps corrected with the measured critical batch."
    uses = ("sizes", "seeds", "batch")
    limits = (
        "Points along a decaying schedule are not the ends of shorter runs; the paper reads them so, and so does"
        " this fit.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.figures.learning_curves import plot_learning_curves
        from analysis.learning_curves import fit_learning_curves

        tuned = at_best_rates(scope.rows("sizes", "seeds"), scope.where("sizes", "seeds"))
        rows, where = tuned.rows, tuned.where
        batch = scope.handed_on.get("critical_batch")
        law = batch if batch is not None and batch.law is not None else None
        found = fit_learning_curves(
            rows, scope.curves(rows), law, level=scope.level, bootstrap=scope.bootstrap, seed=scope.seed
        )
        scope.handed_on["learning_curves"] = found
        wanted = {"alpha": ("alpha_N", "α_N of L(N, S_min)"), "beta": ("alpha_S", "α_S of L(N, S_min)")}
        numbers: list[Number] = []
        if found.fit.params:
            published = {"alpha": 0.077, "beta": 0.76}
            numbers += of_fit(found.fit, wanted, where, published=published, command=CALL)
            numbers += _left_to_learn(found, where, scope.level)
        sentences = list(found.warnings)
        if law is None:
            sentences.append("No law of the critical batch was measured, so steps are taken as they are.")
        caption = "Learning curves after warmup and the fitted law, by size."
        return Finding(
            numbers=tuple(numbers),
            pictures=(scope.draw("steps-learning-curves", caption, lambda: plot_learning_curves(found)),),
            says=tuple(sentences),
            detail={"learning_curves": found},
        )


def _left_to_learn(found: LearningCurves, where: str, level: float) -> list[Number]:
    """The share of the loss that more steps would still take away, by the law, at the end of the runs of two sizes."""
    ends = found.table.sort_values("S_min").groupby("params").tail(1).sort_values("params")
    numbers = []
    for which, row in (("smallest", ends.iloc[0]), ("largest", ends.iloc[-1])):
        share = _share(found.fit.values, row.params, row.S_min)
        lo, hi = percentile(_share(found.fit.draws, row.params, row.S_min), level) if found.fit.draws else (nan, nan)
        numbers.append(
            Number(
                f"left_{which}", f"still to learn at the end of the {which} size's runs, by the law",
                Estimate(float(share), (lo, hi), level), str(found.status), where, len(found.table),
                "B S_min^-beta / L of the same fit", found.reason, "% of the loss",
            )
        )  # fmt: skip
    return numbers


def _share(p: Mapping[str, Any], params: float, s_min: float) -> Any:
    """What the steps' term is of the loss, in percent."""
    steps = p["B"] * s_min ** -p["beta"]
    return 100.0 * steps / (p["A"] * params ** -p["alpha"] + steps)


PART = Steps()
