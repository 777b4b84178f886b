"""How much to mask: 15 against 30 and 40 % by size, on metrics that all of them have."""

from __future__ import annotations

from analysis.figures.contrasts import Point, plot_contrasts
from sweeps.studies.objectives_parts.arms import Arm, arms_of, at_budget, interior_rates, rate_of
from sweeps.studies.objectives_parts.metrics import BLIMP, PLL, SUBJECTIVITY, effect, scores_of, sentence, trend
from sweeps.studies.part import Finding, Number, Part, Scope

METRICS = (PLL, BLIMP, SUBJECTIVITY)
USUAL = 0.15


class MaskRate(Part):
    """See the module."""

    name = "mask_rate"
    title = "How much to mask"
    question = (
        "Is masking 30 or 40 % better than 15 %, and does the answer change with size (Wettig et al. 2022 found 40 %"
        " better for large models of English)?"
    )
    design = (
        "Equal exact FLOPs, so that a higher rate, which predicts more positions, reads slightly fewer tokens. Masked"
        " losses of different rates are on different axes. Compared are, from the kept weights, the"
        " pseudo-log-likelihood of held-out text (each token masked alone, all else seen: the rate nearest to none is"
        " at home there), minimal pairs, and a linear probe; each paired over documents or items, with three seeds."
    )
    sweeps = ("mask-rate", "mask-rate-rates")
    uses = ("masked", "masked-seeds", "masked-rates")
    limits = (
        "A pseudo-log-likelihood hides one token at a time, which is nearer to 15 % than to 40 %: an advantage of 15 %"
        " there may be of the test as much as of the training.",
        "Rates are tried at two of the four sizes.",
        "At equal FLOPs a larger model reads fewer tokens, in smaller batches: what changes with size here changes also"
        " with the number of positions predicted, a step and in all.",
        "Models of this size know little grammar; where a score is at chance the difference says nothing.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        budget = float(scope.rows("masked-seeds").budget.iloc[0])
        rows = scope.rows("masked", "masked-seeds", "masked-rates", "mask-rate", "mask-rate-rates")
        arms = arms_of(at_budget(rows, budget))
        by_rate: dict[float, dict[int, Arm]] = {}
        for arm in arms:
            by_rate.setdefault(rate_of(arm.objective), {})[arm.params] = arm
        sizes = sorted(set.intersection(*(set(a) for a in by_rate.values())))
        compared = [by_rate[r][n] for r in sorted(by_rate) for n in sizes]
        numbers: list[Number] = []
        panels: dict[str, dict[str, list[Point]]] = {}
        text = []
        for metric in METRICS:
            scores = scores_of(scope, metric, compared)
            panel = panels.setdefault(f"{metric.label}, {metric.unit}", {})
            for rate in sorted(set(by_rate) - {USUAL}):
                a, b = ([by_rate[r][n] for n in sizes] for r in (USUAL, rate))
                against = f"{100 * rate:.0f} % against 15 %"
                points = panel.setdefault(f"{100 * rate:.0f} %", [])
                for one, other in zip(a, b, strict=True):
                    made, point = effect(scope, scores, f"{100 * rate:.0f}_{one.params}", f"{against}, N ="
                                         f" {one.params:,}", [one], [other])  # fmt: skip
                    numbers.append(made)
                    points.append(point)
                mean = effect(scope, scores, f"{100 * rate:.0f}_mean", f"{against}, mean over sizes", a, b)[0]
                numbers.append(mean)
                text.append(sentence(mean))
                if len(sizes) > 1:
                    label = f"{against}, change of the difference from a size to ten times it"
                    numbers.append(trend(scope, scores, f"{100 * rate:.0f}_trend", label, a, b))
                    text.append(sentence(numbers[-1]))
                if scores.reason:
                    break
        for rate in sorted(by_rate):
            label = f"at {100 * rate:.0f} %"
            numbers.append(
                interior_rates(f"interior_rates_{100 * rate:.0f}", list(by_rate[rate].values()), scope.level, label)
            )
        caption = "Mask rates against 15 %, by size: less is better in the first panel, more in the others."
        return Finding(
            numbers=tuple(numbers),
            pictures=(scope.draw("mask-rate", caption, lambda: plot_contrasts(panels)),),
            says=tuple(text),
            detail={"sizes": sizes, "rates": sorted(by_rate)},
        )


PART = MaskRate()
