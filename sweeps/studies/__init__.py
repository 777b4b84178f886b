"""Published studies, end to end: one file a study, found by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.errors import InputError
from sweeps.studies.base import Options, Study

if TYPE_CHECKING:
    from sweeps.studies.planning import StudyPlan

__all__ = ["Options", "Study", "get_study", "list_studies", "plan", "reproduce"]


def _studies() -> dict[str, Study]:
    found: dict[str, Study] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        study = getattr(module, "STUDY", None)
        if isinstance(study, Study):
            found[study.name] = study
    return dict(sorted(found.items()))


def list_studies() -> list[dict[str, str]]:
    """`[{"name", "summary", "source"}]`."""
    return [{"name": s.name, "summary": s.summary, "source": s.source} for s in _studies().values()]


def get_study(name: str) -> Study:
    """The study of that name.

    Raises:
        InputError: there is none.
    """
    studies = _studies()
    if name not in studies:
        raise InputError(f"no study {name!r}; there are: {', '.join(studies)}")
    return studies[name]


def reproduce(
    name: str,
    scale: str = "toy",
    out: Path | None = None,
    *,
    workers: int | None = None,
    serial: bool = False,
    quiet: bool = False,
    seconds: float | None = None,
    parts: Sequence[str] = (),
    train: bool = True,
) -> dict[str, Any]:
    """Runs a study into `out` (default results/<name>-<scale>), going on where an earlier call stopped.

    Of a study that has parts, only the runs of the `parts` named are made; none named are all. Where `train` is False
    no run is made, and the page says which parts lack some.

    Raises:
        InputError: no such study, scale or part; a study without parts, or parts named, where nothing is trained.
        Interrupted: on a signal; call again to go on.
    """
    study = _study_of(name, scale, parts)
    if not train and not study.parts:
        raise InputError(f"study {name} has no parts, so its page needs all its runs; leave page out")
    if not train and (parts or seconds is not None):
        raise InputError("a page alone trains nothing; leave part and time out")
    folder = out or Path("results") / f"{name}-{scale}"
    options = Options(scale, folder, workers, serial, quiet, seconds, tuple(parts), train)
    return study.reproduce(options)


def plan(
    name: str,
    scale: str = "toy",
    out: Path | None = None,
    *,
    workers: int | None = None,
    parts: Sequence[str] = (),
    calibrate: str = "never",
    say: Callable[[str], None] = lambda text: None,
) -> StudyPlan:
    """What `reproduce` would train of a study, its FLOPs and time; trains nothing and writes nothing to `out`.

    `calibrate` and `say` are those of `sweeps.run.plan_sweep`.

    Raises:
        InputError: no such study, scale or part; parts of a study without parts.
    """
    from sweeps.studies.planning import plan_study

    study = _study_of(name, scale, parts)
    options = Options(scale, out or Path("results") / f"{name}-{scale}", workers, parts=tuple(parts))
    return plan_study(study, options, calibrate=calibrate, say=say)


def _study_of(name: str, scale: str, parts: Sequence[str]) -> Study:
    study = get_study(name)
    if scale not in study.scales:
        raise InputError(f"study {name} has no scale {scale!r}; it has {', '.join(study.scales)}")
    if parts and not study.parts:
        raise InputError(f"study {name} has no parts; leave part out")
    return study
