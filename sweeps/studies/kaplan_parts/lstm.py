"""LSTM against Transformer: loss by size, and by position in the context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scaling.store import Store
from sweeps.studies.kaplan_parts.tuned import at_best_rates
from sweeps.studies.part import (
    Finding,
    Number,
    Part,
    Scope,
    of_fit,
    records,
    says,
    show,
)

if TYPE_CHECKING:
    from analysis.positions import Positions


class Lstm(Part):
    """See the module."""

    name = "lstm"
    title = "LSTM against Transformer"
    question = (
        "Does an LSTM of equal size fall behind, and does it do so late in the context (Fig. 7)? The paper's LSTM"
        " keeps up for the first hundred tokens."
    )
    design = (
        "Both at equal non-embedding size, tokens, batch and context, the rate tuned for each; loss by position on"
        " the same held-out windows, differences seed by seed."
    )
    sweeps = ("lstm",)
    limits = (
        "At these widths the loss is nearly flat beyond some tens of bytes of context for either net: little is there"
        " to fall behind in.",
        "'No separation visible' is an answer about this size and this budget.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.figures.positions import plot_positions
        from analysis.positions import measure_positions

        rows, where = scope.rows("lstm"), scope.where("lstm")
        tuned = at_best_rates(rows, where)
        numbers = []
        for architecture in ("decoder", "lstm"):
            own = f"{tuned.where} and architecture == '{architecture}'"
            fit = scope.fit("power:params", own)
            numbers += of_fit(fit, {"alpha": (f"alpha_N_{architecture}", f"exponent of L(N), {architecture}")}, own)
        numbers += [*_by_size(tuned.rows, scope, tuned.where), tuned.number(scope.level)]
        positions = position_losses(scope, tuned.rows)
        found = measure_positions(
            tuned.rows, positions, level=scope.level, bootstrap=min(scope.bootstrap, 200), seed=scope.seed
        )
        numbers += _gaps(found, tuned.where)
        caption = "Loss by position in the context, and the LSTM's loss over the decoder's."
        return Finding(
            numbers=tuple(numbers),
            pictures=(scope.draw("lstm-positions", caption, lambda: plot_positions(found)),),
            says=_sentences(found),
            detail={"positions": found},
        )


def position_losses(scope: Scope, rows: Any) -> Any:
    """Loss by position of the kept weights of some rows, measured where it was not before: run_id, x, value, se."""
    from scaling.evaluations.measuring import measure_runs
    from scaling.evaluations.position_loss import PositionLoss

    store = Store.open(scope.store, write=True)
    measure_runs(store, PositionLoss(), records(rows))
    return Store.open(scope.store).evals(list(rows.run_id), "position_loss")


def _by_size(rows: Any, scope: Scope, where: str) -> list[Number]:
    """The LSTM's loss against the decoder's of the same size."""
    import math

    import numpy as np

    from analysis.replicates import pooled
    from analysis.types import Estimate

    logs = np.log(rows.loss.to_numpy(dtype=np.float64))
    noise = pooled(list(zip(rows.architecture, rows.params_non_embedding, strict=True)), logs)
    cells = rows.assign(log=logs).groupby(["architecture", "params_non_embedding"]).log.agg(["mean", "size"])
    found = []
    for n, (mean, k) in cells.loc["lstm"].iterrows():
        others = cells.loc["decoder"]
        near = min(others.index, key=lambda m: abs(math.log(m / n)))
        base, m = others.loc[near]
        half = 100.0 * noise.half_width(1.0 / k + 1.0 / m, scope.level)
        gap = 100.0 * float(mean - base)
        value = Estimate(gap, (gap - half, gap + half), scope.level)
        status, reason = value.told_from(no_interval="no size has several seeds")
        found.append(
            Number(
                f"gap_{n}", f"LSTM of {show(n)} against decoder of {show(near)} parameters: loss",
                value, str(status), where, int(k + m), "difference of mean ln loss; Student's interval, pooled seeds",
                reason, "%",
            )
        )  # fmt: skip
    return found


def _gaps(found: Positions, where: str) -> list[Number]:
    """Early and late in the context, and how much the gap widens, by size."""
    call = "analysis.positions.measure_positions(rows, positions)"
    numbers = []
    for c in found.comparisons:
        for name, value in (("early", c.early), ("late", c.late), ("widening", c.widening)):
            words = {"early": "early in the context", "late": "late in the context", "widening": "late less early"}
            # What is true of the gap late in the context need not be of another.
            status, reason = value.told_from() if value.known else (c.status, c.reason)
            numbers.append(
                Number(
                    f"{name}_{c.params[0]:.0f}",
                    f"LSTM's loss over the decoder's {words[name]}, N = {show(c.params[0])}",
                    value, str(status), where, c.pairs, call, reason, "%",
                )
            )  # fmt: skip
    return numbers


def _sentences(found: Positions) -> tuple[str, ...]:
    text = [f"Late in the context: {found.verdict}{' (' + found.reason + ')' if found.reason else ''}."]
    text += [
        f"N = {show(c.params[0])}: {says(c.early)} % early, {says(c.late)} % late ({c.verdict})."
        for c in found.comparisons
    ]
    return (*text, *found.warnings)


PART = Lstm()
