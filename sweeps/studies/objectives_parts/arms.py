"""The arms of the comparisons: runs that differ by their seed alone, at the best of the rates and batches tried.

An arm is an objective, a shape and a horizon. Which setting is best is read from the runs' own held-out loss, which
within an arm is one axis: the one with the most seeds, unless another is lower by more than the noise between seeds
(the lowest of several single runs would be the luckiest). Seeds that were run at another rate than the best are left
with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.contrasts import Contrast, Scored, ratio
from analysis.replicates import Pooled, pooled
from analysis.types import Estimate, Status
from sweeps.studies.part import LEVEL, Number, Scope, plain

if TYPE_CHECKING:
    import pandas as pd

DOCUMENTS = "heldout_nats_by_document"
ENOUGH_RATES = 3


@dataclass(frozen=True, eq=False)
class Arm:
    """Finished runs of one objective, shape and horizon at the best setting, one a seed; `all_rows` has every setting.

    `rates` are those tried at the best batch. `edge` says that the best is the lowest or the highest of three or more.
    """

    objective: Mapping[str, Any]
    shape: Mapping[str, Any]
    params: int
    budget: float
    tokens: int
    lr: float
    batch: int
    rates: tuple[float, ...]
    rows: pd.DataFrame
    all_rows: pd.DataFrame

    @property
    def ids(self) -> tuple[str, ...]:
        """The run ids."""
        return tuple(self.rows.run_id)

    @property
    def edge(self) -> str:
        """Why the best rate is not shown to be the best; empty where it is, or where rates were not tried."""
        if len(self.rates) < ENOUGH_RATES or self.lr not in (self.rates[0], self.rates[-1]):
            return ""
        end = "lowest" if self.lr == self.rates[0] else "highest"
        return f"{name_of(self.objective)}, N = {self.params:,}: the best rate, {self.lr:g}, is the {end} tried"


def name_of(objective: Mapping[str, Any]) -> str:
    """An objective in a word or two."""
    kind, pair = str(objective["type"]), objective.get("pair", "nsp")
    if kind == "masked":
        return f"masked {100 * rate_of(objective):.0f} %"
    if kind == "masked_pairs":
        return "pairs, masked alone" if pair == "none" else f"pairs with {pair}"
    return kind.replace("_", " ")


def rate_of(objective: Mapping[str, Any]) -> float:
    """The share of positions that is masked."""
    return float(objective.get("mask_rate", 0.15))


def arms_of(rows: pd.DataFrame, *, lowest: bool = False, apart: bool = False) -> list[Arm]:
    """The arms among some rows, by size and then by horizon; diverged runs count as rates tried.

    `lowest`: the best setting is the one of the lowest mean, noise or not. `apart`: every rate is an arm of its own,
    for what has no loss that tells which is the best.
    """
    groups: dict[tuple[str, str, float, float], list[int]] = {}
    for i, (spec, budget, tokens, lr) in enumerate(zip(rows.spec, rows.budget, rows.tokens, rows.lr, strict=True)):
        trial = json.loads(spec)
        # The horizon is the nominal budget; a run that has none is known by its tokens.
        key = float(budget) if budget is not None and np.isfinite(budget) else float(tokens)
        names = (json.dumps(trial[part], sort_keys=True) for part in ("objective", "architecture"))
        groups.setdefault((*names, key, float(lr) if apart else 0.0), []).append(i)  # type: ignore[arg-type]
    noise = Pooled(0.0, 1) if lowest else _noise([rows.iloc[at] for at in groups.values()])
    found = [_arm(json.loads(o), json.loads(a), rows.iloc[at], noise) for (o, a, *_), at in groups.items()]
    return sorted((a for a in found if a is not None), key=lambda a: (name_of(a.objective), a.params, a.tokens))


def _noise(groups: Sequence[pd.DataFrame]) -> Pooled:
    """Of ln loss between the seeds of a setting, pooled over all of them."""
    done = [g[g.status == "finished"] for g in groups]
    names = [(k, *s) for k, g in enumerate(done) for s in zip(g.lr, g.batch_tokens, strict=True)]
    return pooled(names, np.log(np.concatenate([g.loss.to_numpy(dtype=np.float64) for g in done])))


def _arm(objective: dict[str, Any], shape: dict[str, Any], rows: pd.DataFrame, noise: Pooled) -> Arm | None:
    done = rows[rows.status == "finished"]
    if len(done) == 0:
        return None
    tried = done.assign(log_loss=np.log(done.loss)).groupby(["lr", "batch_tokens"]).log_loss.agg(["mean", "size"])
    means, seeds = tried["mean"].to_numpy(), tried["size"].to_numpy()
    least = int(np.argmin(means))
    usual = int(np.argmin(np.where(seeds == seeds.max(), means, np.inf)))
    half = noise.half_width(1.0 / seeds[usual] + 1.0 / seeds[least], LEVEL)
    lr, batch = list(tried.index)[usual if means[usual] - means[least] <= half else least]
    best = done[(done.lr == lr) & (done.batch_tokens == batch)].sort_values("seed").reset_index(drop=True)
    rates = tuple(sorted(set(rows[rows.batch_tokens == batch].lr)))
    first = best.iloc[0]
    budget = float(first.budget) if first.budget is not None and np.isfinite(first.budget) else float("nan")
    return Arm(
        objective, shape, int(first.params_non_embedding), budget, int(first.tokens), float(lr), int(batch), rates,
        best, done,
    )  # fmt: skip


def at_budget(rows: pd.DataFrame, budget: float) -> pd.DataFrame:
    """The rows of one nominal budget."""
    found: pd.DataFrame = rows[np.isclose(rows.budget.astype(float), budget)].reset_index(drop=True)
    return found


def pick(arms: Iterable[Arm], wanted: Callable[[Arm], bool]) -> list[Arm]:
    """Those arms, by size."""
    return sorted((a for a in arms if wanted(a)), key=lambda a: a.params)


def document_scores(scope: Scope, ids: Sequence[str], metric: str = DOCUMENTS, settings: str = "") -> dict[str, Scored]:
    """Log mean loss of each run over the documents that all of them scored, with its draws over documents."""
    return sums_by(scope.store, ids, metric, settings, log=True)


def sums_by(store: Any, ids: Sequence[str], metric: str, settings: str = "", *, log: bool = False) -> dict[str, Scored]:
    """Means over items x of a metric stored by item (value its sum, n its count), over the items common to the runs."""
    from scaling.store import Store

    evals = Store.open(store).evals(list(ids), metric)
    evals = evals[evals.settings == settings]
    tables = {str(run): part.sort_values("x").drop_duplicates("x") for run, part in evals.groupby("run_id")}
    if not tables:
        return {}
    shared = sorted(set.intersection(*(set(t.x) for t in tables.values())))
    found = {}
    for run, table in tables.items():
        kept = table[table.x.isin(shared)]
        score = ratio(kept.value.to_numpy(), kept.n.to_numpy())
        found[run] = score.log() if log else score
    return found


def of(scores: Mapping[str, Scored], ids: Iterable[str]) -> list[Scored]:
    """The scores of some runs, those that have one."""
    return [scores[i] for i in ids if i in scores]


def ids_where(ids: Iterable[str]) -> str:
    """The filter of some runs."""
    return f"run_id in {sorted(set(ids))}"


def number(
    name: str,
    label: str,
    found: Contrast,
    arms: Sequence[Arm],
    call: str,
    *,
    unit: str = "",
    status: str = "",
    reason: str = "",
    published: float | None = None,
) -> Number:
    """A contrast as a number of the page: `non_interior` where the best rate of one of its arms is at an edge."""
    edges = [a.edge for a in arms if a.edge]
    if not status:
        status, reason = str(found.status), found.reason
        if edges and found.value.known:
            status, reason = str(Status.NON_INTERIOR), "; ".join(edges)
    return Number(
        name, label, found.value, status, ids_where(i for a in arms for i in a.ids), found.runs, call, reason, unit,
        published,
    )  # fmt: skip


def interior_rates(name: str, arms: Sequence[Arm], level: float, label: str = "") -> Number:
    """How many of the arms with three rates or more have their best inside."""
    tried = [a for a in arms if len(a.rates) >= ENOUGH_RATES]
    edges = [a.edge for a in tried if a.edge]
    status = Status.CONVERGED if tried and not edges else Status.NON_INTERIOR
    reason = "; ".join(edges) if edges else "" if tried else "nothing was trained at three rates or more"
    text = f"sizes{label and ' '}{label} whose best rate is neither the lowest nor the highest tried"
    text += f", of {len(tried)} tuned" if tried else ""
    call = "the best setting of each objective, shape and horizon, by ln loss over seeds"
    value: Estimate = plain(len(tried) - len(edges), level)
    return Number(name, text, value, str(status), ids_where(i for a in tried for i in a.all_rows.run_id), len(tried),
                  call, reason)  # fmt: skip
