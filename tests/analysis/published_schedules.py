"""The runs of Luo et al. 2025 (arXiv 2503.12811): their schedules, which runs they fit, and where the curves lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np

WARMUP, PEAK, LOW = 2160, 3e-4, 3e-5
TRAIN = ("cosine_24000", "constant_24000", "wsdcon_9")


def published_schedules() -> dict[str, np.ndarray]:
    """The rate of every step of the nine runs, whose curves log every 128 steps only."""
    warmup = np.linspace(0, PEAK, WARMUP)
    found = {}
    for total in (24_000, 72_000):
        x = (np.arange(WARMUP, total) - WARMUP) / (total - WARMUP)
        found[f"cosine_{total}"] = np.concatenate([warmup, LOW + 0.5 * (PEAK - LOW) * (1 + np.cos(np.pi * x))])
        found[f"constant_{total}"] = np.concatenate([warmup, np.full(total - WARMUP, PEAK)])
    stable, x = np.concatenate([warmup, np.full(20_000 - WARMUP, PEAK)]), np.arange(4000) / 4000
    found["wsd_20000_24000"] = np.concatenate([stable, PEAK ** (1 - x) * LOW**x])
    found["wsdld_20000_24000"] = np.concatenate([stable, PEAK * (1 - x) + LOW * x])
    for b in (3, 9, 18):
        found[f"wsdcon_{b}"] = np.concatenate([warmup, np.full(8000 - WARMUP, PEAK), np.full(8000, b * 1e-5)])
    return found


def curve_files(folder: Path, size: str) -> dict[str, Path]:
    """The curves of one size (25, 100, 400) by run; none where the folder of test data lacks them."""
    return {file.stem: file for file in sorted((folder / f"tables/multi_power_law/csv_{size}").glob("*.csv"))}
