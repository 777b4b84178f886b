"""The JSON schema agrees with validation; the template that `scaling init` writes loads and expands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

import sweeps
from scaling.errors import InputError
from sweeps.definition import load_sweep
from sweeps.expand import expand
from sweeps.schema import sweep_schema
from sweeps.template import template, write_template
from sweeps.yaml_source import parse_source, read_source

SCHEMA = sweep_schema()
EXAMPLES = sorted(Path(sweeps.__file__).parent.glob("*.yaml"))


def is_valid(data: Any) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(data)


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_valid(path: Path) -> None:
    jsonschema.validate(read_source(path).data, SCHEMA)


def changed(**changes: Any) -> dict[str, Any]:
    return {**parse_source(template(), "f.yaml").data, **changes}


def test_short_forms_are_valid_and_mistakes_are_not() -> None:
    assert is_valid(changed())
    assert is_valid(changed(architecture="decoder", optimizer="adamw", recipe="small-v1", seeds=[1e0]))
    ladder = {"type": "ladder", "sizes": [1e4, 2e4], "tokens_per_parameter": [20]}
    grid = {"type": "grid", "axes": {"steps": [300], "optimizer.lr": [1e-3]}}
    assert is_valid(changed(design=ladder))
    assert is_valid(changed(design=grid))
    for wrong in (
        {"architecture": "decodr"},
        {"architecture": {"type": "decoder", "seqlen": 3}},
        {"objective": 3},
        {"seeds": [-1]},
        {"colour": "red"},
        {"design": {**ladder, "tokens_per_parameter": []}},
        {"design": {**ladder, "sizes": ["x"]}},
        {"design": "isoflop"},
    ):
        assert not is_valid(changed(**wrong)), wrong


def test_the_template_loads_and_expands(tmp_path: Path) -> None:
    path = write_template(tmp_path / "My First_Sweep!.yaml")
    sweep = load_sweep(path)
    assert sweep.name == "my-first_sweep-"
    assert len(expand(sweep)) == 15


def test_the_other_designs_of_the_template_expand_too() -> None:
    text = template()
    head = text[: text.index("# --- which trials")]
    for start, n in (
        ("#   design:                     # sizes", 12),
        ("#   design:                     # the product", 4),
    ):
        block = text[text.index(start) :].split("\n#\n")[0]
        lines = [line.removeprefix("#   ") for line in block.splitlines()]
        path_text = head + "\n".join(lines) + "\n"
        from sweeps.definition import sweep_of

        assert len(expand(sweep_of(parse_source(path_text, "f.yaml")))) == n


def test_the_template_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("mine")
    with pytest.raises(InputError, match=r"a\.yaml: exists already; choose another name"):
        write_template(path)
    assert path.read_text() == "mine"
    with pytest.raises(InputError, match=r"a sweep definition is named \.yaml, as in b.txt.yaml"):
        write_template(tmp_path / "b.txt")
    with pytest.raises(InputError, match="cannot be written: No such file or directory"):
        write_template(tmp_path / "none" / "c.yaml")
