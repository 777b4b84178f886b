"""Scaling-law experiments: define a sweep, run it, fit its rows, predict a larger run, and score the prediction.

    import scaling

    scaling.run("sweep.yaml")                             # trains what runs/<name> lacks
    fit = scaling.fit("runs/my-sweep", law="chinchilla")  # .params, .interval("alpha"), .predict(...), .plot()
    scaling.frontier("runs/my-sweep")                     # N*(C), D*(C) by every approach
    scaling.predict("runs.csv", flops=1e20)               # any CSV with params, tokens, loss
    scaling.check("runs/my-sweep")                        # what would make those numbers wrong

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
    from analysis.curve_fits import fit_curves as fit_curves
    from analysis.figures import plot as plot
    from analysis.fitting import fit as fit
    from analysis.frontiers import frontier as frontier
    from analysis.laws import list_laws as list_laws
    from analysis.predictions import predict as predict
    from analysis.scoring import score as score
    from analysis.table import Runs as Runs
    from analysis.table import read_table as read_table
    from scaling.errors import ScalingError as ScalingError
    from scaling.store.store import Store as Store
    from scaling.trial import Trial as Trial
    from sweeps.definition import Sweep as Sweep
    from sweeps.definition import load_sweep as load_sweep
    from sweeps.expand import expand as expand
    from sweeps.run import plan_sweep as plan
    from sweeps.run import run_sweep as run
    from sweeps.studies import reproduce as reproduce

    __version__: str

# By name of module, not by import, so that one trial's code never pulls in the packages that are built upon it.
_HOME = {
    "ScalingError": ("scaling.errors", "ScalingError"),
    "Store": ("scaling.store.store", "Store"),
    "Trial": ("scaling.trial", "Trial"),
    "Runs": ("analysis.table", "Runs"),
    "Sweep": ("sweeps.definition", "Sweep"),
    "check": ("analysis.checks", "check"),
    "choose": ("analysis.choosing", "choose"),
    "compare": ("analysis.comparing", "compare"),
    "expand": ("sweeps.expand", "expand"),
    "fit": ("analysis.fitting", "fit"),
    "fit_curves": ("analysis.curve_fits", "fit_curves"),
    "foretell": ("analysis.corpus_exponent", "foretell"),
    "frontier": ("analysis.frontiers", "frontier"),
    "list_laws": ("analysis.laws", "list_laws"),
    "load_sweep": ("sweeps.definition", "load_sweep"),
    "plan": ("sweeps.run", "plan_sweep"),
    "plot": ("analysis.figures", "plot"),
    "predict": ("analysis.predictions", "predict"),
    "read_table": ("analysis.table", "read_table"),
    "reproduce": ("sweeps.studies", "reproduce"),
    "run": ("sweeps.run", "run_sweep"),
    "score": ("analysis.scoring", "score"),
}

__all__ = [
    "Runs",
    "ScalingError",
    "Store",
    "Sweep",
    "Trial",
    "check",
    "choose",
    "compare",
    "expand",
    "fit",
    "fit_curves",
    "foretell",
    "frontier",
    "list_laws",
    "load_sweep",
    "plan",
    "plot",
    "predict",
    "read_table",
    "reproduce",
    "run",
    "score",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from scaling.provenance import version

        return version()
    if name not in _HOME:
        raise AttributeError(f"module 'scaling' has no attribute {name!r}")
    module, attribute = _HOME[name]
    value = globals()[name] = getattr(importlib.import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, "__version__"})
