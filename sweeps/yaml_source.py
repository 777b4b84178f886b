"""YAML 1.2 text as plain values, with the line and column of every one; every mistake in it found at once.

Parsing and tag resolution are ruamel.yaml's. Values are built here from its node graph, because that alone keeps
positions of flow collections and of single scalars, and lets aliases be counted before they are expanded.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from scaling.errors import Problem, SweepError

MAX_BYTES = 1 << 20
"""A larger file is no sweep definition."""

MAX_VALUES = 200_000
"""Values in a file after its aliases are expanded."""

YAML_TAG = "tag:yaml.org,2002:"

Step = str | int
Route = tuple[Step, ...]
"""Where a value sits: mapping keys and list indices from the root."""


@dataclass(frozen=True)
class Place:
    """A file with a line and a column, both counted from 1."""

    file: str
    line: int
    column: int


@dataclass(frozen=True)
class Source:
    """Plain data and the place of each of its values and keys."""

    file: str
    data: dict[str, Any]
    values: dict[Route, Place] = field(repr=False)
    keys: dict[Route, Place] = field(repr=False)
    files: tuple[str, ...] = ()
    """The files it was read from, the sweep's own first."""

    def place(self, route: Route, key: bool = False) -> Place:
        """The place of the value at `route` (of its key, if asked), or of its nearest container."""
        if key and route in self.keys:
            return self.keys[route]
        while route and route not in self.values:
            route = route[:-1]
        return self.values.get(route, Place(self.file, 1, 1))

    def problem(self, route: Route, message: str, key: bool = False) -> Problem:
        """A problem at `route`."""
        place = self.place(route, key)
        return Problem(place.file, place.line, place.column, dotted(route), message)


def dotted(route: Route) -> str:
    """A route as people write it: `design.budgets[1]`."""
    text = ""
    for step in route:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text or "file"


def read_source(path: str | Path, overrides: Sequence[str] = ()) -> Source:
    """Reads a sweep file with what it includes and applies overrides of the form `a.b=c`, `c` being YAML.

    Raises:
        SweepError: unreadable, too large, not UTF-8, not YAML, empty, not a mapping, duplicate keys, a bad override.
    """
    from sweeps.include import read_composed

    source = read_composed(path)
    for override in overrides:
        _override(source, override)
    return source


def parse_source(text: str, file: str) -> Source:
    """The source of a text; see `read_source`."""
    values: dict[Route, Place] = {}
    keys: dict[Route, Place] = {}
    data = _Builder(file, values, keys).build(text)
    if data is None:
        raise SweepError([Problem(file, 1, 1, "file", "is empty; `scaling init` writes a definition to start from")])
    if not isinstance(data, dict):
        place = values[()]
        message = f"must be a mapping of fields to values, not {kind(data)}"
        raise SweepError([Problem(file, place.line, place.column, "file", message)])
    return Source(file, data, values, keys, (file,))


def kind(value: Any) -> str:
    """A value in words, for messages; long ones are cut."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    text = repr(value) if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else f"{value}"
    return text if len(text) <= 60 else text[:57] + "…"


def read_text(path: Path) -> str:
    """The text of a sweep file. Raises SweepError where it cannot be read, is too large, or is not UTF-8."""

    def refuse(message: str, line: int = 1, column: int = 1) -> SweepError:
        return SweepError([Problem(str(path), line, column, "file", message)])

    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise refuse("no such file") from None
    except IsADirectoryError:
        raise refuse("is a folder, not a file") from None
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > MAX_BYTES:
        raise refuse(f"is larger than {MAX_BYTES} bytes; that is no sweep definition")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line_start = before.rfind(b"\n") + 1
        column = len(before[line_start:].decode("utf-8", "replace")) + 1
        raise refuse(
            f"is not UTF-8 text (byte 0x{raw[error.start]:02x}); save it as UTF-8", before.count(b"\n") + 1, column
        ) from None


class _Builder:
    """Builds values from ruamel's nodes, noting places and collecting problems."""

    def __init__(
        self, file: str, values: dict[Route, Place], keys: dict[Route, Place], at: tuple[int, int] = (1, 1)
    ) -> None:
        self.file, self.values, self.keys = file, values, keys
        self.first_line, self.first_column = at
        self.problems: list[Problem] = []
        self.left = MAX_VALUES
        self.open: set[int] = set()

    def build(self, text: str, route: Route = ()) -> Any:
        node = self._compose(text)
        if node is None:
            return None
        try:
            data = self._value(node, route)
        except RecursionError:
            raise SweepError([Problem(self.file, 1, 1, "file", "is nested too deeply")]) from None
        if self.problems:
            raise SweepError(self.problems)
        return data

    def _compose(self, text: str) -> Node | None:
        yaml = YAML(typ="rt", pure=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return yaml.compose(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line, mark.column) if mark is not None else (0, 0)
            what = " ".join(str(part).strip() for part in (error.problem, error.context) if part)
            if text.splitlines()[line : line + 1] and "\t" in text.splitlines()[line][: column + 1]:
                what += "; indent with spaces, YAML allows no tabs there"
            raise SweepError([self._problem(self._mark(line, column), (), f"is not YAML: {what}")]) from None
        except RecursionError:
            raise SweepError([Problem(self.file, 1, 1, "file", "is nested too deeply")]) from None
        except (
            YAMLError,
            ValueError,
            LookupError,
            AssertionError,
            AttributeError,
            TypeError,
            NotImplementedError,
        ) as e:
            # ruamel lets some malformed texts (control characters, odd directives) escape as these
            position = getattr(e, "position", None)
            before = text[:position] if isinstance(position, int) else ""
            place = self._mark(before.count("\n"), len(before) - before.rfind("\n") - 1)
            reason = getattr(e, "reason", None) or str(e).splitlines()[0] if str(e) else type(e).__name__
            raise SweepError([self._problem(place, (), f"is not YAML: {reason}")]) from None

    def _mark(self, line: int, column: int) -> Place:
        if line == 0:
            column += self.first_column - 1
        return Place(self.file, line + self.first_line, column + 1)

    def _problem(self, place: Place, route: Route, message: str) -> Problem:
        return Problem(place.file, place.line, place.column, dotted(route), message)

    def _report(self, place: Place, route: Route, message: str) -> None:
        self.problems.append(self._problem(place, route, message))

    def _value(self, node: Node, route: Route) -> Any:
        place = self._mark(node.start_mark.line, node.start_mark.column)
        self.values[route] = place
        self.left -= 1
        if self.left < 0:
            message = f"holds more than {MAX_VALUES} values once its aliases are expanded"
            raise SweepError([self._problem(place, (), message)])
        if id(node) in self.open:
            self._report(place, route, "contains itself through an alias")
            return None
        if isinstance(node, ScalarNode):
            return self._scalar(node, place, route)
        expected = f"{YAML_TAG}{'map' if isinstance(node, MappingNode) else 'seq'}"
        if str(node.tag) != expected:
            self._report(place, route, f"has the tag {_short(node.tag)}; plain mappings and lists only")
            return None
        self.open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [self._value(item, (*route, i)) for i, item in enumerate(node.value)]
            return self._mapping(node.value, route)
        finally:
            self.open.discard(id(node))

    def _mapping(self, pairs: Sequence[tuple[Node, Node]], route: Route) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in pairs:
            place = self._mark(key_node.start_mark.line, key_node.start_mark.column)
            if not isinstance(key_node, ScalarNode):
                self._report(place, route, "has a field name that is a list or a mapping; names are plain text")
                continue
            name = str(key_node.value)
            inner = (*route, name)
            if name in found:
                first = self.keys[inner]
                self._report(place, inner, f"is given twice; first at line {first.line}")
                continue
            self.keys[inner] = place
            found[name] = self._value(value_node, inner)
        return found

    def _scalar(self, node: ScalarNode, place: Place, route: Route) -> Any:
        text, tag = str(node.value), str(node.tag)
        if tag in (f"{YAML_TAG}str", f"{YAML_TAG}timestamp"):
            return text
        if tag == f"{YAML_TAG}null":
            return None
        if tag == f"{YAML_TAG}bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        try:
            if tag == f"{YAML_TAG}int":
                body = text.replace("_", "")
                whole = int(body, 0) if body.lstrip("+-")[:2] in ("0x", "0o", "0b") else int(body)
                if abs(whole) >= 1 << 63:
                    raise ValueError
                return whole
            if tag == f"{YAML_TAG}float":
                return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            self._report(place, route, f"is not a number that can be used: {kind(text)}")
            return None
        self._report(place, route, f"has the tag {_short(node.tag)}; plain values only")
        return None


def _short(tag: object) -> str:
    return str(tag).replace(YAML_TAG, "!!")


def _override(source: Source, override: str) -> None:
    """Sets one value in place; its place becomes the override itself."""
    name, equals, text = override.partition("=")
    file = f"--set {override}"

    def refuse(message: str) -> SweepError:
        return SweepError([Problem(file, 1, 1, name.strip() or "override", message)])

    if not equals or not name.strip():
        raise refuse("must look like field.inner=value")
    parent: Any = source.data
    route: Route = ()
    rest = re.sub(r"\[(\d+)\]", r".\1", name.strip())
    if rest.split(".")[0] == "include":
        raise refuse("is read before --set; write it into the file")
    while True:
        step, rest = _next_step(parent, rest)
        if isinstance(parent, list):
            if not step.isdigit() or int(step) >= len(parent):
                raise refuse(f"{dotted(route)} is a list of {len(parent)}; {step!r} is no index of it")
            key: Step = int(step)
        elif not step:
            raise refuse("has an empty part in its path")
        else:
            key = step
        route = (*route, key)
        if not rest:
            break
        child = parent.setdefault(key, {}) if isinstance(parent, dict) else parent[key]
        if isinstance(child, str) and len(route) == 1 and key not in ("name", "description"):
            child = {"type": child}  # the bare-string form of a tagged member
            parent[key] = child  # type: ignore[index]
        if not isinstance(child, (dict, list)):
            raise refuse(f"{dotted(route)} is {kind(child)}; there is nothing inside it to set")
        source.values.setdefault(route, Place(file, 1, 1))
        source.keys.setdefault(route, Place(file, 1, 1))
        parent = child
    for old in [r for r in source.values if r[: len(route)] == route]:
        del source.values[old]
        source.keys.pop(old, None)
    source.keys[route] = Place(file, 1, 1)
    column = len(override) - len(text) + 1
    parent[key] = _Builder(file, source.values, source.keys, (1, column)).build(text, route)
    source.values.setdefault(route, Place(file, 1, column))


def _next_step(parent: Any, rest: str) -> tuple[str, str]:
    """The next step of a dotted path and what is left; a key that itself holds dots is matched whole."""
    if isinstance(parent, dict):
        for key in sorted((k for k in parent if "." in k), key=len, reverse=True):
            if rest == key or rest.startswith(key + "."):
                return key, rest[len(key) + 1 :]
    step, _, left = rest.partition(".")
    return step, left
