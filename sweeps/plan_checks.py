"""What a plan warns of: minima that may not be bracketed, large batches, repeated text, rates off the recipe, edges."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scaling.trial import SEMANTICS_VERSION, Trial
from sweeps.definition import Sweep
from sweeps.designs.isoflop import IsoFlop
from sweeps.expand import Wanted

if TYPE_CHECKING:
    from sweeps.plan import PlanRow

LARGE_BATCH = 2.0
"""Times the recipe's batch: the largest that was measured to cost no more than .015 nats (results/LOG.md)."""

OFF_RECIPE = 2.0
"""A best rate further than this factor from the recipe's lies outside what the recipe was measured on."""

LEAST_RATES = 3
"""Rates that a best can be interior to."""

FREE_EPOCHS = 4.0
"""Up to four passes a repeated token is worth nearly a new one: Muennighoff et al. 2023 (arXiv 2305.16264)."""


def warnings_of(sweep: Sweep, wanted: Sequence[Wanted], rows: Sequence[PlanRow]) -> list[str]:
    """Everything about a sweep that will make its results weaker than its author expects."""
    found = []
    sizes = {row.params["non_embedding"] for row in rows}
    if len(sizes) < 3:
        found.append(f"{len(sizes)} distinct sizes: a law in N needs at least 3, better 5")
    if isinstance(sweep.design, IsoFlop):
        found += _isoflop(sweep.design, rows)
    found += _repeated(sweep, rows)
    found += _batches(sweep, wanted)
    found += _rates(sweep, wanted)
    failed = sum(row.status == "failed" for row in rows)
    if failed:
        found.append(f"{failed} trials failed before and will be tried again")
    return found


def notices_of(wanted: Sequence[Wanted], digest: str | None, done: Mapping[str, str]) -> list[str]:
    """Announces trials that run again because semantics were raised since, and times that are not theirs."""
    own = sorted({w.trial.trainer.target for w in wanted if w.trial.trainer is not None})
    found = [f"times, FLOPs and memory are those of the built-in trainer, not of {name}" for name in own]
    if digest is None:
        return found
    for version in range(1, SEMANTICS_VERSION):
        ran = sum(w.trial.run_id(digest, version) in done for w in wanted)
        if ran:
            found.append(
                f"{ran} of these trials were run under semantics {version}; this version's is {SEMANTICS_VERSION},"
                " whose losses differ by design, so they run again beside the old rows"
            )
    return found


def _isoflop(design: IsoFlop, rows: Sequence[PlanRow]) -> list[str]:
    found = []
    by_budget: dict[float, set[int]] = defaultdict(set)
    for row in rows:
        by_budget[row.budget or 0.0].add(row.params[design.sizes.count])
    for budget, sizes in sorted(by_budget.items()):
        if len(sizes) < 3:
            found.append(f"budget {budget:g}: {len(sizes)} distinct sizes, and a parabola needs at least 3")
        if len(sizes) < len(design.sizes):
            found.append(
                f"budget {budget:g}: {len(design.sizes)} sizes asked for gave only {len(sizes)} distinct shapes"
            )
        if design.sizes.centre is not None:
            centre = design.sizes.centre.at(budget)
            below, above = sum(n < centre for n in sizes), sum(n > centre for n in sizes)
            if min(below, above) < 2:
                found.append(
                    f"budget {budget:g}: {below} sizes below and {above} above the centre {centre:.3g};"
                    " with fewer than 2 on a side the minimum may not be bracketed"
                )
    if len(by_budget) < 3:
        found.append(f"{len(by_budget)} budgets: an exponent with an interval needs at least 3")
    return found


def _repeated(sweep: Sweep, rows: Sequence[PlanRow]) -> list[str]:
    over = [row for row in rows if row.epochs is not None and row.epochs > 1.0]
    if not over:
        return []
    most = max(row.epochs or 0.0 for row in over)
    allowed = sweep.repeat or sweep.design.repeats
    what = "which repeat: true allows" if allowed else "which is refused unless repeat: true"
    text = f"{len(over)} trials see their training text more than once (up to {most:.1f} epochs), {what}"
    if most > FREE_EPOCHS:
        text += f"; beyond {FREE_EPOCHS:g} epochs a repeated token is worth clearly less than a new one"
    return [text]


def _batches(sweep: Sweep, wanted: Sequence[Wanted]) -> list[str]:
    over: list[tuple[float, int, int]] = []
    for item in wanted:
        trial = item.trial
        try:
            usual = sweep.recipe.batch_tokens(trial.tokens, trial.architecture)
        except ValueError:
            continue
        if trial.batch_tokens > LARGE_BATCH * usual:
            over.append((trial.batch_tokens / usual, trial.batch_tokens, usual))
    if not over or sweep.design.varies_batch:
        return []
    worst = max(over)
    return [
        f"{len(over)} trials have batches above the critical size (worst: {worst[1]:,} tokens where the recipe has"
        f" {worst[2]:,}): by this project's own measurements (results/LOG.md) up to {LARGE_BATCH:g} times the recipe's"
        " batch costs little; published rules are for learned tokens and larger models and are not used"
    ]


def _rates(sweep: Sweep, wanted: Sequence[Wanted]) -> list[str]:
    """Rates off the recipe, judged by the nearest of those that share everything else, so that a grid may pass it."""
    nearest: dict[Any, tuple[float, float, float]] = {}
    for item in wanted:
        trial = item.trial
        try:
            usual = sweep.recipe.learning_rate(trial.architecture, trial.batch_tokens)
        except (ValueError, AttributeError):
            continue
        off = abs(math.log(trial.optimizer.lr / usual))
        key = trial.model_copy(update={"optimizer": trial.optimizer.model_copy(update={"lr": 1.0}), "seed": 0})
        if key not in nearest or off < nearest[key][0]:
            nearest[key] = (off, trial.optimizer.lr, usual)
    over = [n for n in nearest.values() if n[0] > math.log(OFF_RECIPE)]
    if not over:
        return []
    _, lr, usual = max(over)
    return [
        f"{len(over)} settings have a learning rate more than {OFF_RECIPE:g} times off recipe {sweep.recipe.type}"
        f" (worst: {lr:.2g} where the recipe has {usual:.2g}); tune it with learning_rate_factors, or expect"
        " mistuned losses"
    ]


def edges_of(wanted: Sequence[Wanted], digest: str, losses: Mapping[str, float]) -> list[str]:
    """Whether the best learning rate lies inside the rates tried: one line for each setting where it does not.

    Settings are trials that differ by rate and seed alone, at three rates or more, all of them finished; `losses` are
    held-out losses by run id, and seeds are averaged.
    """
    tried: dict[Trial, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    waiting = set()
    for item in wanted:
        key = _apart_from_rate(item.trial)
        loss = losses.get(item.trial.run_id(digest))
        if loss is None:
            waiting.add(key)
        else:
            tried[key][item.trial.optimizer.lr].append(loss)
    found = []
    for key, by_rate in tried.items():
        if len(by_rate) < LEAST_RATES or key in waiting:
            continue
        rates = sorted(by_rate)
        best = min(rates, key=lambda lr: sum(by_rate[lr]) / len(by_rate[lr]))
        if best not in (rates[0], rates[-1]):
            continue
        side, mend = ("lowest", "smaller") if best == rates[0] else ("highest", "larger")
        a = key.architecture
        shape = "x".join(str(getattr(a, n)) for n in ("n_layer", "d_model") if hasattr(a, n))
        found.append(
            f"{a.type} {shape}, {key.tokens:,} tokens in batches of {key.batch_tokens:,}: the best learning rate is the"
            f" {side} of {len(rates)} tried ({best:.2g}), so not shown to be the best; add {mend} ones"
        )
    return found


def _apart_from_rate(trial: Trial) -> Trial:
    """A trial's setting without its rate and seed."""
    return trial.model_copy(update={"optimizer": trial.optimizer.model_copy(update={"lr": 1.0}), "seed": 0})
