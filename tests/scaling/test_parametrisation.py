"""muP and CompleteP: factors against the published tables, the base model to the bit, packs and graphs, coordinates."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from scaling.architectures.encoder_decoder import EncoderDecoder
from scaling.architectures.prefix_decoder import PrefixDecoder
from scaling.architectures.transformer import Decoder, Encoder, Transformer
from scaling.execution import can_compile
from scaling.job import Execution
from scaling.optimizers.adamw import AdamW
from scaling.optimizers.base import Settings, Stretch
from scaling.step import StepFunction
from scaling.trial import Trial
from tests.scaling.coordinates import SEQ_LEN, VOCABULARY, WINDOWS, by_depth, by_width, slopes, trial_of, windows

BASE: dict[str, Any] = {"n_layer": 3, "d_model": 64, "n_head": 4, "seq_len": SEQ_LEN}
WIDE: dict[str, Any] = {"n_layer": 6, "d_model": 256, "n_head": 4, "seq_len": SEQ_LEN}
"""Four times the base's width, head width too; twice its depth."""


def trained(architecture: dict[str, Any], steps: int = 3, execution: Execution | None = None) -> torch.Tensor:
    """The weights after a few steps, (N,) or (S, N): members of a pack differ by seed."""
    trial = trial_of(architecture, 4e-3)
    execution = execution or Execution(attention="manual")
    trials = [trial.model_copy(update={"seed": seed}) for seed in range(execution.pack)]
    function = StepFunction(trial, VOCABULARY.size, execution)
    theta = function.initial(trials, VOCABULARY.size)
    state = trial.optimizer.state(theta)
    lr = torch.full((execution.pack,), 4e-3) if execution.pack > 1 else torch.tensor(4e-3)
    for step in range(1, steps + 1):
        given = windows(trial.objective.window(SEQ_LEN), step)
        batch = trial.objective.train_batch(given, VOCABULARY, np.random.default_rng(step))
        tensors = function.to_device([batch] * execution.pack)
        grad = function.step(theta, tensors, torch.tensor(1.0 / (WINDOWS * SEQ_LEN))).grad
        trial.optimizer.update(theta, grad, state, function.layout.stretches, step, lr)
    return theta


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
@pytest.mark.parametrize("options", [{}, {"init": "gpt2", "tied": True, "norm": "layer", "bias": True}])
@pytest.mark.parametrize("parametrisation", ["mup", "completep"])
def test_the_base_model_is_the_standard_one_to_the_bit(
    kind: str, options: dict[str, Any], parametrisation: str
) -> None:
    shape = {"type": kind, **BASE, **options}
    assert torch.equal(trained(shape), trained({**shape, "parametrisation": parametrisation}))
    wide = {**shape, "n_layer": 2, "d_model": 128}
    assert not torch.equal(trained(wide, 1), trained({**wide, "parametrisation": parametrisation}, 1))


def _std(model: torch.nn.Module, name: str) -> float:
    return float(model.get_parameter(name).detach().double().std())


@pytest.mark.parametrize(("parametrisation", "depth"), [("mup", 1.0), ("completep", 2.0)])
def test_initial_values_follow_the_table(parametrisation: str, depth: float) -> None:
    """Variance of hidden matrices falls as 1/m (m = 4); that of embedding and output matrix is the base model's."""
    for options in ({}, {"init": "gpt2"}, {"tied": True}, {"positions": "t5"}):
        base = Decoder(**BASE, **options).build(2000, 0)
        wide = Decoder(**WIDE, **options, parametrisation=parametrisation).build(2000, 0)
        names = dict(base.named_parameters())
        for name in ("token_embedding", "head", "relative_embedding"):
            if name in names:
                rel = 0.2 if name == "relative_embedding" else 0.02
                assert _std(wide, name) == pytest.approx(_std(base, name), rel=rel), (name, options)
        for name in ("qkv", "ff_in"):
            assert _std(wide, f"blocks.0.{name}") == pytest.approx(_std(base, f"blocks.0.{name}") / 2, rel=0.02)
        # Standard and muP divide what writes to the stream by √(2·layers), CompleteP by the base model's.
        deeper = math.sqrt(2.0 / depth)
        for name in ("attention_out", "ff_out"):
            expected = _std(base, f"blocks.0.{name}") / (2 * deeper)
            assert _std(wide, f"blocks.0.{name}") == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("parametrisation", "l"), [("mup", 1.0), ("completep", 2.0)])
def test_rates_decay_and_eps_follow_the_table(parametrisation: str, l: float) -> None:  # noqa: E741
    """Dey et al. 2025, Table 1, at m = 4 and l = 2 with α = 1: η/m and λ·m for hidden matrices, ε/(m·l) in blocks."""
    shape = Decoder(**WIDE, parametrisation=parametrisation, bias=True, positions="learned", norm="layer")
    rule, m = AdamW(lr=1.0, weight_decay=0.1), 4.0
    found = {n: rule.settings(n, p.shape, shape.role(n, p.shape)) for n, p in shape.build(40, 0).named_parameters()}
    hidden = Settings(weight_decay=0.1 * m, lr_scale=1 / m, eps_scale=1 / (m * l))
    vector = Settings(weight_decay=0.0, lr_scale=1.0, eps_scale=1 / (m * l))
    outside = Settings(weight_decay=0.0, lr_scale=1.0, eps_scale=1 / m)
    for name in ("qkv", "attention_out", "ff_in", "ff_out"):
        assert found[f"blocks.1.{name}"] == hidden
        assert found[f"blocks.1.{name}_bias"] == vector
    assert found["blocks.0.attention_norm.gain"] == found["blocks.0.ff_norm.bias"] == vector
    for name in ("token_embedding", "position_embedding", "final_norm.gain", "final_norm.bias"):
        assert found[name] == outside
    assert found["head"] == outside._replace(weight_decay=0.1)
    standard = Decoder(**WIDE)
    for name, p in standard.build(40, 0).named_parameters():
        assert rule.settings(name, p.shape, standard.role(name, p.shape)) == rule.settings(name, p.shape)


def _without_factors(shape: Transformer) -> Any:
    """The model with the same weights and the standard parametrisation's multipliers."""
    plain = shape.model_copy(update={"parametrisation": "standard"})
    model, like = shape.build(40, 0), plain.build(40, 0)
    like.load_state_dict(model.state_dict())
    return model.double(), like.double()


@pytest.mark.parametrize("cls", [Decoder, Encoder, PrefixDecoder])
def test_logits_scores_and_branches_are_multiplied(cls: type[Transformer]) -> None:
    """Logits × 1/m; queries × √(base_head/k), so that scores are q·k·√base_head/k; branches × 1/l: by moved weights."""
    shape = cls(**WIDE, parametrisation="completep", bias=True)
    model, like = _without_factors(shape)
    with torch.no_grad():
        like.head.mul_(1 / 4)
        for block in like.blocks:
            block.qkv[:256].mul_(1 / 2)
            block.qkv_bias[:256].mul_(1 / 2)
            for name in ("attention_out", "ff_out"):
                block.get_parameter(name).mul_(1 / 2)
                block.get_parameter(f"{name}_bias").mul_(1 / 2)
    ids = torch.randint(0, 40, (2, SEQ_LEN), generator=torch.Generator().manual_seed(0))
    for one in (model, like):
        one.compute_dtype = torch.float64
    torch.testing.assert_close(model.logits(ids, None), like.logits(ids, None), rtol=1e-10, atol=1e-12)


def test_eps_by_stretch_is_that_of_torch() -> None:
    """A stretch with eps_scale 0.01 moves as torch's AdamW with a hundredth of eps, alone and in a pack."""
    torch.manual_seed(0)
    rule = AdamW(lr=1.0, eps=1e-2, weight_decay=0.0)
    start, grad = torch.randn(2, 20), torch.randn(2, 20) * 1e-3
    stretches = [Stretch(0, 12, Settings()), Stretch(12, 20, Settings(eps_scale=0.01))]
    packed, state = start.clone(), rule.state(start)
    rule.update(packed, grad, state, stretches, 1, torch.tensor([0.1, 0.1]))
    for row in range(2):
        alone = start[row].clone()
        rule.update(alone, grad[row], rule.state(alone), stretches, 1, torch.tensor(0.1))
        parts = [torch.nn.Parameter(start[row, :12].clone()), torch.nn.Parameter(start[row, 12:].clone())]
        groups = [{"params": [parts[0]], "eps": 1e-2}, {"params": [parts[1]], "eps": 1e-4}]
        optimizer = torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.99), weight_decay=0.0)
        parts[0].grad, parts[1].grad = grad[row, :12].clone(), grad[row, 12:].clone()
        optimizer.step()
        expected = torch.cat([p.detach() for p in parts])
        torch.testing.assert_close(alone, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(packed[row], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_packs_and_graphs_train_as_one_model_run_plainly(kind: str) -> None:
    shape = {"type": kind, "n_layer": 4, "d_model": 32, "n_head": 1, "parametrisation": "completep", "bias": True}
    shape |= {"base_width": 16, "base_depth": 2}
    alone = trained(shape)
    packed = trained(shape, execution=Execution(attention="manual", pack=2))
    torch.testing.assert_close(packed[0], alone, rtol=1e-3, atol=1e-4)
    if can_compile() is None:
        compiled = trained(shape, execution=Execution(attention="native", compiled=True))
        torch.testing.assert_close(compiled, alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("cls", "changes", "says"),
    [
        (Decoder, {"base_width": 32}, "base_width has no effect under parametrisation standard"),
        (Decoder, {"parametrisation": "mup", "base_depth": 2}, "base_depth has no effect under parametrisation mup"),
        (Decoder, {"parametrisation": "mup", "embedding_size": 8}, "no rule for embedding_size"),
        (Encoder, {"parametrisation": "completep", "norm_placement": "post"}, "norm_placement pre and share none"),
        (Encoder, {"parametrisation": "completep", "share": "all"}, "norm_placement pre and share none"),
        (EncoderDecoder, {"parametrisation": "mup"}, "is for decoder, encoder and prefix_decoder"),
    ],
)
def test_what_has_no_rule_is_refused(cls: type[Transformer], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        cls(**BASE, **changes)


def test_other_architectures_and_objectives_are_refused() -> None:
    spec = json.loads(trial_of({"type": "encoder", **BASE}, 1e-3).model_dump_json())
    shape = {**spec["architecture"], "parametrisation": "mup"}
    kept = Trial.model_validate_json(json.dumps({**spec, "architecture": shape})).architecture
    assert isinstance(kept, Encoder)
    assert kept.parametrisation == "mup"
    for objective in ("replaced_token", "span_boundary", "masked_pairs"):
        with pytest.raises(ValidationError, match=f"objective {objective} builds a model of its own"):
            Trial.model_validate_json(json.dumps({**spec, "architecture": shape, "objective": objective}))
    lstm = {"type": "lstm", "n_layer": 1, "d_model": 16, "parametrisation": "mup"}
    with pytest.raises(ValidationError, match="parametrisation"):
        Trial.model_validate_json(json.dumps({**spec, "architecture": lstm, "objective": "causal"}))


def test_coordinates_move_alike_at_every_width_under_mup_alone() -> None:
    """Slopes of log rms on log width after three steps: within .25 of 0, against .4 and more for what is not."""
    widths = (32, 64, 128)
    found = {p: slopes(widths, by_width(p, widths, lr=4e-3, steps=3, seeds=1)) for p in ("standard", "mup")}
    assert max(abs(s) for s in found["mup"].values()) < 0.25
    for kind in ("attention", "feed_forward", "logits"):
        assert found["standard"][kind] > 0.4


def test_coordinates_move_alike_at_every_depth_under_completep_alone() -> None:
    depths = (2, 4, 8)
    found = {p: slopes(depths, by_depth(p, depths, lr=4e-3, steps=3, seeds=1)) for p in ("mup", "completep")}
    rest = {p: {kind: abs(s) for kind, s in kinds.items() if kind != "scores"} for p, kinds in found.items()}
    assert max(rest["completep"].values()) < 0.1
    assert max(rest["mup"].values()) > 0.25
    # Scores join two branches and flatten later: .20 from 2 to 8 layers over three seeds, .13 from 2 to 16 over two.
    assert abs(found["completep"]["scores"]) < 0.5 * abs(found["mup"]["scores"])
