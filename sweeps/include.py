"""Composition of sweep files: `include` names files, relative to the one that names them, whose fields it starts from.

Later files win over earlier ones, the including file over all. Mappings merge field by field, unless their `type`
differs; lists and single values are replaced. Every value keeps the place where it was written.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

from scaling.errors import Problem, SweepError
from sweeps.yaml_source import Route, Source, kind, parse_source, read_text

FIELD = "include"
MAX_FILES = 20
"""Files that one sweep may be made of."""


def read_composed(path: str | Path) -> Source:
    """The source of a sweep file with its includes merged in.

    Raises:
        SweepError: a file is wrong (see `read_source`), includes itself, or the sweep is made of too many.
    """
    return _Composition().read(Path(path), ())


class _Composition:
    """One sweep's files: how many were read so far."""

    def __init__(self) -> None:
        self.read_so_far = 0

    def read(self, path: Path, chain: tuple[Path, ...]) -> Source:
        self.read_so_far += 1
        own = parse_source(read_text(path), str(path))
        if FIELD not in own.data:
            return own
        here = (*chain, path.resolve())
        bases = [self._included(own, route, name, path, here) for route, name in _names(own)]
        del own.data[FIELD]
        merged = bases[0]
        for source in [*bases[1:], own]:
            _merge(merged, source, merged.data, source.data, ())
        files = dict.fromkeys((own.file, *(f for base in bases for f in base.files)))
        return Source(own.file, merged.data, {**merged.values, (): own.values[()]}, merged.keys, tuple(files))

    def _included(self, own: Source, route: Route, name: str, path: Path, chain: tuple[Path, ...]) -> Source:
        target = path.parent / name
        if PurePath(name).is_absolute():
            raise _wrong(own, route, f"{name} is absolute; write it relative to {path.name}, so that both may move")
        if target.resolve() in chain:
            way = " -> ".join(p.name for p in (*chain[chain.index(target.resolve()) :], target.resolve()))
            raise _wrong(own, route, f"{name} includes itself: {way}")
        if self.read_so_far >= MAX_FILES:
            raise _wrong(own, route, f"a sweep is made of at most {MAX_FILES} files")
        if not target.is_file():
            raise _wrong(own, route, f"{target}: no such file")
        return self.read(target, chain)


def _names(source: Source) -> list[tuple[Route, str]]:
    """The included files and where each is named."""
    given = source.data[FIELD]
    listed: list[tuple[Route, Any]] = [((FIELD,), given)] if isinstance(given, str) else []
    if isinstance(given, list):
        listed = [((FIELD, i), name) for i, name in enumerate(given)]
    if not listed:
        raise _wrong(source, (FIELD,), f"must be a file or a list of files, not {kind(given)}")
    for route, name in listed:
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            raise _wrong(source, route, f"must be the name of a file, not {kind(name)}")
    return listed


def _wrong(source: Source, route: Route, message: str) -> SweepError:
    place = source.place(route)
    return SweepError([Problem(place.file, place.line, place.column, FIELD, message)])


def _merge(into: Source, source: Source, base: dict[str, Any], over: dict[str, Any], route: Route) -> None:
    """Puts the fields of `over` over those of `base`, both at `route` of their sources, with their places."""
    for key, value in over.items():
        inner = (*route, key)
        old = base.get(key)
        into.keys[inner] = source.keys[inner]
        if isinstance(old, dict) and isinstance(value, dict) and value.get("type", old.get("type")) == old.get("type"):
            into.values[inner] = source.values[inner]
            _merge(into, source, old, value, inner)
            continue
        for gone in [r for r in into.values if r[: len(inner)] == inner]:
            del into.values[gone]
        for gone in [r for r in into.keys if r[: len(inner)] == inner]:
            del into.keys[gone]
        base[key] = value
        into.values.update({r: p for r, p in source.values.items() if r[: len(inner)] == inner})
        into.keys.update({r: p for r, p in source.keys.items() if r[: len(inner)] == inner})
