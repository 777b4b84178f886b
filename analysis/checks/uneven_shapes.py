"""Uneven shapes: depths that jump up and down along the sizes put their own minimum into an isoFLOP curve.

At fixed size the loss depends on depth over width only weakly in wide models (Kaplan et al. 2020, arXiv 2001.08361,
fig. 5), but not in narrow or shallow ones. The depth, less its own straight line in ln N, enters the fit of the log
loss as one more term; its t statistic is judged at Student's two-sided level.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from analysis.checks.base import Check, Finding, Subject
from analysis.checks.residuals import log_jacobian
from analysis.checks.size_residuals import cleared, fitted_surface, t_statistics

FALSE_ALARMS = 0.05
_UNEVEN = 0.15
"""Standard deviation of ln depth about its line below which depths are even."""


class UnevenShapes(Check):
    """Depths that do not grow smoothly with size, and losses that follow them."""

    name: ClassVar[str] = "uneven_shapes"
    summary: ClassVar[str] = "losses follow depths that jump up and down along the sizes"
    source: ClassVar[str] = "Kaplan et al. 2020, arXiv 2001.08361, fig. 5"

    def look(self, subject: Subject) -> Finding:
        """See `Check.look`; needs an `n_layer` column and a fitted surface."""
        from scipy.special import stdtr

        depth = subject.number("n_layer", "layers")
        if depth is None or not (depth > 0).all():
            return self.cannot_tell("the table has no n_layer column")
        log_n, log_depth = np.log(subject.params), np.log(depth)
        if np.ptp(log_depth) == 0:
            return self.clear(f"every run has {depth[0]:.0f} layers")
        line = np.stack([np.ones_like(log_n), log_n], axis=1)
        away = log_depth - line @ np.linalg.lstsq(line, log_depth, rcond=None)[0]
        uneven = float(away.std())
        if uneven < _UNEVEN:
            return self.clear(f"depths follow the sizes (ln depth within {uneven:.2f} of its line)", uneven=uneven)
        fit = fitted_surface(subject)
        if fit is None:
            return self.cannot_tell("depths are uneven, and no law could be fitted", uneven=uneven)
        jac = log_jacobian(fit)
        parts, kept = cleared([away], jac)
        dof = jac.shape[0] - jac.shape[1]
        if not kept or dof < 3:
            return self.cannot_tell(
                "depths are uneven, and too few runs are left to say whether it matters", uneven=uneven
            )
        q, _ = np.linalg.qr(jac)
        residual = np.log(fit.data["loss"]) - np.log(fit.data["predicted"])
        t = float(t_statistics(residual - q @ (q.T @ residual), parts, dof)[0])
        p_value = float(2 * stdtr(dof - 1, -abs(t)))
        slope = float(residual @ parts[0] / (parts[0] @ away))
        measured = {"uneven": uneven, "p_value": p_value, "log_loss_per_log_depth": slope}
        if p_value < FALSE_ALARMS:
            rows = subject.label(np.abs(away) > uneven)
            return self.suspected(
                f"losses follow the depths: twice the depth moves the loss by {2**slope - 1:+.1%} (p = {p_value:.3f})",
                rows,
                **measured,
            )
        return self.clear(f"depths are uneven, and the losses do not follow them (p = {p_value:.2f})", **measured)
