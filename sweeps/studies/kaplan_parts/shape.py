"""Shape at fixed size: aspect ratio, feed-forward ratio, width of a head, each at its best rate."""

from __future__ import annotations

import math

from sweeps.studies.kaplan_parts.tuned import at_best_rates
from sweeps.studies.part import CONVERGED, COUNT, Finding, Number, Part, Scope, says

REFERENCES = {
    "smoke": {"n_layer": 2, "d_model": 12, "d_ff": 48, "n_head": 1},
    "toy": {"n_layer": 4, "d_model": 64, "d_ff": 256, "n_head": 4},
    "full": {"n_layer": 4, "d_model": 128, "d_ff": 512, "n_head": 8},
}
"""The shape about which one ratio at a time varies."""
WORDS = {"aspect_ratio": "d_model/n_layer", "feed_forward_ratio": "d_ff/d_model", "head_width": "d_model/n_head"}


class ShapePart(Part):
    """See the module."""

    name = "shape"
    title = "Shape at fixed size"
    question = "At one size, how much do depth against width, the feed-forward ratio and the heads matter (Fig. 5)?"
    design = (
        "One ratio at a time about a reference shape, the width following so that the size stays; equal tokens, each"
        " shape at the best of its rates. What differs in size is taken out with the measured L(N). An effect below"
        " what the seeds resolve among the shapes of its family is called not resolved."
    )
    sweeps = ("shape",)
    uses = ("sizes", "seeds")
    limits = (
        "Few tokens: how fast a shape learns counts as much as how far it would get.",
        "A not resolved effect is no proof of no effect: the resolution is stated beside each.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.figures.shapes import plot_shapes
        from analysis.shapes import measure_shapes

        rows, where = scope.rows("shape"), scope.where("shape")
        tuned = at_best_rates(scope.rows("sizes", "seeds"), scope.where("sizes", "seeds"))
        slope = scope.fit("power:params", tuned.where, count=COUNT).params["alpha"]
        found = measure_shapes(rows, slope=slope, reference=REFERENCES[scope.scale], level=scope.level)
        call = "analysis.shapes.measure_shapes(rows, slope, reference)"
        numbers = [
            Number(
                f"{e.family}_{'x'.join(map(str, e.shape))}",
                f"{WORDS[e.family]} = {e.ratio:.3g} ({e.shape.n_layer} layers × {e.shape.d_model},"
                f" d_ff {e.shape.d_ff}, {e.shape.n_head} heads): loss against the reference's",
                e.effect_percent, str(e.status), where, e.runs, call, e.reason, "%",
            )
            for e in found.effects
            if not e.is_reference
        ]  # fmt: skip
        return Finding(
            numbers=tuple(numbers),
            pictures=(scope.draw("shape", "Loss by shape, against the reference.", lambda: plot_shapes(found)),),
            says=(*_sentences(found), *found.warnings),
            detail={"shapes": found},
        )


def _sentences(found: object) -> list[str]:
    """What each family's effects come to."""
    text = []
    for family, words in WORDS.items():
        mine = [e for e in found.family(family) if not e.is_reference]  # type: ignore[attr-defined]
        if not mine:
            continue
        clear = [e for e in mine if str(e.status) == CONVERGED]
        edges = sum(str(e.status) == "non_interior" for e in mine)
        ratios = [e.ratio for e in found.family(family)]  # type: ignore[attr-defined]
        span = f"{words} from {min(ratios):.3g} to {max(ratios):.3g}"
        if clear:
            worst = max(clear, key=lambda e: abs(e.effect_percent.value))
            line = f"{span}: {len(clear)} of {len(mine)} effects are resolved; the largest is"
            line += f" {says(worst.effect_percent)} % at {worst.ratio:.3g}"
        else:
            known = [e.resolution_percent for e in mine if math.isfinite(e.resolution_percent)]
            line = f"{span}: none of {len(mine)} effects is resolved"
            line += f", at a resolution of {min(known):.2g} %" if known else ", for want of seeds"
        text.append(line + (f"; {edges} have their best rate at an edge" if edges else "") + ".")
    return text


PART = ShapePart()
