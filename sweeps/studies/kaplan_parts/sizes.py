"""L(N): loss by size with tokens in plenty, with and without a floor, and what counting embeddings does to it."""

from __future__ import annotations

from analysis.types import Estimate, jsonable
from sweeps.studies.kaplan_parts.tuned import Tuned, at_best_rates
from sweeps.studies.part import COUNT, Finding, Number, Part, Scope, of_fit, says

KAPLAN_ALPHA_N = 0.076
COUNT_WORDS = {
    "non_embedding": "no embeddings, no head",
    "non_embedding_head": "no embeddings, with the head",
    "total": "all parameters",
}


class Sizes(Part):
    """See the module."""

    name = "sizes"
    title = "Loss by size, L(N)"
    question = (
        "With text enough never to repeat and steps enough to come near convergence, is the loss a power law of the"
        " size (Fig. 1, right; eq. 1.1)? Is there a floor? What does counting the embeddings do (Fig. 6)?"
    )
    design = (
        "One depth, sizes a factor 2 apart by width; tokens, batch, warmup and a cosine schedule equal for all (the"
        " paper's protocol), the best of the rates tried; several seeds at the smallest sizes, which state the noise."
    )
    sweeps = ("sizes", "seeds")
    limits = (
        "Equal tokens are more nearly enough for small models than for large ones: what is left to learn grows with"
        " size, which flattens the slope. How much is left is estimated under 'Loss by size and steps'.",
        "One rate rule and one batch for all sizes: a size that they suit worse than the others tilts the line.",
        "Under two decades of size a slowly bending curve passes for a straight one; that a floor is not seen is no"
        " proof that there is none.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.choosing import choose
        from analysis.figures.fitted import plot_fit

        tuned = at_best_rates(scope.rows(*self.sweeps), scope.where(*self.sweeps))
        where = tuned.where
        straight = {c: scope.fit("power:params", where, count=c) for c in COUNT_WORDS}
        floor = scope.fit("power_floor:params", where)
        numbers = []
        for count, fit in straight.items():
            label = f"exponent α_N of L(N), {COUNT_WORDS[count]}"
            published = {"alpha": KAPLAN_ALPHA_N} if count == COUNT else None
            numbers += of_fit(fit, {"alpha": (f"alpha_N_{count}", label)}, where, published=published)
        wanted = {"alpha": ("alpha_N_floor", "exponent with a floor"), "E": ("floor", "floor E")}
        numbers += of_fit(floor, wanted, where)
        scope.handed_on |= {"power": straight[COUNT], "power_floor": floor}
        noise = _noise(scope.level, tuned)
        chosen = choose(
            scope.store, ["power:params", "power_floor:params"], holdout="size", count=COUNT,
            level=scope.level, where=where,
        )  # fmt: skip
        says_ = [
            f"Counted without embeddings α_N = {says(straight[COUNT].params['alpha'])}; with all parameters"
            f" {says(straight['total'].params['alpha'])}. The residual spread about the line is"
            f" {100 * straight[COUNT].sigma:.2f} % and {100 * straight['total'].sigma:.2f} %.",
        ]
        if chosen.best is not None:
            why = f" ({chosen.status}{': ' + chosen.reason if chosen.reason else ''})"
            says_.append(f"Leaving out one size at a time, {_law_words(chosen.best)} predicts it best{why}.")
        if floor.params["E"].known and not floor.params["E"].ci[0] > 0.01 * floor.params["E"].value:
            says_.append("The floor's interval reaches 0: these runs do not show one.")
        caption = "Loss by size, with the power law and its residuals."
        return Finding(
            numbers=(*numbers, noise, tuned.number(scope.level)),
            pictures=(scope.draw("sizes-fit", caption, lambda: plot_fit(straight[COUNT])),),
            says=tuple(says_),
            detail={"power": straight, "power_floor": floor, "choice": jsonable(chosen)},
        )


def _law_words(name: str) -> str:
    return {"power:params": "the pure power law", "power_floor:params": "the law with a floor"}[name]


def _noise(level: float, tuned: Tuned) -> Number:
    """The spread between seeds of ln L, with its chi-square interval."""
    import numpy as np
    from scipy.stats import chi2

    from analysis.replicates import pooled

    rows = tuned.rows
    found = pooled(list(zip(rows.params_non_embedding, rows.lr, rows.tokens, strict=True)), np.log(rows.loss))
    tail = 0.5 * (1.0 - level)
    value = Estimate.missing(level)
    if found.dof:
        ends = (found.sd * (found.dof / chi2.ppf(p, found.dof)) ** 0.5 for p in (1.0 - tail, tail))
        lo, hi = (float(e) for e in ends)
        value = Estimate(found.sd, (lo, hi), level)
    return Number(
        "seed_noise",
        "noise: standard deviation of ln L between seeds, smallest sizes",
        value,
        "converged" if found.dof else "too_few_points",
        tuned.where,
        found.dof,
        "analysis.replicates.pooled(groups, ln loss)",
        reason="" if found.dof else "no size was run with several seeds",
    )


PART = Sizes()
