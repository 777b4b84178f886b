"""What trunks save: equal noise costs by FLOPs alone, shared noise eats the saving, few trunks say so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sweeps_by_law import LAW, SURFACES, exponent

from analysis import fit
from analysis.trunks import LEAST_LINEAGES, saving
from analysis.types import Status

SURFACE = SURFACES["asymmetric"]
SIGMA = 0.004


def fitted(widths: int, common: float, seed: int):
    """Hoffmann's law through sizes × six horizons; `common` is the share of variance that a size's runs share."""
    rng = np.random.default_rng(seed)
    rows = []
    for k, n in enumerate(np.geomspace(1e7, 1e9, widths)):
        shared = rng.normal()
        for d in np.geomspace(1e9, 2e10, 6):
            noise = SIGMA * (np.sqrt(common) * shared + np.sqrt(1 - common) * rng.normal())
            loss = float(LAW.predict(SURFACE, params=n, tokens=d)) * np.exp(noise)
            rows.append({"params": n, "tokens": d, "loss": loss, "lineage": f"size {k}" if common else f"{k} {d}"})
    return fit(pd.DataFrame(rows), objective="ls_log", bootstrap=200, verify=False, seed=seed)


def compared(trunk, separate, lineages, cost=0.47):
    return saving(
        trunk, separate, trunk_flops=cost * 1e20, separate_flops=1e20, lineages=lineages, at=(1e9, 4e10)
    )  # fmt: skip


def test_equal_fits_save_what_they_cost_less():
    one = fitted(8, 0.0, 1)
    found = compared(one, one, LEAST_LINEAGES)
    assert found.cost == pytest.approx(0.47)
    assert [q.name for q in found.quantities] == ["alpha", "beta", "a", "log_loss"]
    for q in found.quantities:
        assert q.share.value == pytest.approx(0.47)
        assert q.share.ci[0] < 0.47 < q.share.ci[1]
        assert (q.trunk.value, q.trunk.ci) == (q.separate.value, q.separate.ci)
        assert (q.status, q.reason == "") == (Status.CONVERGED, True)
    a = next(q for q in found.quantities if q.name == "a")
    assert a.trunk.ci[0] < exponent(SURFACE) < a.trunk.ci[1]


def test_noise_that_branches_share_widens_their_interval():
    """The share is the cost times the square of the ratio of widths, whatever they are."""
    trunk, separate = fitted(8, 0.8, 3), fitted(8, 0.0, 2)
    found = compared(trunk, separate, 8)
    for q in found.quantities:
        widths = [e.ci[1] - e.ci[0] for e in (q.trunk, q.separate)]
        assert q.share.value == pytest.approx(0.47 * (widths[0] / widths[1]) ** 2)
        if q.share.ci[0] <= 1 <= q.share.ci[1]:
            assert (q.status, q.reason) == (Status.NOT_RESOLVED, "1 is inside the interval")


def test_few_trunks_are_not_resolved():
    one = fitted(4, 0.0, 1)
    found = compared(one, one, 4)
    assert {q.status for q in found.quantities} == {Status.NOT_RESOLVED}
    assert all("4 trunks" in q.reason for q in found.quantities)


def test_a_fit_that_could_not_be_made_gives_its_status():
    few = fit(pd.DataFrame({"params": [1e7, 1e8], "tokens": [1e9, 1e9], "loss": [3.0, 2.5]}), bootstrap=50)
    found = compared(few, fitted(8, 0.0, 1), 8)
    assert {q.status for q in found.quantities} == {Status.TOO_FEW_POINTS}
    assert not any(q.share.known for q in found.quantities)
