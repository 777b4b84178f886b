"""L(D) on limited unique text, L(N, D), and the overfit over N^(α_N/α_D)/D."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeps.studies.part import Finding, Number, Part, Scope, of_fit, plain, show

if TYPE_CHECKING:
    import pandas as pd

PAST_MINIMUM = 1.2
"""A run's length over that of its least held-out loss, from which on the minimum counts as passed."""


CALL = "analysis.overfitting.measure_overfitting(rows)"
"""What makes the numbers: losses of runs stopped at their best are chosen row by row there."""


class Data(Part):
    """See the module."""

    name = "data"
    title = "Loss by data, L(D) and L(N, D)"
    question = (
        "How does the loss of a run stopped at its best fall with unique text (Fig. 1, middle; eq. 1.2)? Do size and"
        " data join in one law (eq. 1.5, Fig. 9), and does the overfit depend on N^(α_N/α_D)/D alone (§4.2)?"
    )
    design = (
        "Sizes × amounts of unique text, with dropout, at a constant rate with averaged weights, meant to go past the"
        " least held-out loss; `loss_best` chooses the step on one half of the held-out documents and is read on the"
        " other."
    )
    sweeps = ("data",)
    limits = (
        "A run whose loss still falls at its end has no overfit to show: its point is a bound. How many such there"
        " are is stated.",
        "L(N, ∞) is each size's loss on the most text tried, which is not without limit.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.figures.overfitting import plot_overfitting
        from analysis.overfitting import measure_overfitting

        rows, where = scope.rows("data"), scope.where("data")
        found = measure_overfitting(rows, level=scope.level, bootstrap=scope.bootstrap, seed=scope.seed)
        scope.handed_on["overfitting"] = found
        largest = found.by_size[-1]
        numbers = []
        for law in found.by_size:
            published = {"alpha": 0.095} if law is largest else {}
            label = f"exponent α_D of L(D) at N = {show(law.params)}"
            own = f"{where} and params_non_embedding == {law.params:.0f}"
            wanted = {"alpha": (f"alpha_D_{law.params:.0f}", label)}
            numbers += of_fit(law.fit, wanted, own, published=published, command=CALL)
        wanted = {"alpha": ("joint_alpha_N", "α_N of L(N, D)"), "beta": ("joint_alpha_D", "α_D of L(N, D)")}
        published = {"alpha": 0.076, "beta": 0.103}
        numbers += of_fit(found.joint, wanted, where, published=published, command=CALL)
        passed, total = passed_minimum(rows, scope.curves(rows))
        numbers.append(
            Number(
                "past_minimum", "runs that passed their least loss by a fifth", plain(passed, scope.level),
                "converged" if passed == total else "not_resolved", where, total,
                "least of curves.loss against the run's length",
                reason="" if passed == total else f"{total - passed} of {total} still fell at their end",
            )
        )  # fmt: skip
        worst = max((p for p in found.points if p.overfit.known), key=lambda p: p.overfit.value, default=None)
        sentences = [f"{passed} of {total} runs passed their least held-out loss by a fifth."]
        if worst is not None:
            sentences.append(
                f"The largest overfit is {100 * worst.overfit.value:.1f} %, at N = {show(worst.params)} on"
                f" {show(worst.unique_tokens)} unique tokens"
                + (f"; the joint law says {100 * worst.predicted:.1f} %." if worst.predicted > 0 else ".")
            )
        sentences += found.warnings
        caption = "Loss by unique text and size, and the overfit against N^(α_N/α_D)/D."
        return Finding(
            numbers=tuple(numbers),
            pictures=(scope.draw("data-overfitting", caption, lambda: plot_overfitting(found)),),
            says=tuple(sentences),
            detail={"overfitting": found},
        )


def passed_minimum(rows: pd.DataFrame, curves: pd.DataFrame) -> tuple[int, int]:
    """How many runs went on for a fifth beyond their least held-out loss, of how many."""
    passed = 0
    finished = rows[rows.status == "finished"]
    for run_id, steps in zip(finished.run_id, finished.steps, strict=True):
        curve = curves[(curves.run_id == run_id) & curves.loss.notna()]
        if len(curve):
            passed += int(steps >= PAST_MINIMUM * curve.step[curve.loss.idxmin()])
    return passed, len(finished)


PART = Data()
