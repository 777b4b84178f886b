"""The laws, found by importing every module of this package: one law, one file."""

from __future__ import annotations

from analysis.laws.base import VARIABLES, Law
from analysis.registry import classes, listing, named
from scaling.errors import InputError


def list_laws() -> list[dict[str, str]]:
    """`[{"name", "summary", "source"}]` of every law, sorted by name."""
    return listing(classes(__name__, Law))


def get_law(name: str | Law, x: str | None = None) -> Law:
    """The law of that name; laws of one free variable take it as `x`, or after a colon: "power:tokens".

    Raises:
        InputError: no such law, or no such variable.
    """
    if isinstance(name, Law):
        return name
    name, _, after = name.partition(":")
    x = after or x
    cls = named("law", name, classes(__name__, Law))
    if x is None:
        return cls()
    if "x" not in getattr(cls, "__dataclass_fields__", {}):
        raise InputError(f"law {name} has fixed variables; leave {x!r} out")
    if x not in VARIABLES:
        raise InputError(f"there is no variable {x!r}; a law takes one of {', '.join(VARIABLES)}")
    return cls(x=x)  # type: ignore[call-arg]
