"""Composition by include and --set: who wins, where a mistake is shown, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaling.errors import SweepError
from sweeps.definition import Sweep, load_sweep

BASE = """\
architecture: {type: decoder, seq_len: 64}
objective: causal
corpus: python-v1
optimizer: {type: adamw, beta2: 0.95}
seeds: [0, 1]
"""
DESIGN = """\
design:
  type: isoflop
  budgets: [1e12, 2e12, 4e12]
  sizes: {centre: {coefficient: 0.0714}, number: 5}
"""
TOP = """\
include: [base.yaml, parts/design.yaml]
name: top
architecture: {tied: true}
optimizer: {weight_decay: 0.2}
seeds: [3]
"""


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "parts/design.yaml").write_text(DESIGN)
    (tmp_path / "top.yaml").write_text(TOP)
    return tmp_path / "top.yaml"


def problems(path: Path, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(SweepError) as caught:
        load_sweep(path, overrides)
    return [str(p) for p in caught.value.problems]


def test_the_including_file_wins_field_by_field(top: Path) -> None:
    sweep = load_sweep(top)
    assert sweep.settings["architecture"] == {"type": "decoder", "seq_len": 64, "tied": True}
    assert sweep.settings["optimizer"] == {"type": "adamw", "beta2": 0.95, "weight_decay": 0.2}
    assert sweep.seeds == (3,)
    assert sweep.design.type == "isoflop"
    assert [f.name for f in sweep.files] == ["top.yaml", "base.yaml", "design.yaml"]


def test_another_type_replaces_a_part_and_lists_are_replaced(top: Path) -> None:
    top.write_text(TOP + "design: {type: ladder, sizes: {widths: [32]}, tokens_per_parameter: [50]}\n")
    assert load_sweep(top).design.type == "ladder"
    top.write_text(TOP.replace("{tied: true}", "encoder").replace("seeds", "objective: masked\nseeds"))
    assert load_sweep(top).settings["architecture"] == {"type": "encoder"}


def test_equals_one_file_that_says_it_all(top: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.yaml"
    whole.write_text(
        "name: top\narchitecture: {type: decoder, seq_len: 64, tied: true}\nobjective: causal\ncorpus: python-v1\n"
        "optimizer: {type: adamw, beta2: 0.95, weight_decay: 0.2}\nseeds: [3]\n" + DESIGN
    )
    assert load_sweep(top).model_dump() == load_sweep(whole).model_dump()


def test_a_mistake_is_shown_where_it_was_written(top: Path) -> None:
    (top.parent / "base.yaml").write_text(BASE.replace("seq_len", "seqlen"))
    assert problems(top) == [
        f"{top.parent / 'base.yaml'}:1:31 architecture.seqlen: is no field (did you mean seq_len?)"
    ]
    (top.parent / "base.yaml").write_text(BASE.replace("[0, 1]", "[0, 1"))
    assert problems(top)[0].startswith(f"{top.parent / 'base.yaml'}:6:1 file: is not YAML")
    (top.parent / "base.yaml").write_text(BASE)
    top.write_text(TOP.replace("[3]", "[-3]"))
    assert problems(top) == [f"{top}:5:9 seeds[0]: must be at least 0, not -3"]


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ("nowhere.yaml", "1:10 include: {folder}/nowhere.yaml: no such file"),
        ("[base.yaml, 3]", "1:22 include: must be the name of a file, not 3"),
        ("[]", "1:10 include: must be a file or a list of files, not a list"),
        ("{a: b}", "1:10 include: must be a file or a list of files, not a mapping"),
        ("/etc/passwd", "1:10 include: /etc/passwd is absolute; write it relative to top.yaml"),
        ("top.yaml", "1:10 include: top.yaml includes itself: top.yaml -> top.yaml"),
        ("parts", "1:10 include: {folder}/parts: no such file"),
    ],
)
def test_what_cannot_be_included(include: str, expected: str, top: Path) -> None:
    top.write_text(TOP.replace("[base.yaml, parts/design.yaml]", include))
    (problem,) = problems(top)
    assert problem.startswith(f"{top}:{expected.format(folder=top.parent)}")


def test_cycles_and_too_many_files_are_refused(top: Path) -> None:
    (top.parent / "parts/design.yaml").write_text("include: ../base.yaml\n" + DESIGN)
    assert load_sweep(top).design.type == "isoflop"  # twice the same file is no cycle
    (top.parent / "base.yaml").write_text("include: parts/design.yaml\n" + BASE)
    (problem,) = problems(top)
    assert problem.endswith("../base.yaml includes itself: base.yaml -> design.yaml -> base.yaml")
    (top.parent / "base.yaml").write_text(BASE)
    top.write_text(TOP.replace("[base.yaml, parts/design.yaml]", f"[{', '.join(['base.yaml'] * 21)}]"))
    (problem,) = problems(top)
    assert problem.endswith("include: a sweep is made of at most 20 files")


def test_set_reaches_lists_and_nested_fields(top: Path) -> None:
    def with_set(*overrides: str) -> Sweep:
        return load_sweep(top, overrides)

    design = with_set("design.budgets[1]=3e12", "design.sizes.number=7", "design.sizes.centre.exponent=0.6").design
    assert design.budgets == (1e12, 3e12, 4e12)  # type: ignore[attr-defined]
    assert (design.sizes.number, design.sizes.centre.exponent) == (7, 0.6)  # type: ignore[attr-defined]
    assert with_set("design.budgets.2=8e12").design.budgets[2] == 8e12  # type: ignore[attr-defined]
    assert with_set("seeds=[5, 6]", "seeds[1]=7").seeds == (5, 7)
    assert with_set("objective.type=causal", "schedule=wsd").settings["schedule"] == {"type": "wsd"}
    assert with_set("recipe.lr=1e-3").recipe.lr == 1e-3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("design.budgets[3]=1", "design.budgets[3]: design.budgets is a list of 3; '3' is no index of it"),
        ("design.budgets.x=1", "design.budgets.x: design.budgets is a list of 3; 'x' is no index of it"),
        ("design.sizes.numbr=7", "design.sizes.numbr: is no field (did you mean number?)"),
        ("optimiser.lr=1", "optimiser: is no field (did you mean optimizer?)"),
        ("seeds=many", "seeds: must be a list, not 'many'"),
        ("design.sizes.number=2.5", "design.sizes.number: must be a whole number, not 2.5"),
        ("batch_tokens=[1", "is not YAML"),
        ("seeds.0.x=1", "seeds.0.x: seeds[0] is 3; there is nothing inside it to set"),
        ("seeds", "seeds: must look like field.inner=value"),
        ("a..b=1", "a..b: has an empty part in its path"),
        ("include=base.yaml", "include: is read before --set; write it into the file"),
    ],
)
def test_a_wrong_set_is_one_line_at_its_own_text(override: str, expected: str, top: Path) -> None:
    found = problems(top, (override,))
    assert len(found) == 1
    assert found[0].startswith(f"--set {override}:1:")
    assert expected in found[0]
