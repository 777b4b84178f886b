"""The laws, found by importing every module of this package: one law, one file."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache

from analysis.laws.base import VARIABLES, Law
from scaling.errors import InputError


@cache
def _members() -> dict[str, type[Law]]:
    for info in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{info.name}")
    found: dict[str, type[Law]] = {}
    todo: list[type[Law]] = list(Law.__subclasses__())
    while todo:
        cls = todo.pop()
        todo.extend(cls.__subclasses__())
        if cls.__dict__.get("name"):
            found[cls.name] = cls
    return dict(sorted(found.items()))


def list_laws() -> list[dict[str, str]]:
    """`[{"name", "summary", "source"}]` of every law, sorted by name."""
    return [{"name": n, "summary": c.summary, "source": c.source} for n, c in _members().items()]


def get_law(name: str | Law, x: str | None = None) -> Law:
    """The law of that name; laws of one free variable take it as `x`, or after a colon: "power:tokens".

    Raises:
        InputError: no such law, or no such variable.
    """
    if isinstance(name, Law):
        return name
    name, _, after = name.partition(":")
    x = after or x
    laws = _members()
    if name not in laws:
        near = difflib.get_close_matches(name, laws, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(f"there is no law {name!r}{hint}; there are {', '.join(laws)}")
    cls = laws[name]
    if x is None:
        return cls()
    if "x" not in getattr(cls, "__dataclass_fields__", {}):
        raise InputError(f"law {name} has fixed variables; leave {x!r} out")
    if x not in VARIABLES:
        raise InputError(f"there is no variable {x!r}; a law takes one of {', '.join(VARIABLES)}")
    return cls(x=x)  # type: ignore[call-arg]
