"""Residuals, normal quantiles and leverage of a fit, as arrays for plots and for judging single runs.

With J (n, P) the Jacobian of the fitted log loss, the hat matrix is H = J (J'J)^-1 J'; its diagonal h is the leverage,
e/(s sqrt(1 - h)) the studentised residual, and e² h / (P s² (1 - h)²) Cook's distance (Cook 1977, Technometrics 19:15).
Leverage does not depend on the law's coordinates. Normal quantiles by Blom's plotting positions, (i - 3/8)/(n + 1/4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from analysis.types import Array, FitResult, jsonable
from scaling.errors import InputError

_LARGE_COOK = 1.0
"""Cook's distance beyond which leaving the run out moves the estimate out of its 50 % region or so (Cook 1977)."""


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """Diagnostics of n fitted points, all (n,) but `order`.

    `residual` is observed minus fitted log loss; `studentised` is internal; `deleted` uses the noise without the point
    itself; `order` (n,) sorts the points by studentised residual, and `quantile[order]` rises with it.
    """

    variables: Mapping[str, Array]
    fitted: Array
    residual: Array
    leverage: Array
    studentised: Array
    deleted: Array
    cook: Array
    quantile: Array
    order: Any
    sigma: float
    parameters: int

    @property
    def influential(self) -> Any:
        """Indices of points that move the fit by themselves: Cook's distance above 1, or leverage above .9."""
        return np.flatnonzero((self.cook > _LARGE_COOK) | (self.leverage > 0.9))

    @property
    def outlying(self) -> Any:
        """Indices of points whose deleted residual is beyond what n normal ones would show one time in twenty."""
        limit = -float(ndtri(0.025 / max(self.residual.size, 1)))
        return np.flatnonzero(np.abs(self.deleted) > limit)

    def to_json(self) -> dict[str, Any]:
        """Every array, plain."""
        return jsonable({name: getattr(self, name) for name in self.__dataclass_fields__})


def log_jacobian(fit: FitResult) -> Array:
    """Jacobian (n, P) of the fitted log loss with respect to the law's parameters, each column of unit length.

    Raises:
        InputError: the fit has no parameter values.
    """
    if not all(np.isfinite(v) for v in fit.values.values()):
        raise InputError(f"the {fit.law} fit has no values ({fit.status}: {fit.reason}); it has no residuals")
    x = {v: np.asarray(fit.data[v], dtype=np.float64) for v in fit.model.variables}
    columns = fit.model.jacobian(fit.values, **x)
    jac = np.stack([columns[name] / fit.data["predicted"] for name in fit.params], axis=1)
    length = np.sqrt((jac**2).sum(axis=0))
    return np.asarray(jac / np.where(length > 0, length, 1.0))


def diagnose(fit: FitResult) -> Diagnostics:
    """Residual, quantile and leverage arrays of a fit.

    Raises:
        InputError: the fit has no parameter values.
    """
    jac = log_jacobian(fit)
    n = jac.shape[0]
    u, s, _ = np.linalg.svd(jac, full_matrices=False)
    rank = int((s > s[0] * 1e-10).sum())
    leverage = np.clip((u[:, :rank] ** 2).sum(axis=1), 0.0, 1.0)
    residual = np.log(fit.data["loss"]) - np.log(fit.data["predicted"])
    dof = max(n - rank, 1)
    variance = float((residual**2).sum()) / dof
    free = np.maximum(1.0 - leverage, 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        studentised = np.where(variance > 0, residual / np.sqrt(variance * free), 0.0)
        rest = (dof * variance - residual**2 / free) / max(dof - 1, 1)
        deleted = np.where(rest > 0, residual / np.sqrt(rest * free), studentised)
    cook = studentised**2 * leverage / (rank * free)
    order = np.argsort(studentised, kind="stable")
    quantile = np.empty(n)
    quantile[order] = ndtri((np.arange(1, n + 1) - 0.375) / (n + 0.25))
    variables = {v: np.asarray(fit.data[v], dtype=np.float64) for v in fit.model.variables}
    return Diagnostics(
        variables,
        np.log(fit.data["predicted"]),
        residual,
        leverage,
        studentised,
        deleted,
        cook,
        quantile,
        order,
        float(np.sqrt(variance)),
        rank,
    )
