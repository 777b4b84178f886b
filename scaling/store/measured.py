"""Evaluations made after a run's row was published: one file each, named by run, type and key, under `evals/`.

The key hashes the settings and the version of the measurement, so that the same one is never made twice and another
never stands in its way. No row names these files; they count while their run has a row. Folded, they stand in
`evals/measured-<sha>.parquet`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Set
from typing import NamedTuple

import pyarrow as pa

from scaling.errors import StoreError
from scaling.store import files
from scaling.store.files import Damaged

MEASURED_NAME = re.compile(r"evals/([0-9a-f]{16})-([a-z][a-z0-9_]{0,63})-([0-9a-f]{16})\.parquet")
_NAMING = ["run_id", "settings", "eval_version"]
MEASURED_PART = re.compile(r"evals/measured-[0-9a-f]{16}\.parquet")


class Measurement(NamedTuple):
    """What names a measurement: the run, the settings of the evaluation (JSON with its `type`), and its version."""

    run_id: str
    settings: str
    version: int

    @property
    def name(self) -> str:
        """The relative name of its file. Raises StoreError where the settings name no type of evaluation."""
        try:
            kind = json.loads(self.settings)["type"]
        except (ValueError, KeyError, TypeError):
            kind = None
        key = files.json_digest([self.settings, self.version])[:16]
        name = f"evals/{files.check_run_id(self.run_id)}-{kind}-{key}.parquet"
        if not isinstance(kind, str) or not MEASURED_NAME.fullmatch(name):
            raise StoreError(f"evaluation of {self.run_id}: settings {self.settings!r} are not JSON with a type")
        return name


def measurements_of(table: pa.Table) -> list[Measurement]:
    """The distinct measurements in a table of evaluations, sorted. Raises Damaged where one has no name."""
    distinct = table.select(_NAMING).group_by(_NAMING, use_threads=False).aggregate([])
    made = [Measurement(*values) for values in zip(*(distinct.column(n).to_pylist() for n in _NAMING), strict=True)]
    for item in made:
        try:
            _ = item.name
        except StoreError as error:
            raise Damaged(str(error)) from error
    return sorted(made)


def rows_of(table: pa.Table, items: Set[Measurement]) -> pa.Table:
    """The part of a table of evaluations that holds some measurements, in its order."""
    rows = zip(*(table.column(n).to_pylist() for n in _NAMING), strict=True)
    return table.filter(pa.array([row in items for row in rows], pa.bool_()))


def check_loose(table: pa.Table, name: str) -> Measurement:
    """The one measurement of a file. Raises Damaged where the file holds another than its name promises."""
    made = measurements_of(table)
    if [item.name for item in made] != [name]:
        raise Damaged("does not hold the one measurement that its name promises")
    return made[0]


def loose_names(names: list[str]) -> Iterator[tuple[str, str]]:
    """Name and run id of each loose measurement among the names of a folder."""
    for name in names:
        match = MEASURED_NAME.fullmatch(name)
        if match:
            yield name, match[1]
