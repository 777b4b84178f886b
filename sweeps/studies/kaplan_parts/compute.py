"""L(C) at a fixed batch and L(C_min), with the best size, batch, steps and data of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeps.studies.part import CONVERGED, Finding, Number, Part, Scope, says

if TYPE_CHECKING:
    from analysis.compute import Compute, ComputeFrontier

PUBLISHED = {
    "naive": {"L": 0.057, "N": 0.88},
    "adjusted": {"L": 0.050, "N": 0.73, "B": 0.24, "S": 0.03, "D": 0.27},
}
"""Exponents of the paper: of L downwards, of the others upwards (eqs. 1.3, 1.7, 1.8; Table 6)."""
WORDS = {"naive": "C at the batch that was run", "adjusted": "C_min"}


class ComputePart(Part):
    """See the module."""

    name = "compute"
    title = "Loss, size, batch, steps and data by compute"
    question = (
        "How do the loss and the best size grow with compute at one fixed batch (Fig. 1, left; §6), and with C_min,"
        " what a batch far below the critical one would have taken (Figs. 13 and 14)?"
    )
    design = (
        "The lower envelope of the curves of 'Loss by size', as the paper reads it; C_min = C/(1 + B/B_crit(L)). A"
        " budget at which the smallest or the largest size is best enters no fit."
    )
    uses = ("sizes", "seeds", "batch")
    limits = (
        "Points along a decaying schedule are not the ends of shorter runs, which favours larger models at a budget:"
        " these exponents repeat the paper's protocol, bias included. Matched schedules are the matter of the study"
        " hoffmann.",
        "B_crit(L) is used beyond the losses at which it was measured where the table says so.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.compute import measure_compute
        from analysis.figures.compute_trends import plot_compute_trends

        rows, where = scope.rows("sizes", "seeds"), scope.where("sizes", "seeds")
        batch = scope.handed_on.get("critical_batch")
        law = batch if batch is not None and batch.law is not None else None
        found = measure_compute(
            rows, scope.curves(rows), law, level=scope.level, bootstrap=scope.bootstrap, seed=scope.seed
        )
        scope.handed_on["compute"] = found
        numbers = _numbers(found.naive, where)
        if found.adjusted is not None:
            numbers += _numbers(found.adjusted, where)
            status, reason = found.difference.told_from()
            numbers.append(
                Number(
                    "difference", "exponent of the best size: C_min less C", found.difference, str(status), where,
                    len(rows), _call("adjusted"), reason,
                )
            )  # fmt: skip
        caption = (
            "Best size, batch, steps and tokens over compute, with the power laws that are resolved (after Fig. 14)."
        )
        return Finding(
            numbers=tuple(numbers),
            pictures=(scope.draw("compute-trends", caption, lambda: plot_compute_trends(found)),),
            says=_sentences(found, law is None),
            detail={"compute": found},
        )


def _call(kind: str) -> str:
    batch = ", batch" if kind == "adjusted" else ""
    return f"analysis.compute.measure_compute(rows, curves{batch})"


def _numbers(found: ComputeFrontier, where: str) -> list[Number]:
    """Exponents of one frontier: of the loss, and of every trend."""
    published, over = PUBLISHED[found.kind], WORDS[found.kind]
    numbers = []
    for law, name, label in ((found.law, "L", "falls as C^−α"), (found.law_floor, "L_floor", "above a floor")):
        if law is not None and law.params:
            numbers.append(
                Number(
                    f"{found.kind}_{name}", f"exponent of the loss over {over}, {label}", law.params["alpha"],
                    str(law.status), where, law.n, _call(found.kind), law.reason, "", published.get(name),
                )
            )  # fmt: skip
    words = {"N": "best size", "B": "batch", "S": "steps S_min", "D": "tokens"}
    for name, trend in found.trends.items():
        status = trend.status if str(found.status) == CONVERGED else found.status
        numbers.append(
            Number(
                f"{found.kind}_{name}", f"exponent of the {words[name]} over {over}", trend.exponent, str(status),
                where, len(found.points), _call(found.kind), trend.reason or found.reason, "", published.get(name),
            )
        )  # fmt: skip
    return numbers


def _sentences(found: Compute, no_law: bool) -> tuple[str, ...]:
    text = []
    if found.naive.reason:
        text.append(f"At the fixed batch: {found.naive.reason}.")
    if found.adjusted is not None and found.adjusted.reason:
        text.append(f"Over C_min: {found.adjusted.reason}.")
    if no_law:
        text.append("No law of the critical batch was measured, so there is no C_min.")
    if found.difference.known:
        text.append(f"The exponent of the best size changes by {says(found.difference)} from C to C_min.")
    return (*text, *found.warnings)


PART = ComputePart()
