"""The toy sweeps of the study of objectives, 'run' on known surfaces: a store whose answers are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from analysis.figures.base import Drawn, NotDrawable
from scaling.accounting import COUNTS
from scaling.spec import canonical_json
from scaling.store import Store
from scaling.store.schema import ROW_COLUMNS
from scaling.trial import Trial
from sweeps.definition import load_sweep
from sweeps.expand import expand
from sweeps.studies.objectives_parts.arms import DOCUMENTS
from sweeps.studies.part import Measured, Picture, Scope
from sweeps.studies.parts import SWEEPS

VOCABULARY = 258
DOCS = 40
LEVEL = 0.99
"""Of the intervals, so that one seeded world of some twenty contrasts is held to its truths."""
SURFACES = {"causal": (0.35, 0.35), "masked": (0.30, 0.45)}
"""α and β of the true surfaces: N* ∝ C^(β/(α+β)), .5 and .6."""
RATES = {"causal": (4e-3, 0.5), "masked": (4.6e-3, 0.2), "replaced_token": (2.2e-3, 0.5)}
"""The best rate at width 64 and 256 tokens, and its exponent in the batch."""
SHARED_COST = 0.04
"""What sharing adds to the log loss at equal shape."""
SEED_SD, CURVATURE = 0.002, 0.03
EFFECTS = {"masked": 0.0, "none": 0.01, "nsp": 0.02, "sop": 0.0}
"""Log loss of a pair layout over plain masking."""


def true_loss(trial: Trial, best_rate: float) -> float:
    """The loss of a trial whose best rate is `best_rate` times the recipe's of its batch."""
    objective, shape = trial.objective, trial.architecture
    causal = objective.type == "causal"
    alpha, beta = SURFACES["causal" if causal else "masked"]
    n = 12 * shape.n_layer * shape.d_model**2
    tokens = trial.steps * trial.batch_tokens
    a = 0.4 * 1e5**alpha
    b = a * alpha / beta * 1e5 ** -(alpha + beta) * (4e12 / 6.0) ** beta
    loss = 0.8 + a * n**-alpha + b * tokens**-beta
    if getattr(shape, "share", "none") == "all":
        loss *= math.exp(SHARED_COST)
    loss *= math.exp(EFFECTS.get(getattr(objective, "pair", "masked"), 0.0))
    lr, power = RATES.get(objective.type, RATES["masked"])
    tuning = lr * 64 / shape.d_model * (trial.batch_tokens / 256) ** power
    off = math.log(trial.optimizer.lr / (tuning * best_rate))
    return loss * math.exp(CURVATURE * off * off)


def blank() -> dict[str, Any]:
    """A row with every column."""
    found: dict[str, Any] = {
        c.name: "{}" if c.unit == "JSON" else "" if c.type == pa.string() else 1 for c in ROW_COLUMNS
    }
    found |= {c.name: 1.0 for c in ROW_COLUMNS if c.type == pa.float64()}
    del found["curve_sha256"], found["evals_sha256"]
    return found


def published(store: Store, trial: Trial, budget: float | None, sweep: str, best_rate: float) -> str:
    """A trial as if run; returns its run id."""
    run_id = trial.run_id("d")
    if store.has(run_id):
        return run_id
    rng = np.random.default_rng([7, int(run_id[:8], 16)])
    loss = true_loss(trial, best_rate) * math.exp(SEED_SD * rng.standard_normal())
    tokens = trial.steps * trial.batch_tokens
    params = trial.objective.params(trial.architecture, VOCABULARY)
    per_window = 3 * sum(trial.objective.forward_flops(trial.architecture, VOCABULARY, 1).values())
    seq_len = trial.architecture.seq_len
    flops = float(per_window) * tokens / seq_len
    row = {
        "run_id": run_id, "lineage": run_id, "sweep": sweep, "status": "finished", "reason": "", "seed": trial.seed,
        "architecture": trial.architecture.type, "objective": trial.objective.type, "corpus": trial.corpus.type,
        "data_digest": "d", "tokenizer": "byte", "vocab_size": VOCABULARY, "lr": trial.optimizer.lr,
        "batch_tokens": trial.batch_tokens, "schedule": "cosine", "tokens": tokens, "tokens_unique": tokens,
        "steps": trial.steps, "seq_len": seq_len, "n_layer": trial.architecture.n_layer,
        "d_model": trial.architecture.d_model, "loss": loss, "loss_se": 0.01, "flops_exact": flops,
        "tokens_predicted": tokens // seq_len * trial.objective.predicted_per_window(seq_len),
        "budget": budget, "spec": canonical_json(trial),
    }  # fmt: skip
    row |= {f"params_{c}": params.by_name(c) for c in COUNTS}
    row |= {f"flops_6nd_{c}": 6.0 * params.by_name(c) * tokens for c in COUNTS}
    hard = np.random.default_rng(1).standard_normal(DOCS)
    own = 0.002 * rng.standard_normal(DOCS)
    evals = [
        {"metric": DOCUMENTS, "x": float(k), "value": 100.0 * loss * math.exp(0.2 * hard[k] + own[k]), "se": None,
         "n": 100, "eval_version": 1}
        for k in range(DOCS)
    ]  # fmt: skip
    kind = getattr(trial.objective, "pair", "none")
    if kind != "none":
        evals.append({"metric": f"heldout_nats_{kind}", "x": None, "value": math.log(2.0) - 0.2 + 0.002 * own[0],
                      "se": 0.01, "n": 100, "eval_version": 1})  # fmt: skip
    store.publish({**blank(), **row}, [], evals)
    return run_id


class Undrawn(Scope):
    """A scope whose figures are made and not saved, which takes longest."""

    def draw(self, name: str, caption: str, make: Callable[[], Drawn]) -> Picture:
        """See `Scope.draw`."""
        try:
            make()
        except NotDrawable as error:
            return Picture(name, caption, str(error))
        return Picture(name, caption)


def world(folder: Path, sweeps: tuple[str, ...], best_rate: float = 1.0) -> Scope:
    """A scope over a store of these toy sweeps; the best rates are `best_rate` times the recipe's."""
    store = Store.create(folder / "store")
    measured = {}
    for name in sweeps:
        sweep = load_sweep(SWEEPS / f"objectives-{name}-toy.yaml")
        ids = [published(store, w.trial, w.budget, sweep.name, best_rate) for w in expand(sweep)]
        measured[name] = Measured(f"run_id in {sorted(ids)}", len(ids))
    return Undrawn("toy", folder / "store", folder / "figures", measured, bootstrap=40, level=LEVEL)
