"""Pair objectives: does next-sentence or sentence-order prediction add anything to masked prediction?"""

from __future__ import annotations

import math

from analysis.contrasts import contrast, given, seed_noise
from analysis.figures.contrasts import Point, plot_contrasts
from sweeps.studies.objectives_parts.arms import (
    Arm,
    arms_of,
    document_scores,
    interior_rates,
    number,
    of,
)
from sweeps.studies.objectives_parts.metrics import ADJACENT, ORDER, STS, SUBJECTIVITY, effect, scores_of, sentence
from sweeps.studies.part import Finding, Number, Part, Scope, says

METRICS = (ADJACENT, ORDER, STS, SUBJECTIVITY)
KINDS = {"nsp": "next-sentence prediction", "sop": "sentence-order prediction"}
OWN = "ln 2 less heldout_nats_nsp or heldout_nats_sop of evals; Student's interval over seeds"
CALL = "analysis.contrasts.contrast([(1, with_pair), (-1, masked_alone)], noise, scale=100)"


class PairObjectives(Part):
    """See the module."""

    name = "pairs"
    title = "Next-sentence and sentence-order prediction"
    question = (
        "Does judging pairs of segments, by next-sentence (Devlin et al. 2018) or sentence-order prediction (Lan et al."
        " 2019), help a masked language model at all (Liu et al. 2019, arXiv 1907.11692, found that the former does"
        " not)?"
    )
    design = (
        "One layout, [CLS] first [SEP] second, three arms: masked prediction alone on pairs as they stood, and beside"
        " either pair objective, at equal exact FLOPs. The masked loss on held-out pairs as they stood is one axis for"
        " all three, paired over documents; beside it linear probes on pairs of held-out sentences and on a task, and"
        " sentence similarity. Three seeds an arm."
    )
    sweeps = ("pairs", "pairs-rates")
    limits = (
        "Segments of 63 bytes: half a sentence each. What the pair objectives see of discourse is little.",
        "With a half changed in half of its windows, next-sentence prediction reads less coherent text, which is part"
        " of its cost here.",
        "Two sizes; probes read mean states of single sentences, not the [CLS] state of a pair.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        arms = arms_of(scope.rows("pairs", "pairs-rates"))
        by_kind: dict[str, dict[int, Arm]] = {}
        for arm in arms:
            by_kind.setdefault(str(arm.objective.get("pair", "nsp")), {})[_width(arm)] = arm
        numbers, points, text = _losses(scope, by_kind, arms)
        panels: dict[str, dict[str, list[Point]]] = {"masked loss on pairs, %": points}
        for metric in METRICS:
            scores = scores_of(scope, metric, arms)
            panel = panels.setdefault(f"{metric.label}, {metric.unit}", {})
            for kind, label in KINDS.items():
                sizes = sorted(set(by_kind["none"]) & set(by_kind.get(kind, {})))
                a, b = ([by_kind[k][w] for w in sizes] for k in ("none", kind))
                for one, other in zip(a, b, strict=True) if not scores.reason else ():
                    made, point = effect(scope, scores, f"{kind}_{one.params}", f"with {label} less masked alone, N ="
                                         f" {one.params:,}", [one], [other])  # fmt: skip
                    numbers.append(made)
                    panel.setdefault(label, []).append(point)
                numbers.append(effect(scope, scores, f"{kind}_mean", f"with {label} less masked alone, mean over sizes",
                                      a, b)[0])  # fmt: skip
                text.append(sentence(numbers[-1]))
                if scores.reason:
                    break
        for kind, own in by_kind.items():
            label = "masked alone on pairs" if kind == "none" else f"on pairs with {KINDS[kind]}"
            numbers.append(interior_rates(f"interior_rates_{kind}", list(own.values()), scope.level, label))
        caption = "Pair objectives against masked prediction alone: below 0 is better in the first panel, above 0 else."
        return Finding(
            numbers=tuple(numbers),
            pictures=(scope.draw("pairs", caption, lambda: plot_contrasts(panels)),),
            says=tuple(text),
        )


def _width(arm: Arm) -> int:
    return int(arm.shape["d_model"])


def _losses(
    scope: Scope, by_kind: dict[str, dict[int, Arm]], arms: list[Arm]
) -> tuple[list[Number], dict[str, list[Point]], list[str]]:
    """The masked loss on pairs as they stood against the arm without a pair objective; and the pair's own nats."""
    scores = document_scores(scope, [i for a in arms for i in a.ids])
    noise = seed_noise([of(scores, a.ids) for a in arms])
    numbers: list[Number] = []
    points: dict[str, list[Point]] = {}
    text = []
    for kind, label in KINDS.items():
        sizes = sorted(set(by_kind["none"]) & set(by_kind.get(kind, {})))
        terms = []
        for width in sizes:
            a, b = by_kind["none"][width], by_kind[kind][width]
            both = [(1.0, of(scores, b.ids)), (-1.0, of(scores, a.ids))]
            terms += [(w / len(sizes), group) for w, group in both]
            found = contrast(both, noise, scope.level, scale=100.0)
            made = number(f"loss_{kind}_{a.params}", f"masked loss on pairs with {label} against masked alone, N ="
                          f" {a.params:,}", found, [a, b], CALL, unit="%")  # fmt: skip
            numbers.append(made)
            points.setdefault(label, []).append(Point(float(a.params), found, made.status))
        if sizes:
            used = [by_kind[k][w] for w in sizes for k in ("none", kind)]
            mean = number(f"loss_{kind}_mean", f"masked loss on pairs with {label} against masked alone, mean over"
                          " sizes", contrast(terms, noise, scope.level, scale=100.0), used, CALL, unit="%")  # fmt: skip
            numbers.append(mean)
            text.append(sentence(mean))
        numbers += _own(scope, kind, label, by_kind.get(kind, {}), text)
    return numbers, points, text


def _own(scope: Scope, kind: str, label: str, arms: dict[int, Arm], text: list[str]) -> list[Number]:
    """How far below a guess's ln 2 the pair's own nats are: whether it was learned at all."""
    from scaling.store import Store

    ids = [i for a in arms.values() for i in a.ids]
    if not ids:
        return []
    evals = Store.open(scope.store).evals(ids, f"heldout_nats_{kind}")
    # What a guess would give less what the run has: more is better, and 0 is nothing learned.
    gains = {str(r): given(math.log(2.0) - float(v)) for r, v in zip(evals.run_id, evals.value, strict=True)}
    groups = [of(gains, a.ids) for a in arms.values()]
    noise = seed_noise(groups)
    made = []
    for arm, group in zip(arms.values(), groups, strict=True):
        found = contrast([(1.0, group)], noise, scope.level)
        name = f"{label}: nats of a pair below a guess's ln 2, N = {arm.params:,}"
        made.append(number(f"own_{kind}_{arm.params}", name, found, [arm], OWN, unit="nats"))
        text.append(f"{label}, N = {arm.params:,}: {says(found.value)} nats a pair below a guess.")
    return made


PART = PairObjectives()
