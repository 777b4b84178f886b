"""Loss-curve collapse: normalised curves of the decoder's compute-optimal runs, against the noise of seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from analysis.types import Estimate
from sweeps.studies.frontier_parts.decoder import ARM
from sweeps.studies.part import CONVERGED, COST, COUNT, Finding, Number, Part, Scope, says, show

if TYPE_CHECKING:
    from analysis.collapsing import Collapsed
    from analysis.types import FitResult

CALL = "analysis.collapsing.measure_collapse(runs, rows, floor=E)"


class Collapse(Part):
    """See the module."""

    name = "collapse"
    title = "Do the loss curves of compute-optimal runs collapse?"
    question = (
        "Normalised as (L − E)/(L at the end − E) over the share of compute, do compute-optimal runs of all budgets"
        " fall onto one curve, and more closely than seeds let one run's curve agree with itself (Qiu et al. 2025)? A"
        " rung whose batch or rate does not suit its size would leave the others."
    )
    design = (
        "At each budget of the decoder's frontier the run nearest to N* of the approach vpnls; training losses as"
        " running means over 2 % of the run, from a fifth of it to 95 %; E is the fitted floor. The noise is that of"
        " ln(L − E) between the seeds of all repeated cells."
    )
    uses = ARM.sweeps
    limits = (
        "The floor E is the fit's; where its interval is wide the collapse is told for both ends of it, and a floor"
        " near zero makes every curve look alike.",
        "Five curves: their spread has four degrees of freedom. Repeated cells lie at the lower budgets and partly off"
        " the optimum, where noise may be another.",
        "Batches are powers of two and jump between rungs: single curves bend where a continuous rule would not.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.collapsing import measure_collapse, nearest_rows
        from analysis.figures.collapse import plot_collapse

        where, runs = scope.where(*ARM.sweeps), scope.runs(*ARM.sweeps)
        frontiers, law = scope.handed_on[ARM.key]
        (line,) = frontiers.find("vpnls", count=COUNT, cost=COST)
        budgets = sorted({float(b) for b in runs.frame["budget"].dropna()})
        best = {b: float(line.params(b)) for b in budgets} if line.known else {}
        rows = nearest_rows(runs, runs.params(COUNT), best)
        floors = {"": law.values["E"], "_low": law.params["E"].ci[0], "_high": law.params["E"].ci[1]}
        found = {
            name: measure_collapse(runs, rows, floor=floor, count=COUNT, cost=COST, level=scope.level)
            for name, floor in floors.items()
        }
        main, worth = found[""], _worth(law)
        numbers = [
            _number("spread", "spread of ln l between budgets", main, 100, main.spread, worth, where),
            _number("seeds", "spread of ln(L − E) between seeds", main, 100, main.seeds, worth, where),
        ]
        for name, floor in floors.items():
            label = f"spread between budgets over that between seeds, E = {show(floor)} nats"
            numbers.append(_number(f"ratio{name}", label, found[name], 1, found[name].ratio, worth, where))
        caption = "Normalised loss curves of compute-optimal runs, and their spread beside that of seeds."
        return Finding(
            numbers=tuple(numbers),
            pictures=(scope.draw("collapse", caption, lambda: plot_collapse(main)),),
            says=tuple(_sentences(found, line.reason)),
            detail={"collapse": found, "floors": floors},
        )


def _worth(law: FitResult) -> tuple[str, str]:
    """Of numbers that rest on the floor: the fit's where the fit is not to be trusted."""
    return str(law.status), f"the floor E: {law.reason}" if law.reason else ""


def _number(
    name: str, label: str, found: Collapsed, unit: float, value: Estimate, worth: tuple[str, str], where: str
) -> Number:
    """A spread or a ratio; `unit` 100 makes it a percentage."""
    status, reason = worth
    own = (str(found.status), found.reason)
    if not value.known or (name.startswith("ratio") and own[0] != CONVERGED):
        status, reason = own if own[0] != CONVERGED else worth
    scaled = Estimate(unit * value.value, (unit * value.ci[0], unit * value.ci[1]), value.level)
    return Number(name, label, scaled, status, where, len(found.collapse.rows), CALL, reason, "%" if unit > 1 else "")


def _sentences(found: Mapping[str, Collapsed], why: str) -> list[str]:
    main = found[""]
    if not main.spread.known:
        return [f"Whether the curves collapse is not known: {main.reason or why}."]
    text = [
        f"{len(main.collapse.rows)} compute-optimal curves: between budgets the normalised loss spreads by a factor of"
        f" {says(main.ratio)} of what seeds spread: {main.verdict}."
    ]
    others = {c.verdict for c in found.values()}
    if len(others) > 1:
        text.append(f"Over the floor's interval the verdict changes: {', '.join(sorted(others))}.")
    worst = int(abs(main.collapse.departure).argmax())
    text.append(
        f"The run at {show(float(main.collapse.flops[worst]))} FLOPs lies furthest from the others' median curve, by"
        f" {100 * float(main.collapse.departure[worst]):+.2f} % of its reducible loss."
    )
    return text


PART = Collapse()
