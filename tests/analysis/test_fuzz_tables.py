"""Whatever a file holds, the table reader gives checked runs or one line that says what is wrong."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import Runs, read_table
from scaling.errors import InputError

FUZZ = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

WORDS = ["", "nan", "NaN", "inf", "-inf", "1e30", "1e308", "1e400", "-1", "0", "1e-320", "3.5", "12", "1,5", "many",
         "#", "None", "True", "0x10", "1_000", "٣", "é", "\x00", '"', "'", "2024-01-01"]  # fmt: skip
CELL = st.one_of(
    st.sampled_from(WORDS), st.floats().map(repr), st.integers(-(2**70), 2**70).map(str), st.text(max_size=6)
)
NAMES = ["params", "tokens", "loss", "flops", "budget", "lineage", "loss_se", "run_id", "status", "objective",
         "data_digest", "params_total", " loss", "loss ", "Loss", "", "x", "unique_tokens"]  # fmt: skip
HEADER = st.lists(st.sampled_from(NAMES), min_size=0, max_size=8)
POSITIVE = st.floats(1e-300, 1e300)


def checked(source: Path | pd.DataFrame, **options: object) -> Runs | None:
    """The runs of a source, which must be sound, or None where the reader refused it in one line."""
    try:
        runs = read_table(source, **options)  # type: ignore[arg-type]
    except InputError as error:
        message = str(error)
    else:
        sound(runs)
        return runs
    assert message.strip()
    assert "\n" not in message
    assert len(message) < 1000
    return None


def sound(runs: Runs) -> None:
    for values in (runs.params(), runs.tokens, runs.loss, runs.flops(), runs.flops("6nd")):
        assert values.shape == (len(runs),)
        assert values.dtype == np.float64
        assert np.isfinite(values).all()
        assert (values > 0).all()
    assert len(runs) == len(runs.labels) > 0
    assert runs.lineage.shape == runs.budget.shape == (len(runs),)
    assert (runs.budget >= 0).all()


@FUZZ
@given(header=HEADER, rows=st.lists(st.lists(CELL, max_size=9), max_size=6), quote=st.booleans())
def test_any_csv(tmp_path: Path, header: list[str], rows: list[list[str]], quote: bool) -> None:
    """Missing and repeated columns, ragged rows, strings, empty files, numbers beyond float."""
    path = tmp_path / "runs.csv"
    quoted = ['"' + c.replace('"', '""') + '"' if quote else c for c in header]
    lines = [",".join(quoted), *(",".join(row) for row in rows)]
    path.write_text("\n".join(lines), encoding="utf-8")
    checked(path)


@FUZZ
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".parquet", ".txt", ""]))
def test_any_bytes(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"runs{suffix}"
    path.write_bytes(content)
    checked(path)


@FUZZ
@given(
    rows=st.lists(st.tuples(*[st.one_of(POSITIVE, st.sampled_from([math.nan, math.inf, -1.0, 0.0]))] * 4), max_size=8),
    flops=st.booleans(),
    where=st.sampled_from([None, "loss < 3", "params > 1e9 and tokens > 0", "flops > 1", "loss == loss", "x > 1"]),
)
def test_any_numbers(rows: list[tuple[float, ...]], flops: bool, where: str | None) -> None:
    """A value that is no positive finite number is never read as a run, and its row is named."""
    frame = pd.DataFrame(rows, columns=["params", "tokens", "loss", "flops"], dtype=float)
    frame = frame if flops else frame.drop(columns="flops")
    runs = checked(frame, where=where)
    if runs is not None and where is None:
        assert len(runs) == len(frame)
        assert (frame > 0).all().all()


@FUZZ
@given(
    kinds=st.lists(
        st.sampled_from(["float", "int", "text", "object", "bool", "date", "null", "huge"]), min_size=3, max_size=3
    ),
    n=st.integers(0, 4),
    parquet=st.booleans(),
)
def test_any_column_type(tmp_path: Path, kinds: list[str], n: int, parquet: bool) -> None:
    """Mixed types, whole numbers beyond 64 bits, dates and nothing at all, in memory and from parquet."""
    columns = {
        "float": [1.5] * n, "int": [3] * n, "text": ["4"] * n, "object": [1, "two", None, 4.0][:n], "bool": [True] * n,
        "date": [pd.Timestamp("2024-01-01")] * n, "null": [None] * n, "huge": [10**40] * n,
    }  # fmt: skip
    frame = pd.DataFrame(
        {name: pd.Series(columns[kind]) for name, kind in zip(("params", "tokens", "loss"), kinds, strict=True)}
    )
    if not parquet:
        checked(frame)
        return
    path = tmp_path / "runs.parquet"
    try:
        frame.to_parquet(path)
    except (ValueError, TypeError, OverflowError):  # no parquet file can hold it
        return
    checked(path)


@FUZZ
@given(columns=st.dictionaries(st.sampled_from([*NAMES, "N"]), st.sampled_from([*NAMES, "N"]), max_size=4))
def test_any_renaming(columns: dict[str, str]) -> None:
    text = "N,tokens,loss,flops,x\n1e6,1e8,3.0,6e14,7\n2e6,1e8,2.9,12e14,8\n"
    checked(pd.read_csv(io.StringIO(text)), columns=columns)


@pytest.mark.parametrize("value", [1e30, 1e200, 1e308])
def test_huge_values_overflow_nothing(value: float) -> None:
    """6ND of sizes beyond 1e154 is infinite: the reader refuses them instead."""
    checked(pd.DataFrame({"params": [value, 1e6], "tokens": [value, 1e8], "loss": [2.0, 3.0]}))
