"""The approaches to the compute-optimal frontier, found by importing every module of this package."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache

from analysis.approaches.base import Approach
from scaling.errors import InputError


@cache
def _members() -> dict[str, Approach]:
    for info in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{info.name}")
    found: dict[str, Approach] = {}
    todo: list[type[Approach]] = list(Approach.__subclasses__())
    while todo:
        cls = todo.pop()
        todo.extend(cls.__subclasses__())
        if cls.__dict__.get("name"):
            found[cls.name] = cls()
    return dict(sorted(found.items()))


def list_approaches() -> list[dict[str, str]]:
    """`[{"name", "summary", "source"}]` of every approach, sorted by name."""
    return [{"name": n, "summary": a.summary, "source": a.source} for n, a in _members().items()]


def get_approach(name: str) -> Approach:
    """The approach of that name.

    Raises:
        InputError: there is none.
    """
    members = _members()
    if name not in members:
        near = difflib.get_close_matches(name, members, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(f"there is no approach {name!r}{hint}; there are {', '.join(members)}")
    return members[name]
