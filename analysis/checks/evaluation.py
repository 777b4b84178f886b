"""Noise of the held-out text: the covariance that a finite set of documents gives the losses scored on it.

With S_di the summed nats of document d under run i and M_d its scored tokens, r_di = (S_di - M_d L_i)/sum M, and
K/(K-1) r'r is the covariance of the runs' mean losses when K documents are drawn anew (Cochran 1977, ch. 6). What all
runs share in it moves their losses together, and only a law's floor takes it up.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis.types import Array

if TYPE_CHECKING:
    from analysis.table import Runs

DOCUMENT_METRIC = "heldout_nats_by_document"


def evaluation_covariance(runs: Runs) -> tuple[Array | None, str]:
    """Covariance (n, n) of the runs' log losses from the finite held-out text, and where it is from.

    From per-document sums of a store all of it is known, the part that the runs share included; from `loss_se` alone
    the share is not, and its diagonal, as if every run had text of its own, overstates what tells runs apart.
    """
    sums = document_sums(runs)
    if sums is not None:
        nats, counts = sums
        mean = nats.sum(axis=0) / counts.sum()
        r = (nats - counts[:, None] * mean) / counts.sum() / mean
        k = counts.size
        return np.asarray(k / (k - 1) * r.T @ r), "per-document losses"
    relative = runs.loss_se / runs.loss
    if np.isfinite(relative).all():
        return np.diag(relative**2), "loss_se, as if no two runs shared held-out text: an upper bound"
    return None, "neither per-document losses nor loss_se for every row"


def document_sums(runs: Runs) -> tuple[Array, Array] | None:
    """Summed nats (K, n) of K documents under n runs, and scored tokens (K,); None unless all scored the same."""
    if "run_id" not in runs.frame.columns or not Path(runs.source).is_dir():
        return None
    from scaling.store import Store

    ids = [str(r) for r in runs.frame["run_id"]]
    evals = Store.open(Path(runs.source)).evals(ids, DOCUMENT_METRIC)
    if len(evals) == 0:
        return None
    evals = evals.drop_duplicates(["run_id", "x"], keep="last")
    nats = evals.pivot(index="x", columns="run_id", values="value").reindex(columns=list(dict.fromkeys(ids)))
    counts = evals.pivot(index="x", columns="run_id", values="n").reindex(columns=list(dict.fromkeys(ids)))
    whole = counts.notna().all(axis=1).to_numpy()
    n = counts.to_numpy(dtype=np.float64)[whole]
    if whole.sum() < 2 or whole.mean() < 0.999 or (n != n[:, :1]).any():
        return None
    at = {r: i for i, r in enumerate(nats.columns)}
    return nats.to_numpy(dtype=np.float64)[whole][:, [at[r] for r in ids]], n[:, 0]
