"""Members found by importing every module of a package: one member, one file, named by its class attribute `name`."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from typing import Any, TypeVar

from scaling.errors import InputError

T = TypeVar("T")


@cache
def classes(package: str, base: type[T]) -> dict[str, type[T]]:
    """The concrete members of `base` that the package's modules define, by name, sorted."""
    root = importlib.import_module(package)
    for info in pkgutil.iter_modules(root.__path__):
        importlib.import_module(f"{package}.{info.name}")
    found: dict[str, type[T]] = {}
    todo: list[type[Any]] = list(base.__subclasses__())
    while todo:
        cls = todo.pop()
        todo.extend(cls.__subclasses__())
        if cls.__dict__.get("name"):
            found[cls.name] = cls
    return dict(sorted(found.items()))


def listing(members: dict[str, Any]) -> list[dict[str, str]]:
    """`[{"name", "summary", "source"}]`."""
    return [{"name": n, "summary": m.summary, "source": m.source} for n, m in members.items()]


def named(what: str, name: str, members: dict[str, T]) -> T:
    """The member of that name.

    Raises:
        InputError: there is none; names the nearest.
    """
    if name not in members:
        near = difflib.get_close_matches(name, members, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(f"there is no {what} {name!r}{hint}; there are {', '.join(members)}")
    return members[name]
