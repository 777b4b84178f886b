"""The laws, found by importing every module of this package: one law, one file."""

from __future__ import annotations

from typing import Any

from analysis.laws.base import VARIABLES, Law
from analysis.registry import classes, listing, named
from scaling.errors import InputError


def list_laws() -> list[dict[str, str]]:
    """`[{"name", "summary", "source"}]` of every law, sorted by name."""
    return listing(classes(__name__, Law))


def get_law(name: str | Law, x: str | None = None) -> Law:
    """The law of that name; laws of one free variable take it as `x`, or after a colon: "power:tokens".

    A second colon gives the number of breaks of the broken power law: "broken_power:tokens:2".

    Raises:
        InputError: no such law, or no such variable or number of breaks.
    """
    if isinstance(name, Law):
        return name
    name, *after = name.split(":")
    cls = named("law", name, classes(__name__, Law))
    known = getattr(cls, "__dataclass_fields__", {})
    settings: dict[str, Any] = {}
    x = after[0] if after and after[0] else x
    if x is not None:
        if "x" not in known:
            raise InputError(f"law {name} has fixed variables; leave {x!r} out")
        free = getattr(cls, "choices", [v for v in VARIABLES if v != cls.response])
        if x not in free:
            raise InputError(f"there is no variable {x!r}; law {name} takes one of {', '.join(free)}")
        settings["x"] = x
    if len(after) > 1:
        if "breaks" not in known or len(after) > 2 or not after[1].isascii() or not after[1].isdigit():
            raise InputError(f"law {name} does not take {':'.join(after[1:])!r}; broken_power:tokens:2 has two breaks")
        settings["breaks"] = int(after[1])
    return cls(**settings)
