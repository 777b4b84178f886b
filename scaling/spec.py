"""Frozen, validated values and the families they belong to.

A family (architectures, objectives, corpora, …) is a package with one file per member. A member is a frozen pydantic
class with a `type` tag; that class is both the registry entry and the builder, so adding a member is adding a file.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict


def _integral(value: Any) -> Any:
    """Accepts 1e6 where a whole number is meant; a bool or 1.5 is left to fail."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


Count = Annotated[int, BeforeValidator(_integral), Strict(), Field(gt=0)]
"""A whole number of at least one; `1e6` is accepted."""

NonNegativeCount = Annotated[int, BeforeValidator(_integral), Strict(), Field(ge=0)]
"""A whole number of at least zero; `1e6` is accepted."""


class Frozen(BaseModel):
    """A frozen, strict value that refuses unknown fields, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Member(Frozen):
    """A member of a family; subclasses set `type`, `summary` and `source` (paper or definition)."""

    type: str
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""


def members(package: str, base: type[Member]) -> dict[str, type[Member]]:
    """Imports every module of `package` and returns its concrete members of `base` by tag, sorted."""
    root = importlib.import_module(package)
    for info in pkgutil.iter_modules(root.__path__):
        importlib.import_module(f"{package}.{info.name}")
    found: dict[str, type[Member]] = {}
    todo = [base]
    while todo:
        cls = todo.pop()
        todo.extend(cls.__subclasses__())
        annotation = cls.model_fields["type"].annotation
        if getattr(annotation, "__origin__", None) is Literal:
            (tag,) = annotation.__args__  # type: ignore[union-attr]
            found[tag] = cls
    return dict(sorted(found.items()))


def _from_tag(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


def family(package: str, base: type[Member]) -> Any:
    """The pydantic type 'any member of this family': tagged by `type`; a bare string is a member with its defaults."""
    classes = tuple(members(package, base).values())
    union: Any = reduce(or_, classes)
    if len(classes) > 1:
        return Annotated[union, Field(discriminator="type"), BeforeValidator(_from_tag)]
    return Annotated[union, BeforeValidator(_from_tag)]


def canonical(value: Any) -> Any:
    """A value without its defaults: models keep their tag and the fields that differ from their defaults."""
    if isinstance(value, BaseModel):
        out: dict[str, Any] = {}
        for name, field in type(value).model_fields.items():
            item = getattr(value, name)
            if name == "type" or item != field.get_default(call_default_factory=True):
                out[name] = canonical(item)
        return out
    if isinstance(value, Mapping):
        return {str(k): canonical(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(v) for v in value]
    return value


def canonical_json(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, defaults left out; numbers keep the type of their field."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
