"""Sweep files of LSTMs: recipe and designs where an architecture has no heads."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from scaling.architectures.lstm import Lstm
from scaling.architectures.transformer import Decoder
from scaling.cost import trial_flops
from scaling.errors import SweepError
from sweeps.definition import load_sweep
from sweeps.expand import expand
from sweeps.packs import packable
from sweeps.recipes.small_v1 import SmallV1

HEAD = """\
name: recurrent
architecture: {type: lstm, seq_len: 512}
objective: causal
corpus: python-v1
"""


def test_an_isoflop_design_sizes_lstms_and_spends_its_budgets(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(HEAD + "design: {type: isoflop, budgets: [1e12, 2e12], sizes: {params: [1e4, 2e4, 4e4, 8e4]}}\n")
    wanted = expand(load_sweep(file))
    assert len(wanted) == 8
    for item, target in zip(wanted, [1e4, 2e4, 4e4, 8e4] * 2, strict=True):
        shape = item.trial.architecture
        assert isinstance(shape, Lstm)
        size = shape.params(257).non_embedding
        assert size == 8 * shape.n_layer * shape.d_model**2
        assert abs(math.log(size / target)) < math.log(1.25)
        assert sum(trial_flops(item.trial, 257).values()) == pytest.approx(item.budget, rel=0.01)
        assert not packable(item.trial, 257)


def test_widths_and_grids_name_lstms(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(HEAD + "design: {type: ladder, sizes: {widths: [32, 64]}, tokens_per_parameter: [50]}\n")
    assert [w.trial.architecture for w in expand(load_sweep(file))] == [
        Lstm(n_layer=3, d_model=32, seq_len=512),
        Lstm(n_layer=3, d_model=64, seq_len=512),
    ]
    grid = "{architecture: [{n_layer: 2, d_model: 42}], optimizer.lr: [4e-3], batch_tokens: [1024], tokens: [1e6]}"
    file.write_text(HEAD + f"design: {{type: grid, axes: {grid}}}\n")
    assert [w.trial.architecture for w in expand(load_sweep(file))] == [Lstm(n_layer=2, d_model=42, seq_len=512)]


def test_heads_and_masked_prediction_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    design = "design: {type: isoflop, budgets: [1e12], sizes: [2e4]}\n"
    file.write_text(HEAD.replace("seq_len: 512", "seq_len: 512, n_head: 2") + design)
    with pytest.raises(SweepError, match="n_head"):
        expand(load_sweep(file))
    file.write_text(HEAD.replace("objective: causal", "objective: masked") + design)
    with pytest.raises(SweepError, match="masked cannot train lstm"):
        expand(load_sweep(file))


def test_a_recipe_gives_an_architecture_only_fields_that_it_has() -> None:
    assert SmallV1().given_to(Decoder.model_fields) == ("n_layer", "d_model", "n_head")
    assert SmallV1().given_to(Lstm.model_fields) == ("n_layer", "d_model")
