"""YAML text as plain values with places: numbers, every error class with its exact line and column, overrides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.errors import Problem, SweepError
from sweeps.definition import sweep_of
from sweeps.expand import expand
from sweeps.template import template
from sweeps.yaml_source import MAX_BYTES, parse_source, read_source


def problems(text: str) -> list[str]:
    with pytest.raises(SweepError) as caught:
        parse_source(text, "f.yaml")
    return [str(p) for p in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e13", 1e13),
        ("1e-3", 1e-3),
        ("1E+5", 1e5),
        ("3e3", 3e3),
        (".5", 0.5),
        ("-1.5e2", -150.0),
        ("012", 12),
        ("0o14", 12),
        ("0x1F", 31),
        ("1_000", 1000),
        ("true", True),
        ("yes", "yes"),
        ("~", None),
        ("2001-01-01", "2001-01-01"),
        ("12:30", "12:30"),
        ("'1e13'", "1e13"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parse_source(f"a: {text}\n", "f.yaml").data["a"]
    assert found == value
    assert type(found) is type(value)


def test_infinities_reach_validation_as_floats() -> None:
    data = parse_source("a: [.inf, -.INF, .nan]", "f.yaml").data["a"]
    assert data[0] == float("inf")
    assert data[1] == float("-inf")
    assert data[2] != data[2]


def test_places_of_block_and_flow_values() -> None:
    source = parse_source("a:\n  b: [1, {c: 2}]\n  d:\n    - x\n", "f.yaml")
    assert [(p.line, p.column) for p in (source.place(("a", "b", 1, "c")), source.place(("a", "d", 0)))] == [
        (2, 14),
        (4, 7),
    ]
    assert source.place(("a", "b", 1, "c"), key=True).column == 11
    assert source.place(("a", "b", 7)).column == 6  # the nearest container


def test_an_alias_is_its_anchor_s_value() -> None:
    assert parse_source("a: &x [1, 2]\nb: *x\n", "f.yaml").data == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "f.yaml:1:1 file: is empty"),
        ("# only a comment\n", "f.yaml:1:1 file: is empty"),
        ("\n- a\n", "f.yaml:2:1 file: must be a mapping of fields to values, not a list"),
        ("hello", "f.yaml:1:1 file: must be a mapping of fields to values, not 'hello'"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "f.yaml:4:3 b.c: is given twice; first at line 3"),
        ("a: !foo 1\n", "f.yaml:1:4 a: has the tag !foo; plain values only"),
        ("a: !!python/name:os.system x\n", "f.yaml:1:4 a: has the tag !!python/name:os.system; plain values only"),
        ("a: !!set {b}\n", "f.yaml:1:4 a: has the tag !!set; plain mappings and lists only"),
        ("? [1]\n: 2\n", "f.yaml:1:3 file: has a field name that is a list or a mapping; names are plain text"),
        ("a: &x [*x]\n", "f.yaml:1:4 a[0]: contains itself through an alias"),
        (f"a: {'9' * 5000}\n", "f.yaml:1:4 a: is not a number that can be used: '999"),
        ("a: [1, 2\nb: 3\n", "f.yaml:2:2 file: is not YAML: "),
        ("a: 1\n\tb: 2\n", "f.yaml:2:1 file: is not YAML: "),
        ("a: b: c\n", "f.yaml:1:5 file: is not YAML: mapping values are not allowed here"),
        ("a: *nowhere\n", "f.yaml:1:4 file: is not YAML: "),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1 file: is not YAML: but found another document"),
        ("a: \x01\n", "f.yaml:1:4 file: is not YAML: special characters are not allowed"),
        ("[" * 1500, "f.yaml:1:1 file: is nested too deeply"),
    ],
)
def test_every_mistake_has_its_place(text: str, expected: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(expected)


def test_tabs_are_explained() -> None:
    assert "indent with spaces" in problems("a:\n\tb: 2\n")[0]


def test_all_mistakes_at_once_in_file_order() -> None:
    found = problems("a: 1\na: 2\nb: !x 1\n")
    assert [p.split(" ")[0] for p in found] == ["f.yaml:2:1", "f.yaml:3:4"]


def test_a_billion_laughs_are_one_error() -> None:
    text = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    (problem,) = problems(text)
    assert "values once its aliases are expanded" in problem


def file_problem(path: Path) -> str:
    with pytest.raises(SweepError) as caught:
        read_source(path)
    (problem,) = caught.value.problems
    return str(problem).removeprefix(str(path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert file_problem(tmp_path / "none.yaml") == ":1:1 file: no such file"
    assert file_problem(tmp_path) == ":1:1 file: is a folder, not a file"
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    assert file_problem(large).startswith(":1:1 file: is larger than 1048576 bytes")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: x\ndescription: é".encode("latin-1"))
    assert file_problem(latin) == ":2:14 file: is not UTF-8 text (byte 0xe9); save it as UTF-8"
    wide = tmp_path / "wide.yaml"
    wide.write_bytes("name: x".encode("utf-16"))
    assert "is not UTF-8 text" in file_problem(wide)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\n")
    assert read_source(path).data == {"name": "x"}


TEXT = "name: x\nobjective: causal\ndesign:\n  axes:\n    optimizer.lr: [1e-3]\n  budgets: [1, 2]\n"


def overridden(tmp_path: Path, *overrides: str) -> dict[str, object]:
    path = tmp_path / "s.yaml"
    path.write_text(TEXT)
    return read_source(path, overrides).data


def test_overrides_set_values(tmp_path: Path) -> None:
    data = overridden(
        tmp_path,
        "design.budgets.1=1e12",
        "design.axes.optimizer.lr=[1, 2]",
        "objective.mask_rate=0.3",
        "optimizer.type=adamw",
        "repeat=true",
        "description=a=b",
        "batch_tokens=",
    )
    assert data["design"] == {"axes": {"optimizer.lr": [1, 2]}, "budgets": [1, 1e12]}
    assert data["objective"] == {"type": "causal", "mask_rate": 0.3}
    assert data["optimizer"] == {"type": "adamw"}
    assert (data["repeat"], data["description"], data["batch_tokens"]) == (True, "a=b", None)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seeds", "--set seeds:1:1 seeds: must look like field.inner=value"),
        ("=3", "--set =3:1:1 override: must look like field.inner=value"),
        ("name.x=1", "--set name.x=1:1:1 name.x: name is 'x'; there is nothing inside it to set"),
        ("design.budgets.2=1", "is a list of 2; '2' is no index of it"),
        ("design.budgets.x=1", "is a list of 2; 'x' is no index of it"),
        ("design..x=1", "has an empty part in its path"),
        ("seeds=[1", "--set seeds=[1:1:"),
        ("seeds=!x 1", "--set seeds=!x 1:1:7 seeds: has the tag !x; plain values only"),
    ],
)
def test_bad_overrides(tmp_path: Path, override: str, expected: str) -> None:
    with pytest.raises(SweepError) as caught:
        overridden(tmp_path, override)
    assert expected in str(caught.value)


PIECES = [
    "\t",
    "\n",
    " ",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "!x ",
    "%YAML 1.1\n",
    "---\n",
    "|",
    ">",
    "'",
    '"',
    "#",
]
PIECES += ["1e400", "-1", ".nan", "null", "\x00", "\u2028", "é", "<<: ", "? ", "type: wsd", "0x", "1e300", "9" * 30]


def mistakes(act: Callable[[], object]) -> list[Problem]:
    """The problems of an act that else has a result; any other error passes through and fails the test."""
    try:
        result = act()
    except SweepError as error:
        assert error.problems  # noqa: PT017
        return error.problems
    assert result
    return []


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 30), st.sampled_from(PIECES)), min_size=1, max_size=4))
def test_mutated_definitions_end_in_a_sweep_or_a_sweep_error(edits: list[tuple[int, int, str]]) -> None:
    text = template("fuzz.yaml")
    for at, drop, piece in edits:
        text = text[:at] + piece + text[at + drop :]
    found = mistakes(lambda: expand(sweep_of(parse_source(text, "fuzz.yaml")), max_trials=2000))
    assert all(p.file == "fuzz.yaml" and p.line >= 1 and p.column >= 1 for p in found)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_ends_in_data_or_a_sweep_error(text: str) -> None:
    mistakes(lambda: parse_source(f"a: 1\n{text}", "fuzz.yaml").data)


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**62), 2**62), st.floats(), st.text(max_size=5), st.just([]), st.just({})
)
FIELDS = [
    ("design", "budgets"),
    ("design", "sizes"),
    ("design", "sizes", "centre", "coefficient"),
    ("design", "sizes", "centre", "exponent"),
    ("design", "sizes", "ratio"),
    ("design", "learning_rate_factors"),
    ("design", "batch_factors"),
    ("recipe", "lr"),
    ("recipe", "width_exponent"),
    ("recipe", "batch_exponent"),
    ("recipe", "tokens_per_batch"),
    ("recipe", "min_batch"),
    ("recipe", "max_batch"),
    ("recipe", "depth"),
    ("architecture", "seq_len"),
    ("architecture", "d_ff"),
    ("optimizer", "lr"),
    ("batch_tokens",),
    ("seeds",),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FIELDS), st.one_of(LEAVES, st.lists(LEAVES, min_size=1, max_size=3)))
def test_any_value_of_any_field_ends_in_a_sweep_or_a_sweep_error(field: tuple[str, ...], value: object) -> None:
    source = parse_source(template("fuzz.yaml"), "fuzz.yaml")
    inner = source.data
    for step in field[:-1]:
        inner = inner[step]
    inner[field[-1]] = value
    mistakes(lambda: expand(sweep_of(source), max_trials=2000))
