"""The approaches to the compute-optimal frontier, found by importing every module of this package."""

from __future__ import annotations

from analysis.approaches.base import Approach
from analysis.registry import classes, listing, named


def list_approaches() -> list[dict[str, str]]:
    """`[{"name", "summary", "source"}]` of every approach, sorted by name."""
    return listing(classes(__name__, Approach))  # type: ignore[type-abstract]


def get_approach(name: str) -> Approach:
    """The approach of that name, or a variant of it: `parametric`, `parametric:kaplan_joint`.

    Raises:
        InputError: there is none.
    """
    base, _, variant = name.partition(":")
    found = named("approach", base, classes(__name__, Approach))()  # type: ignore[type-abstract]
    return found.of(variant) if variant else found
