"""Replaced-token detection against masked prediction at equal FLOPs, the generator counted, on tasks."""

from __future__ import annotations

from itertools import chain

from analysis.figures.contrasts import Point, plot_contrasts
from sweeps.studies.objectives_parts.arms import Arm, arms_of, at_budget, interior_rates
from sweeps.studies.objectives_parts.metrics import ADJACENT, SST2, STS, SUBJECTIVITY, effect, scores_of, sentence
from sweeps.studies.part import CONVERGED, Finding, Number, Part, Scope

METRICS = (SUBJECTIVITY, SST2, STS, ADJACENT)


class Electra(Part):
    """See the module."""

    name = "electra"
    title = "Replaced-token detection"
    question = (
        "What does ELECTRA's replaced-token detection (Clark et al. 2020) gain over masked prediction at equal FLOPs,"
        " those of its generator counted?"
    )
    design = (
        "Discriminators of the shapes of the masked models, trained for the same exact FLOPs, generator included, so on"
        " fewer tokens. A discriminator gives a text no likelihood; what both have is hidden states. Compared are"
        " linear probes and sentence similarity, which count only where they beat an untrained model and n-grams by"
        " three standard errors; paired over items, with three seeds. A discriminator's own loss is no judge of rates:"
        " it falls with the rate, because a generator that learned less is easier to see through. So the rate is the"
        " recipe's, and the tasks are measured at half and at twice of it as well."
    )
    sweeps = ("electra", "electra-rates")
    uses = ("masked", "masked-seeds", "masked-rates")
    limits = (
        "Half and twice the rate have one seed a size; where one scores higher the recipe's rate is not the best.",
        "One width of generator (a quarter) and one weight of the two losses (50).",
        "Probes read mean states; what fine-tuning would make of the models is not asked.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        masked = arms_of(
            at_budget(
                scope.rows("masked", "masked-seeds", "masked-rates"), float(scope.rows("masked-seeds").budget.iloc[0])
            )
        )
        electra = arms_of(scope.rows("electra"))
        others = {name: _at_other_rates(scope, electra, lower) for name, lower in (("half", True), ("twice", False))}
        pairs: list[tuple[Arm, Arm]] = [(a, b) for a in masked for b in electra if dict(a.shape) == dict(b.shape)]
        numbers: list[Number] = []
        panels: dict[str, dict[str, list[Point]]] = {}
        text = []
        for metric in METRICS:
            scores = scores_of(scope, metric, [*chain.from_iterable(pairs), *chain.from_iterable(others.values())])
            points = panels.setdefault(f"{metric.label}, {metric.unit}", {}).setdefault("replaced token", [])
            for a, b in pairs if not scores.reason else ():
                made, point = effect(scope, scores, str(a.params), f"replaced token less masked, N = {a.params:,}",
                                     [a], [b])  # fmt: skip
                numbers.append(made)
                points.append(point)
            one, other = [a for a, _ in pairs], [b for _, b in pairs]
            numbers.append(effect(scope, scores, "mean", "replaced token less masked, mean over sizes", one, other)[0])
            text.append(sentence(numbers[-1]))
            for name, arms in others.items() if not scores.reason else ():
                at_rule = [b for b in electra for a in arms if dict(a.shape) == dict(b.shape)]
                label = f"replaced token at {name} the rate less at the recipe's, mean over sizes"
                numbers.append(effect(scope, scores, f"{name}_rate", label, at_rule, arms)[0])
                if numbers[-1].status == CONVERGED:
                    text.append(sentence(numbers[-1]))
        numbers.append(interior_rates("interior_rates_masked", masked, scope.level, "masked"))
        caption = "Replaced-token detection less masked prediction at equal FLOPs; above 0 it is the better."
        return Finding(
            numbers=tuple(numbers),
            pictures=(scope.draw("electra", caption, lambda: plot_contrasts(panels)),),
            says=tuple(text),
            detail={"tokens": [{"params": a.params, "masked": a.tokens, "replaced_token": b.tokens} for a, b in pairs]},
        )


def _at_other_rates(scope: Scope, electra: list[Arm], lower: bool) -> list[Arm]:
    """The arms of `electra-rates` below or above the recipe's rate of their shape, in the order of `electra`."""
    arms = arms_of(scope.rows("electra-rates"), apart=True)
    return [
        a for b in electra for a in arms if dict(a.shape) == dict(b.shape) and (a.lr < b.lr if lower else a.lr > b.lr)
    ]


PART = Electra()
