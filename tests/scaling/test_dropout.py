"""Dropout drawn ahead of a step: the draws, who takes which, and that every path drops the same."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from step_world import KINDS, Arm, P, trial

from scaling.architectures.encoder_decoder import EncoderDecoder
from scaling.architectures.transformer import Decoder
from scaling.execution import NATIVE_ATTENTION_UP_TO, can_compile, choose_execution
from scaling.job import Execution
from scaling.models.attention import available, short_attention
from scaling.models.dropout import Kept, draw, drawn_ahead, dropout, in_force, take
from scaling.models.multihead import Rules, multi_head
from scaling.step import KEPT

needs_kernel = pytest.mark.skipif(not available(8), reason="no C++ compiler on this machine")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "train-cache"))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.999])
def test_draws_keep_their_share_and_hang_on_the_key_alone(p: float) -> None:
    number = 400_001
    first, again, other = (draw(number, p, key) for key in ((3, 7, 0), (3, 7, 0), (3, 7, 1)))
    assert first.shape == (number,)
    assert torch.equal(first, again)
    assert set(first.unique().tolist()) == {0, 1}
    sd = math.sqrt(p * (1 - p) / number)
    assert float(first.float().mean()) == pytest.approx(1 - p, abs=5 * sd + 2.0**-16)
    both = float((first & other).float().mean())
    assert both == pytest.approx((1 - p) ** 2, abs=5 * math.sqrt((1 - p) ** 2 / number) + 2.0**-15)


def test_neighbours_are_drawn_independently() -> None:
    """Four draws come from one 64-bit number: none tells of the next."""
    kept = draw(1 << 20, 0.5, (1,)).float() - 0.5
    for lag in (1, 2, 3, 4, 8):
        assert abs(float((kept[lag:] * kept[:-lag]).mean())) < 5 * 0.25 / 1024


def test_each_dropout_takes_the_next_part_and_scales_what_stays() -> None:
    x = torch.ones(4, 6)
    flat = draw(48, P, (0,))
    with in_force(Kept(flat, P)):
        assert drawn_ahead()
        found = torch.stack([dropout(x, P, True), dropout(x, P, True)])
        assert torch.equal(dropout(x, P, False), x)
        with pytest.raises(ValueError, match=r"0\.1 .* 0\.25"):
            take((1,), 0.1, x.device)
    torch.testing.assert_close(found.flatten(), flat.float() / (1 - P))
    assert take((1,), P, x.device) is None, "nothing is in force any more"


def test_without_draws_torch_makes_them() -> None:
    x = torch.ones(1000)
    torch.manual_seed(3)
    ours = dropout(x, P, True)
    torch.manual_seed(3)
    assert torch.equal(ours, torch.nn.functional.dropout(x, P))


@needs_kernel
@pytest.mark.parametrize("queries", [48, 21])
@pytest.mark.parametrize(("causal", "cross"), [(True, False), (False, False), (False, True)])
def test_the_kernel_drops_as_plain_products_do(queries: int, causal: bool, cross: bool) -> None:
    """Values and gradients, in whole blocks of queries and in cut ones."""
    torch.manual_seed(queries)
    batch, heads, width, keys = 3, 2, 8, 30 if cross else queries
    packed = torch.randn(batch, queries, (1 if cross else 3) * heads * width)
    source = torch.randn(batch, keys, 2 * heads * width) if cross else None
    kept = draw(batch * heads * keys * queries, P, (queries,)).view(batch, heads, keys, queries)
    weight = torch.randn(batch, queries, heads * width)
    given = [t for t in (packed, source) if t is not None]
    ours = [t.clone().requires_grad_() for t in given]
    out = short_attention(*ours, n_head=heads, causal=causal, kept=kept, dropout=P)
    exact = [t.double().requires_grad_() for t in given]
    mask = torch.full((queries, keys), -torch.inf, dtype=torch.float64).triu(1) if causal else None
    with in_force(Kept(kept.flatten(), P)):
        rules = Rules(causal, mask=mask)
        plain = multi_head(exact[0], exact[1] if cross else None, heads, rules, "manual", P)
    torch.testing.assert_close(out.double(), plain, rtol=0, atol=3e-6)
    for found, wanted in zip(
        torch.autograd.grad(out, ours, weight), torch.autograd.grad(plain, exact, weight.double()), strict=True
    ):
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=3e-5)
    assert not torch.allclose(out, short_attention(*given, n_head=heads, causal=causal))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_hangs_on_its_key_and_not_on_torchs_state(kind: str) -> None:
    arm = Arm(trial(kind))
    torch.manual_seed(0)
    loss, grad = arm.step(1, 2, 0)
    torch.manual_seed(1)
    again, same = arm.step(1, 2, 0)
    assert torch.equal(loss, again)
    assert torch.equal(grad, same)
    other, _ = arm.step(1, 2, 1)
    assert float(other) != float(loss)
    before = torch.get_rng_state()
    arm.step(1, 3, 0)
    assert torch.equal(before, torch.get_rng_state()), "a dropout drew from torch"


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "windowed"])
@needs_kernel
def test_the_kernel_and_plain_products_drop_the_same(kind: str) -> None:
    """Windows are apart: plain products then work on the band alone, whose elements are others."""
    of = trial(kind)
    loss, grad = Arm(of, attention="manual").step(5, 6, 7)
    found, its = Arm(of, attention="native").step(5, 6, 7)
    assert float(found) == pytest.approx(float(loss), rel=1e-5)
    assert float((its - grad).norm() / grad.norm()) < 1e-4


def test_a_window_beyond_the_kernel_drops_what_was_drawn_ahead() -> None:
    """Torch's attention would draw its own: such a run takes plain products, whose draws hang on the key alone."""
    of = trial("decoder")
    size = {"seq_len": 2 * NATIVE_ATTENTION_UP_TO, "n_layer": 1}
    longer = {"architecture": of.architecture.model_copy(update=size), "batch_tokens": 4 * size["seq_len"]}
    of = of.model_copy(update=longer)
    chosen = choose_execution(of, 11)
    assert (chosen.attention, chosen.dropout) == ("sdpa", "ahead")
    loss, grad = Arm(of, attention=chosen.attention).step(5, 6, 7)
    torch.manual_seed(1)
    found, its = Arm(of, attention="manual").step(5, 6, 7)
    assert torch.equal(found, loss)
    assert torch.equal(its, grad)


@pytest.mark.slow
@pytest.mark.skipif(can_compile() is not None, reason=str(can_compile()))
def test_a_compiled_step_drops_as_an_eager_one() -> None:
    of = trial("decoder")
    of = of.model_copy(update={"architecture": of.architecture.model_copy(update={"n_layer": 1})})
    loss, grad = Arm(of, attention="native").step(5, 6, 7)
    found, its = Arm(of, attention="native", compiled=True).step(5, 6, 7)
    assert float(found) == pytest.approx(float(loss), rel=1e-5)
    assert float((its - grad).norm() / grad.norm()) < 1e-4


def test_held_out_losses_are_without_dropout_but_where_the_loss_needs_it() -> None:
    for kind in ("decoder", "contrastive"):
        arm = Arm(trial(kind))
        one, other = (arm.function.losses(arm.theta, arm.batch, (key,)) for key in (1, 2))
        assert torch.equal(one, other) == (kind == "decoder")
        assert torch.equal(one, arm.function.losses(arm.theta, arm.batch, (1,)))


def test_every_element_has_a_draw_of_its_own() -> None:
    """A decoder's: the embedding, and in each layer the weights of attention and what both sublayers add."""
    arm = Arm(trial("decoder"))
    kept = arm.function._with_draws("train", arm.theta, arm.batch, (0,))[KEPT]
    windows, tokens, width, heads, layers = 4, 32, 16, 2, 2
    assert kept.numel() == windows * tokens * (width + layers * (heads * tokens + 2 * width))


def test_who_draws_ahead() -> None:
    shape = {"type": "decoder", "n_layer": 1, "d_model": 16, "n_head": 2, "seq_len": 32}
    of = trial("decoder")
    with_dropout, without = (
        choose_execution(of.model_copy(update={"architecture": Decoder(**{**shape, "dropout": p})}), 50)
        for p in (0.1, 0.0)
    )
    assert (with_dropout.dropout, without.dropout) == ("ahead", None)
    assert with_dropout.attention == without.attention
    assert with_dropout.micro_batch_tokens == without.micro_batch_tokens
    stored = Execution.model_validate_json('{"device": "cpu", "attention": "manual"}')
    assert stored.dropout is None, "executions from before go on with torch's draws"


def test_both_stacks_of_an_encoder_decoder_drop_the_same_share() -> None:
    shape = EncoderDecoder(n_layer=1, d_model=16, n_head=2, seq_len=32, dropout=P)
    model = trial("encoder_decoder").objective.build(shape, 50, 0)
    shares = {m.dropout for m in model.modules() if isinstance(getattr(m, "dropout", None), float)}
    assert shares == {P}


def test_draws_of_different_steps_share_nothing() -> None:
    """Keys that are near each other, or the same numbers in another order, are different draws."""
    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 0), (2, 0, 0)]
    drawn = [draw(4096, 0.5, key).float() for key in keys]
    for one, other in pairwise(drawn):
        assert abs(float((one == other).float().mean()) - 0.5) < 5 * 0.5 / 64
