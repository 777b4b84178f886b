"""Sweep definitions: every class of mistake with its exact place, shorthand, and Python construction."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scaling.errors import SweepError
from scaling.objectives.masked import Masked
from sweeps.definition import Sweep, load_sweep, sweep_of
from sweeps.yaml_source import parse_source

GOOD = """\
name: good
architecture: {type: decoder, seq_len: 128}
objective: causal
corpus: python-v1
optimizer: {type: adamw, beta2: 0.95}
seeds: [0, 1e0]
design:
  type: isoflop
  budgets: [1e12, 2e12, 4e12]
  sizes: {centre: {coefficient: 0.0714}, number: 5, ratio: 2}
"""


def load(text: str) -> Sweep:
    return sweep_of(parse_source(text, "f.yaml"))


def problems(old: str, new: str) -> list[str]:
    assert old in GOOD
    with pytest.raises(SweepError) as caught:
        load(GOOD.replace(old, new))
    return [str(p) for p in caught.value.problems]


def test_a_good_definition() -> None:
    sweep = load(GOOD)
    assert sweep.seeds == (0, 1)
    assert sweep.settings["optimizer"] == {"type": "adamw", "beta2": 0.95}
    assert sweep.settings["schedule"] == {"type": "cosine"}
    assert sweep.heldout == "auto"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("corpus:", "corpos:", "f.yaml:4:1 corpos: is no field (did you mean corpus?)"),
        ("seq_len", "seqlen", "f.yaml:2:31 architecture.seqlen: is no field (did you mean seq_len?)"),
        ("beta2", "beta_2", "f.yaml:5:26 optimizer.beta_2: is no field (did you mean beta2?)"),
        ("number", "numbr", "f.yaml:10:42 design.sizes.numbr: is no field (did you mean number?)"),
        ("coefficient", "coeficient", "f.yaml:10:20 design.sizes.centre.coeficient: is no field (did you mean coeffi"),
        ("good", "Good One", "f.yaml:1:7 name: cannot be 'Good One': small letters"),
        ("128", "-128", "f.yaml:2:40 architecture.seq_len: must be more than 0, not -128"),
        ("128", "many", "f.yaml:2:40 architecture.seq_len: must be a whole number, not 'many'"),
        ("128", "1.5", "f.yaml:2:40 architecture.seq_len: must be a whole number, not 1.5"),
        ("128", "true", "f.yaml:2:40 architecture.seq_len: must be a whole number, not true"),
        ("0.95", "high", "f.yaml:5:33 optimizer.beta2: must be a number, not 'high'"),
        ("0.95", ".nan", "f.yaml:5:33 optimizer.beta2: must be"),
        ("2e12", "-2e12", "f.yaml:9:19 design.budgets[1]: must be more than 0, not -2e+12"),
        ("2e12", ".inf", "f.yaml:9:19 design.budgets[1]: must be"),
        ("[1e12, 2e12, 4e12]", "1e12", "f.yaml:9:12 design.budgets: must be a list, not 1e+12"),
        ("[1e12, 2e12, 4e12]", "[]", "f.yaml:9:12 design.budgets: is empty; at least one value is needed"),
        ("decoder", "decodr", "f.yaml:2:22 architecture.type: is no known type: 'decodr' (did you mean decoder?)"),
        ("causal", "casual", "f.yaml:3:12 objective: is no known type: 'casual' (did you mean causal?)"),
        ("causal", "3", "f.yaml:3:12 objective: must be a mapping or a name, not 3"),
        (
            "causal",
            "{mask_rate: 0.3}",
            "f.yaml:3:12 objective: needs a type: one of causal, contrastive, denoising, masked, masked_pairs, prefix",
        ),
        ("isoflop", "isoflops", "f.yaml:8:9 design.type: is no known type: 'isoflops' (did you mean isoflop?)"),
        ("adamw", "adamv", "f.yaml:5:19 optimizer.type: cannot be 'adamv' (did you mean adamw?)"),
        ("[0, 1e0]", "[0, -1]", "f.yaml:6:12 seeds[1]: must be at least 0, not -1"),
        ("seeds: [0, 1e0]", "repeat: yes", "f.yaml:6:9 repeat: must be true or false, not 'yes'"),
        ("seeds: [0, 1e0]", "precision: bf8", "f.yaml:6:12 precision: cannot be 'bf8'"),
        ("seeds: [0, 1e0]", "recipe: small-v2", "f.yaml:6:9 recipe: cannot be 'small-v2' (did you mean small-v1?)"),
        ("seeds: [0, 1e0]", "recipe: {type: small-v1, lr: 0}", "f.yaml:6:30 recipe.lr: must be more than 0, not 0"),
        ("corpus: python-v1\n", "", "f.yaml:1:1 corpus: is missing"),
        ("  budgets: [1e12, 2e12, 4e12]\n", "", "f.yaml:8:3 design.budgets: is missing"),
        (
            "centre: {coefficient: 0.0714}",
            "params: [1e4]",
            "f.yaml:10:10 design.sizes: number and ratio belong to centre; with params every size is listed",
        ),
        (
            "{centre: {coefficient: 0.0714}, number: 5, ratio: 2}",
            "{params: [1e4], widths: [32]}",
            "f.yaml:10:10 design.sizes: needs exactly one of params, widths, centre; params and widths given",
        ),
        (
            "{centre: {coefficient: 0.0714}, number: 5, ratio: 2}",
            "[1e4, x]",
            "f.yaml:10:16 design.sizes[1]: must be a number, not 'x'",
        ),
    ],
)
def test_one_mistake_one_line_with_its_place(old: str, new: str, expected: str) -> None:
    (problem,) = problems(old, new)
    assert problem.startswith(expected)


def test_all_mistakes_are_reported_together_in_file_order() -> None:
    text = GOOD.replace("128", "0").replace("causal", "casual").replace("ratio", "ration")
    with pytest.raises(SweepError) as caught:
        load(text)
    assert [(p.line, p.column) for p in caught.value.problems] == [(2, 40), (3, 12), (10, 53)]


def test_a_problem_in_an_override_is_placed_there(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(GOOD)
    assert load_sweep(path, ["seeds=[3]", "objective.type=masked"]).seeds == (3,)
    with pytest.raises(SweepError) as caught:
        load_sweep(path, ["seeds=[3, -1]", "sedes=1"])
    assert [str(p) for p in caught.value.problems] == [
        "--set sedes=1:1:1 sedes: is no field (did you mean seeds?)",
        "--set seeds=[3, -1]:1:11 seeds[1]: must be at least 0, not -1",
    ]


def test_a_sweep_can_be_made_in_python() -> None:
    sweep = Sweep.model_validate(
        {
            "name": "made",
            "architecture": "encoder",
            "objective": Masked(mask_rate=0.3),
            "corpus": {"type": "markov", "order": 1},
            "design": {"type": "ladder", "sizes": [1e4], "tokens_per_parameter": [20]},
        }
    )
    assert sweep.settings["objective"] == {"type": "masked", "mask_rate": 0.3}


def test_loading_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys, sweeps.plan, sweeps.schema, sweeps.template;"
        "print([m for m in ('torch', 'ray', 'pandas', 'scipy', 'analysis') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
