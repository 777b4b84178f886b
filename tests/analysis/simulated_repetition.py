"""Runs on limited text that follow the data-constrained law: what a repeated token is worth in them is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
from simulated_batches import store_row

from analysis.laws import get_law

TRUTH = {"E": 0.9, "A": 12.0, "alpha": 0.35, "B": 60.0, "beta": 0.36, "R_N": 5.0, "R_D": 12.0}
SIZES = (28_224.0, 112_896.0, 278_784.0)
WHOLE = 1e8
"""Tokens of the whole text."""
TEXTS = (2.0**18, 2.0**20, 2.0**22)
TOPS = (24, 24, 23)
"""Powers of two of the longest run of each size."""
SEEDED = 4
"""Every so many cells has a second seed."""


def loss_of(params, tokens, unique, truth=TRUTH):
    return get_law("data_constrained").predict(
        truth, params=params, tokens=tokens, unique_tokens=np.minimum(tokens, unique)
    )


def repetition_sweep(*, sigma=0.0, seed=0, truth=TRUTH, hurt=0.0, sizes=SIZES, tops=TOPS) -> pd.DataFrame:
    """Rows of fresh and repeated runs; `hurt` lifts the log loss of repeated ones for each doubling past 4 epochs."""
    rng = np.random.default_rng(seed)
    cells = []
    for n, top in zip(sizes, tops, strict=True):
        cells += [(n, 2.0**k, WHOLE) for k in range(17, top + 1)]
        cells += [(n, 2.0**k, u) for u in TEXTS for k in range(round(np.log2(u)), top + 1)]
    rows = []
    for i, (n, d, u) in enumerate(cells):
        past = max(np.log2(d / u) - 2.0, 0.0)
        for s in range(2 if i % SEEDED == 0 else 1):
            loss = float(loss_of(n, d, u, truth) * np.exp(hurt * past + sigma * rng.standard_normal()))
            row = store_row(f"{n:.0f}-{d:.0f}-{u:.0f}-{s}", n, d, loss, seed=s, schedule="cosine", tokenizer="byte")
            rows.append(row | {"tokens_unique": u, "epochs": d / u, "objective": "causal"})
    return pd.DataFrame(rows)
