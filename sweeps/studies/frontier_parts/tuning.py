"""Learning rate and batch: the best of each size at one budget and again at another; laws; the recipe's gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sweeps.studies.frontier_parts.arm import Arm
from sweeps.studies.frontier_parts.decoder import ARM as DECODER
from sweeps.studies.frontier_parts.encoder import ARM as WORDS
from sweeps.studies.frontier_parts.encoder_bytes import ARM as BYTES
from sweeps.studies.kaplan_parts.rates import cells_of_budgets, optima
from sweeps.studies.part import CONVERGED, COST, COUNT, Finding, Number, Part, Picture, Scope, of_fit, show

if TYPE_CHECKING:
    from analysis.checks.tuning import TuningGaps
    from analysis.hyperparameters import HyperparameterFit

CALL = "analysis.fit_hyperparameters(rows, lr='params_tokens', batch='tokens')"
ONE_SEED = (
    "One seed a setting: the surface's residuals are the noise, and optima of flat surfaces are known to a factor."
)
HELD = "Warmup, β2, weight decay and shape stay the recipe's."
GAPS = "analysis.checks.tuning.tuning_gaps(Subject(rows), used=recipe)"


class Tuning(Part):
    """The grids of one family about its recipe."""

    arm: ClassVar[Arm]
    question = (
        "Which learning rate and batch are best at each size and budget, how do they move with N and D, and how much"
        " loss does the recipe leave at each rung, by which the frontier may be tilted?"
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.hyperparameters import fit_hyperparameters

        where = scope.where(*self.sweeps)
        table = cells_of_budgets(scope.rows(*self.sweeps, extra="status == 'finished'"))
        found = fit_hyperparameters(
            table, lr="params_tokens", batch="tokens", bootstrap=scope.bootstrap, level=scope.level, seed=scope.seed
        )
        numbers = optima(found, where, CALL)
        for law, label in ((found.lr, "rate"), (found.batch, "batch")):
            if law is not None:
                wanted = {p: (f"{label}_{p}", f"{p} of the law of the best {label}") for p in law.params}
                numbers += of_fit(law, wanted, where, command=CALL)
        gaps = _recipe_gaps(scope, self.sweeps)
        numbers += _gaps(gaps, where, scope.level)
        interior = sum(str(c.status) == CONVERGED for c in found.cells)
        text = [f"{interior} of {len(found.cells)} cells have their optimum inside the grid."]
        text += [f"No law of the best {n}: {why}." for n, why in _lawless(found)]
        return Finding(
            numbers=tuple(numbers),
            pictures=tuple(_picture(scope, self.arm, name) for name in self.sweeps),
            says=tuple(text),
            detail={"hyperparameters": found, "gaps": gaps},
        )


class DecoderTuning(Tuning):
    """The decoder's."""

    arm = DECODER
    name = "tuning"
    title = "Learning rate and batch"
    design = (
        "The decoder's sizes at one budget, rate × batch about the recipe's, the rate following each batch by the"
        " recipe; two sizes on either side of the centre again at a budget 6.4 times as large. The optimum of a cell is"
        " that of a quadratic in ln rate and ln batch; one at the edge of its grid is not shown to be the best and is"
        " left out of the laws."
    )
    sweeps = arm.grids
    limits = (
        ONE_SEED,
        "Seven cells, two budgets: the laws are descriptions of this range, and N and D are told apart by the two cells"
        " of the larger budget alone.",
        "No batch is smaller than one window: where the best batch is the least there is, the optimum is not interior.",
        HELD,
    )


class EncoderTuning(Tuning):
    """That of masked words, trained before their frontier."""

    arm = WORDS
    name = "encoder-tuning"
    title = "The encoder's learning rate and batch"
    design = (
        "Two sizes of masked words, a factor 8 apart, at the least budget of their frontier: rate × batch about what"
        " `small-v1` has from bytes, the rate following each batch by its square root. The frontier's own rule of rate"
        " and batch was made from these grids; the loss that the recipe leaves is that of `small-v1`, not of that rule."
    )
    sweeps = arm.grids
    limits = (
        ONE_SEED,
        "One budget: size and tokens move against each other, so that how rate and batch move with each is not told.",
        HELD,
    )


class BytesTuning(Tuning):
    """That of masked bytes, trained before their frontier."""

    arm = BYTES
    name = "encoder-bytes-tuning"
    title = "Learning rate and batch of the encoder on bytes"
    design = (
        "Two sizes of masked bytes, on either side of the centre at the least budget of their frontier: rate × batch"
        " about the recipe's, the rate following each batch by its square root."
    )
    sweeps = arm.grids
    limits = EncoderTuning.limits


def _picture(scope: Scope, arm: Arm, sweep: str) -> Picture:
    """Loss over rate and batch at the budget of one sweep, a panel a size."""
    from analysis.figures.rates import plot_rates

    rows = scope.rows(sweep, extra="status == 'finished'")
    caption = (
        f"{arm.label}: loss by learning rate and batch at {show(float(rows.budget.median()))} FLOPs, a panel a size;"
        " the large dot is a batch's best rate, hollow at the edge of the rates tried."
    )
    return scope.draw(sweep, caption, lambda: plot_rates(rows, line="batch_tokens", panel=f"params_{COUNT}"))


def _lawless(found: HyperparameterFit) -> list[tuple[str, str]]:
    reasons = "; ".join(dict.fromkeys(d.reason for d in found.dropped)) or "no cell has an interior optimum"
    return [(name, reasons) for law, name in ((found.lr, "rate"), (found.batch, "batch")) if law is None]


def _recipe_gaps(scope: Scope, sweeps: tuple[str, ...]) -> TuningGaps:
    """Gaps of the recipe's own run in every cell to the best of its surface."""
    from analysis.checks import Subject
    from analysis.checks.tuning import tuning_gaps
    from sweeps.definition import load_sweep
    from sweeps.run import prepare_sweep

    only = ["design.learning_rate_factors=[1]", "design.batch_factors=[1]"]
    ids = set()
    for name in sweeps:
        ready = prepare_sweep(load_sweep(scope.folder / f"sweep-{name}.yaml", only))
        ids |= {w.trial.run_id(ready.digest) for w in ready.wanted}
    subject = Subject(scope.runs(*sweeps), COUNT, COST, scope.level, scope.seed)
    return tuning_gaps(subject, used=f"run_id in {sorted(ids)}")


def _gaps(gaps: TuningGaps, where: str, level: float) -> list[Number]:
    from analysis.bootstrap import estimate

    numbers = []
    for k, label in enumerate(gaps.labels):
        rung = next((r for r in gaps.rungs if gaps.rows[k] in r.rows), None)
        cell = str(label) if rung is None else f"N = {show(rung.params)}, D = {show(rung.tokens)}"
        known = bool(np.isfinite(gaps.sd[k]))
        value = estimate(100 * float(gaps.gap[k]) if known else np.nan, 100 * gaps.draws[:, k], level)
        lower = gaps.origin[k] == "own surface, a lower bound"
        status = CONVERGED if known and not lower else "non_interior" if known else "too_few_points"
        numbers.append(
            Number(
                f"gap_{label}", f"loss that the recipe leaves at {cell}", value, status, where,
                1 if rung is None else rung.rows.size, GAPS, "" if status == CONVERGED else gaps.origin[k], "%",
            )
        )  # fmt: skip
    return numbers


PARTS = (DecoderTuning(), EncoderTuning(), BytesTuning())
