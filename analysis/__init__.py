"""What the rows mean: laws, fits with intervals, compute-optimal frontiers, predictions and their scores.

Names are resolved on first use, so that importing the package costs nothing and never imports torch or ray.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.checks import check as check
    from analysis.choosing import choose as choose
    from analysis.comparing import compare as compare
    from analysis.corpus_exponent import foretell as foretell
    from analysis.curve_fits import CurveFit as CurveFit
    from analysis.curve_fits import fit_curves as fit_curves
    from analysis.deployment import best_at_budget as best_at_budget
    from analysis.deployment import cheapest_to_loss as cheapest_to_loss
    from analysis.deployment import departure as departure
    from analysis.deployment import deploy as deploy
    from analysis.fitting import fit as fit
    from analysis.frontiers import frontier as frontier
    from analysis.hyperparameters import HyperparameterFit as HyperparameterFit
    from analysis.hyperparameters import fit_hyperparameters as fit_hyperparameters
    from analysis.laws import get_law as get_law
    from analysis.laws import list_laws as list_laws
    from analysis.predictions import predict as predict
    from analysis.scoring import score as score
    from analysis.table import Runs as Runs
    from analysis.table import read_table as read_table
    from analysis.types import Estimate as Estimate
    from analysis.types import FitResult as FitResult
    from analysis.types import Frontier as Frontier
    from analysis.types import FrontierSet as FrontierSet
    from analysis.types import Prediction as Prediction
    from analysis.types import Status as Status

# No module may bear the name of a public function: importing it would replace the function in this namespace.
_HOME = {
    "check": "analysis.checks",
    "choose": "analysis.choosing",
    "compare": "analysis.comparing",
    "best_at_budget": "analysis.deployment",
    "cheapest_to_loss": "analysis.deployment",
    "departure": "analysis.deployment",
    "deploy": "analysis.deployment",
    "fit": "analysis.fitting",
    "foretell": "analysis.corpus_exponent",
    "fit_curves": "analysis.curve_fits",
    "CurveFit": "analysis.curve_fits",
    "fit_hyperparameters": "analysis.hyperparameters",
    "HyperparameterFit": "analysis.hyperparameters",
    "frontier": "analysis.frontiers",
    "predict": "analysis.predictions",
    "score": "analysis.scoring",
    "read_table": "analysis.table",
    "Runs": "analysis.table",
    "list_laws": "analysis.laws",
    "get_law": "analysis.laws",
    "Estimate": "analysis.types",
    "FitResult": "analysis.types",
    "Frontier": "analysis.types",
    "FrontierSet": "analysis.types",
    "Prediction": "analysis.types",
    "Status": "analysis.types",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
