"""What a trial costs, from its own description: exact FLOPs by term, and every other convention."""

from __future__ import annotations

from scaling.accounting import COUNTS, FlopTerm, flops_6nd, training_flops
from scaling.architectures.base import Architecture
from scaling.objectives.base import Objective
from scaling.trial import Trial


def step_flops(architecture: Architecture, objective: Objective, vocab_size: int, tokens: int) -> dict[FlopTerm, int]:
    """Exact training FLOPs by term for `tokens` tokens (whole windows)."""
    windows = tokens // architecture.seq_len
    return training_flops(objective.forward_flops(architecture, vocab_size, windows))


def trial_flops(trial: Trial, vocab_size: int) -> dict[FlopTerm, int]:
    """Exact training FLOPs by term of a whole trial."""
    return step_flops(trial.architecture, trial.objective, vocab_size, trial.tokens)


def size_and_cost_columns(trial: Trial, vocab_size: int) -> dict[str, int | float]:
    """The row's `params_*` and `flops_*` columns (all but `flops_marginal`)."""
    params = trial.objective.params(trial.architecture, vocab_size)
    terms = trial_flops(trial, vocab_size)
    columns: dict[str, int | float] = {f"params_{group}": n for group, n in params.groups.items()}
    columns |= {f"params_{count}": params.by_name(count) for count in COUNTS}
    columns["flops_exact"] = float(sum(terms.values()))
    columns |= {f"flops_exact_{term}": float(n) for term, n in terms.items()}
    columns |= {f"flops_6nd_{count}": float(flops_6nd(params.by_name(count), trial.tokens)) for count in COUNTS}
    return columns
