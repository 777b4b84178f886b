"""Wild bootstrap by run of a law fitted to several points a run: a run's residuals change sign together.

Each run's residuals r_g are first freed of what the fit took from them, (I − H_gg)⁻¹ r_g with H_gg the run's block of
the projection on the fit's tangent space (CR3; Bell and McCaffrey 2002, Survey Methodology 28:169). A run's points have
little leverage one by one and much together, so dividing each by its own 1 − h, as for independent rows, leaves
intervals too narrow.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from analysis.bootstrap import resample
from analysis.estimation import Estimated
from analysis.solve import DRAW_TOLERANCE, minimise
from analysis.types import Array

_LEAST = 0.05
"""Least eigenvalue of I − H_gg that is inverted: a run that alone holds a parameter is not blown up without end."""


def cluster_draws(fit: Estimated, loss: Array, clusters: NDArray[np.intp], *, draws: int, seed: int) -> Estimated:
    """A least-squares fit of log losses with draws by cluster.

    Args:
        fit: by the objective ls_log, unweighted.
        loss: (n,) what it was fitted to.
        clusters: (n,) run of each point.
        draws, seed: how many, and their seed.
    """
    if not fit.usable or fit.bound is None or draws == 0:
        return fit
    jac = fit.bound.evaluate(fit.theta[None])[1][0]
    size = np.sqrt(np.maximum((jac**2).sum(axis=1, keepdims=True), 1e-300))
    q = np.linalg.qr((jac / size).T)[0]  # (n, P)
    residual = np.log(loss) - fit.log_fit
    freed = np.empty_like(residual)
    for g in np.unique(clusters):
        at = np.flatnonzero(clusters == g)
        # (I − QQᵀ)⁻¹ = I + U (1/(1 − s²) − 1) Uᵀ on the few directions that the run has leverage in.
        u, s, _ = np.linalg.svd(q[at], full_matrices=False)
        gain = 1.0 / np.maximum(1.0 - s**2, _LEAST) - 1.0
        freed[at] = residual[at] + u @ (gain * (u.T @ residual[at]))
    signs = resample(clusters, draws=draws, seed=seed, scheme="wild").shocks
    assert signs is not None
    shaken = fit.log_fit + signs * freed
    warm = np.repeat(fit.theta[None], draws, axis=0)
    solved = minimise(fit.bound, shaken, np.ones((1, loss.size)), warm, "ls_log", tolerance=DRAW_TOLERANCE)
    lost = ~np.isfinite(solved.theta).all(axis=1)
    named = {k: np.where(lost, np.nan, v) for k, v in fit.bound.named(solved.theta).items()}
    return replace(fit, draws=named)
