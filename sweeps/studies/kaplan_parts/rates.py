"""LR(N) and the batch: best learning rate and batch by size from a tuning grid, optima interior."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeps.studies.part import CONVERGED, COST, COUNT, Finding, Number, Part, Scope, of_fit, show

if TYPE_CHECKING:
    import pandas as pd

    from analysis.hyperparameters import HyperparameterFit


CALL = "analysis.fit_hyperparameters(rows, lr='params', batch='params')"


class Rates(Part):
    """See the module."""

    name = "rates"
    title = "Learning rate and batch by size"
    question = "How do the best rate and batch move with size (App. D.6: LR(N) falls with ln N)?"
    design = "Sizes at one budget, rate × batch about the recipe; an optimum at the edge of its grid is left out."
    sweeps = ("rates", "rates-batches")
    limits = ("One budget: size and tokens move against each other, so that their exponents are not told apart.",)

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.figures.rates import plot_rates
        from analysis.hyperparameters import fit_hyperparameters

        where = scope.where(*self.sweeps)
        rows = scope.rows(*self.sweeps, extra="status == 'finished'")
        table = cells_of_budgets(rows)
        found = fit_hyperparameters(
            table, lr="params", batch="params", bootstrap=scope.bootstrap, level=scope.level,
            seed=scope.seed,
        )  # fmt: skip
        call = CALL
        numbers = optima(found, where, call)
        for law, label in ((found.lr, "rate"), (found.batch, "batch")):
            if law is not None:
                wanted = {"alpha": (f"exponent_{label}", f"exponent of the best {label} in N")}
                numbers += of_fit(law, {k: v for k, v in wanted.items() if k in law.params}, where, command=call)
        numbers += _logarithmic(scope, found, where)
        interior = sum(str(c.status) == CONVERGED for c in found.cells)
        text = [f"{interior} of {len(found.cells)} sizes have their optimum inside the grid."]
        caption = "Loss by learning rate and batch, a panel a size; the large dot is a batch's best rate."
        return Finding(
            numbers=tuple(numbers),
            pictures=(
                scope.draw("rates", caption, lambda: plot_rates(rows, line="batch_tokens", panel=f"params_{COUNT}")),
            ),
            says=tuple(text),
            detail={"hyperparameters": found},
        )


def optima(found: HyperparameterFit, where: str, call: str) -> list[Number]:
    """The best rate and batch of every cell; `call` is what found them."""
    return [
        Number(
            f"{name}_{c.params:.0f}_{c.tokens:.0f}", f"best {label} at N = {show(c.params)}, D = {show(c.tokens)}",
            value, str(c.status), where, c.n, call, c.reason, unit,
        )
        for c in found.cells
        for name, label, value, unit in (("lr", "rate", c.lr, ""), ("batch", "batch", c.batch_tokens, "tokens"))
    ]  # fmt: skip


def cells_of_budgets(rows: pd.DataFrame) -> pd.DataFrame:
    """Store rows as `fit_hyperparameters` takes them: settings of one size and budget have one D.

    Whole steps of another batch make slightly other tokens of one budget: they are one cell.
    """
    size, horizon = rows[f"params_{COUNT}"], rows.budget.fillna(rows.tokens)
    tokens = rows.groupby([size, horizon]).tokens.transform("median")
    columns = {"params": size, "tokens": tokens, "flops": rows.flops_exact}
    return rows[["run_id", "lineage", "lr", "batch_tokens", "loss"]].assign(**columns)


def _logarithmic(scope: Scope, found: HyperparameterFit, where: str) -> list[Number]:
    """The paper's own form, lr = a − b ln N, through the interior optima; the batch differs between them."""
    import pandas as pd

    from analysis.fitting import fit

    kept = [c for c in found.cells if str(c.status) == CONVERGED]
    if len(kept) < 3:
        return []
    table = pd.DataFrame({"params": [c.params for c in kept], "lr": [c.lr.value for c in kept]})
    law = fit(table, "learning_rate_log", count=COUNT, cost=COST, bootstrap=scope.bootstrap, level=scope.level)
    label = "fall of the best rate as N grows e-fold, b of LR = a − b ln N"
    return of_fit(
        law,
        {"b": ("lr_log_b", label)},
        where,
        published={"b": 0.0001395},
        command=f"{CALL}, then law learning_rate_log",
    )


PART = Rates()
