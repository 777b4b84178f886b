"""Pydantic's errors in the user's words: the place in the file, the field, what is wrong, what was probably meant."""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from sweeps.yaml_source import Route, kind

Report = Callable[[Route, str, bool], None]
"""Takes a route in the validated data, a message, and whether the key rather than the value is at fault."""

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping or a name",
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` where something known is near, else the list of what is known."""
    names = sorted(known)
    near = _nearest(word, names)
    if near:
        return f" (did you mean {near}?)"
    return f"; known: {', '.join(names)}" if names else ""


def _nearest(word: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.5)), None)


def report_errors(error: ValidationError, model: type[BaseModel], data: Any, report: Report) -> None:
    """Reports every error of a validation of `data` as `model`, at its route in `data`."""
    errors = error.errors(include_url=False)
    meant = {
        (*e["loc"][:-1], _nearest(str(e["loc"][-1]), _fields(_annotation(model, e["loc"][:-1]))))
        for e in errors
        if e["type"] == "extra_forbidden"
    }
    for item in errors:
        loc = item["loc"]
        if item["type"] == "missing" and loc in meant:
            continue  # it is there, misspelt, and reported as such
        if item["type"] == "too_short" and any(e["loc"][: len(loc)] == loc != e["loc"] for e in errors):
            continue  # it holds values, all of them wrong, and reported as such
        route = _route(loc, data, keep_last=item["type"] in ("missing", "extra_forbidden"))
        annotation = _annotation(model, loc[:-1] if item["type"] == "extra_forbidden" else loc)
        if item["type"] in ("union_tag_invalid", "union_tag_not_found") and _at(data, route, "type") is not None:
            route = (*route, "type")
        report(route, _message(dict(item), annotation), item["type"] == "extra_forbidden")


def _message(item: dict[str, Any], annotation: Any) -> str:
    code, given, context = item["type"], item["input"], item.get("ctx", {})
    if code == "missing":
        return "is missing"
    if code == "extra_forbidden":
        return f"is no field{did_you_mean(str(item['loc'][-1]), _fields(annotation))}"
    if code == "union_tag_invalid":
        return f"is no known type: {context['tag']!r}{did_you_mean(context['tag'], tags(annotation))}"
    if code == "union_tag_not_found":
        return f"needs a type: one of {', '.join(tags(annotation))}"
    if code == "literal_error":
        options = [str(option) for option in _literals(annotation)] or [context["expected"]]
        hint = did_you_mean(given, options) if isinstance(given, str) else f"; known: {', '.join(options)}"
        return f"cannot be {kind(given)}{hint}"
    if code in _EXPECTED:
        return f"must be {_EXPECTED[code]}, not {kind(given)}"
    if code in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        words = {"greater_than": "more than", "greater_than_equal": "at least", "less_than": "less than"}
        (bound,) = context.values()
        return f"must be {words.get(code, 'at most')} {bound:g}, not {kind(given)}"
    if code == "finite_number":
        return f"must be a finite number, not {kind(given)}"
    if code in ("too_short", "string_too_short"):
        return "is empty; at least one value is needed"
    if code == "string_pattern_mismatch":
        return f"cannot be {kind(given)}: small letters, digits, dots, hyphens and underscores only"
    return str(item["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")


def tags(annotation: Any) -> list[str]:
    """The type tags of the members of a family's annotation."""
    return sorted(tag for cls in _classes(annotation) for tag in _literals(_field_annotation(cls, "type")))


def _route(loc: Sequence[Any], data: Any, keep_last: bool) -> Route:
    """The part of `loc` that is in the data: tags of unions and parts made by shorthands are not."""
    route: Route = ()
    for i, step in enumerate(loc):
        in_mapping = isinstance(data, dict) and step in data
        if in_mapping or (isinstance(data, (list, tuple)) and isinstance(step, int) and step < len(data)):
            data, route = data[step], (*route, step)
        elif keep_last and i == len(loc) - 1:
            route = (*route, step)
    return route


def _at(data: Any, route: Route, name: str) -> Any:
    for step in route:
        data = data[step]
    return data.get(name) if isinstance(data, dict) else None


def _annotation(model: Any, loc: Sequence[Any]) -> Any:
    """The annotation at `loc` in a model: fields by name, members of unions by tag, items of lists by index."""
    current: Any = model
    for step in loc:
        current = _strip(current)
        classes = _classes(current)
        if isinstance(step, int):
            current = next((get_args(c)[0] for c in _options(current) if get_args(c)), None)
        elif not classes and any(get_origin(o) is dict for o in _options(current)):
            current = next(get_args(o)[1] for o in _options(current) if get_origin(o) is dict)
        elif len(classes) == 1 and step in classes[0].model_fields:
            current = _field_annotation(classes[0], step)
        else:
            tagged = [
                c for c in classes if "type" in c.model_fields and step in _literals(_field_annotation(c, "type"))
            ]
            if tagged:
                current = tagged[0]
            # else a step of pydantic's own, such as the name of a validator: stay
    return _strip(current)


def _fields(annotation: Any) -> list[str]:
    return [name for cls in _classes(annotation) for name in cls.model_fields]


def _field_annotation(cls: type[BaseModel], name: str) -> Any:
    return cls.model_fields[name].annotation if name in cls.model_fields else None


def _strip(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _options(annotation: Any) -> list[Any]:
    annotation = _strip(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return [option for arg in get_args(annotation) for option in _options(arg)]
    return [annotation]


def _classes(annotation: Any) -> list[type[BaseModel]]:
    return [o for o in _options(annotation) if isinstance(o, type) and issubclass(o, BaseModel)]


def _literals(annotation: Any) -> list[Any]:
    return [value for o in _options(annotation) if get_origin(o) is Literal for value in get_args(o)]
