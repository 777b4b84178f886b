"""Sweep files fuzzed through the command line: thousands of mutations end in a plan or in one line a mistake."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.errors import ScalingError
from sweeps.definition import load_sweep
from sweeps.expand import expand
from sweeps.template import template

LINE = re.compile(r".+:\d+:\d+ \S.*")
CORPUS = "corpus: {type: markov, order: 1, symbols: 8, n_documents: 64, document_length: 256}\n"
GRID = (
    "name: tiny\narchitecture: {type: decoder, n_layer: 1, d_model: 16, n_head: 2, seq_len: 16}\nobjective: causal\n"
    + CORPUS
    + "optimizer: {type: adamw, lr: 0.01}\nbatch_tokens: 32\nrepeat: true\nseeds: [0, 1]\n"
    "design:\n  type: grid\n  axes: {optimizer.lr: [1e-3, 3e-3], steps: [300, 600]}\n"
)
TEXTS = [template("fuzz.yaml"), GRID]

BYTES = st.one_of(st.binary(min_size=1, max_size=3), st.sampled_from([b"\x00", b"\xff", b"\xc3", b"\xef\xbb\xbf"]))
MARKS = [
    b": ",
    b"- ",
    b"\n",
    b"  ",
    b"\t",
    b"[",
    b"]",
    b"{",
    b"}",
    b"&a ",
    b"*a",
    b"<<: *a",
    b"---\n",
    b"...\n",
    b"? ",
    b"|\n",
]
MARKS += [b"'", b'"', b"#", b"1e999", b"-0", b".nan", b".inf", b"~", b"9" * 400, b"[" * 60, b"{a: " * 60, b"../../etc"]
MARKS += [b"!!python/object:os.system ", b"%TAG ! x\n", b"!include /etc/passwd", b"${HOME}", b"0x" + b"f" * 40]
TOKENS = st.sampled_from(MARKS)
WORDS = sorted({w.encode() for t in TEXTS for w in re.findall(r"[A-Za-z_]{3,}|[0-9][0-9.e-]*", t)})
EDIT = st.tuples(st.floats(0, 1), st.integers(0, 40), st.one_of(TOKENS, BYTES, st.sampled_from(WORDS)))
SWAP = st.tuples(st.integers(0, 60), st.integers(0, 60))


def outcome(path: Path) -> None:
    """Loads and expands as `plan` and `run` do; anything but trials or one line a mistake fails the test."""
    error: ScalingError | None = None
    try:
        assert expand(load_sweep(path), max_trials=500)
    except ScalingError as caught:
        error = caught
    if error is not None:
        assert error.exit_status == 2
        for line in str(error).split("\n"):
            assert LINE.fullmatch(line), line


def settled(examples: int) -> Any:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@settled(1500)
@given(text=st.sampled_from(TEXTS), edits=st.lists(EDIT, min_size=1, max_size=5))
def test_bytes_put_in_anywhere(tmp_path: Path, text: str, edits: list[tuple[float, int, bytes]]) -> None:
    data = text.encode()
    for where, drop, piece in edits:
        at = int(where * len(data))
        data = data[:at] + piece + data[at + drop :]
    (tmp_path / "fuzz.yaml").write_bytes(data)
    outcome(tmp_path / "fuzz.yaml")


@settled(1000)
@given(text=st.sampled_from(TEXTS), swaps=st.lists(SWAP, min_size=1, max_size=4), cut=st.floats(0, 1))
def test_lines_swapped_doubled_and_cut(tmp_path: Path, text: str, swaps: list[tuple[int, int]], cut: float) -> None:
    lines = text.split("\n")
    for a, b in swaps:
        a, b = a % len(lines), b % len(lines)
        lines[a], lines[b] = lines[b], lines[a]
        lines.insert(b, lines[a])
    whole = "\n".join(lines)
    (tmp_path / "fuzz.yaml").write_text(whole[: max(1, int(len(whole) * cut))])
    outcome(tmp_path / "fuzz.yaml")


PATHS = ["seeds", "name", "design.axes.steps", "design.axes.optimizer.lr.0", "architecture.d_model", "corpus", "design"]
VALUES = ["[", "-1", "1e400", "{}", "[]", "null", "&a [*a]", "!!binary x", "../x", "[[1]]", "{type: decoder}", "9" * 50]


@settled(1000)
@given(
    path=st.one_of(st.sampled_from(PATHS), st.text(max_size=12)), value=st.one_of(st.sampled_from(VALUES), st.text())
)
def test_overrides(tmp_path: Path, path: str, value: str) -> None:
    (tmp_path / "fuzz.yaml").write_text(GRID)
    with contextlib.suppress(ScalingError):
        assert expand(load_sweep(tmp_path / "fuzz.yaml", (f"{path}={value}",)), max_trials=500)


@settled(60)
@given(edits=st.lists(EDIT, min_size=1, max_size=2))
def test_the_command_shows_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edits: list[tuple[float, int, bytes]]
) -> None:
    from typer.testing import CliRunner

    from scaling.cli.main import app

    data = GRID.encode()
    for where, drop, piece in edits:
        at = int(where * len(data))
        data = data[:at] + piece + data[at + drop :]
    (tmp_path / "fuzz.yaml").write_bytes(data)
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    before = set(os.listdir(tmp_path))
    found = CliRunner().invoke(app, ["plan", "fuzz.yaml"], prog_name="scaling")
    assert found.exit_code in (0, 2), (data, found.stderr)
    assert "Traceback" not in found.stderr
    assert "this is a bug" not in found.stderr
    assert set(os.listdir(tmp_path)) - before <= {"cache"}
