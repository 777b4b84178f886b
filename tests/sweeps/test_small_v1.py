"""The recipe small-v1: sizes reached, monotone and distinct; heads; batch and rate against hand-computed values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.architectures.base import Architecture
from scaling.architectures.transformer import Decoder, Encoder
from sweeps.recipes.small_v1 import SmallV1, heads

RECIPE = SmallV1()


def build(shape: dict[str, int]) -> Architecture:
    return Decoder(**shape)


def size(architecture: Architecture) -> int:
    return architecture.params(256).non_embedding


@settings(max_examples=300, deadline=None)
@given(st.floats(math.log(6e3), math.log(1e7)))
def test_sizes_are_near_their_targets(log_target: float) -> None:
    target = math.exp(log_target)
    miss = abs(math.log(size(RECIPE.shape(target, build, size)) / target))
    # Depth is kept even at the price of size: three layers of width 32 and 40 have 36.9k and 57.6k parameters, two and
    # three of width 16 have 6.1k and 9.2k, and nothing lies between: the deeper one is taken up to where its miss is
    # the other's and the penalty of two layers for three, 1.5 apart in both.
    shallow = math.log(1.5) * (1.0 + RECIPE.aspect_penalty) / 2.0
    assert miss < (math.log(1.25) if target > 18e3 else shallow + 1e-9)


@settings(max_examples=200, deadline=None)
@given(st.floats(math.log(6e3), math.log(5e6)))
def test_twice_the_target_is_a_larger_model(log_target: float) -> None:
    target = math.exp(log_target)
    small, large = (RECIPE.shape(n, build, size) for n in (target, 2 * target))
    assert size(small) < size(large)
    assert small != large


def test_sizes_are_monotone_in_the_target() -> None:
    sizes = [size(RECIPE.shape(6e3 * 1.01**i, build, size)) for i in range(740)]
    assert sizes == sorted(sizes)


@settings(max_examples=100, deadline=None)
@given(st.floats(math.log(6e3), math.log(1e8)))
def test_shapes_have_even_heads_and_two_layers_or_more(log_target: float) -> None:
    shape = RECIPE.shape(math.exp(log_target), build, size)
    assert isinstance(shape, Decoder)
    assert shape.n_layer >= 2
    assert shape.d_model % (8 if shape.d_model >= 32 else 4) == 0
    assert shape.d_model >= 16
    assert (shape.d_model // shape.n_head) % 2 == 0


def test_targets_under_other_counts_are_met_under_them() -> None:
    def total(architecture: Architecture) -> int:
        return architecture.params(256).total

    assert total(RECIPE.shape(1e5, build, total)) == pytest.approx(1e5, rel=0.1)


def test_one_layer_only_where_two_are_too_many() -> None:
    assert RECIPE.shape(3e3, build, size) == Decoder(n_layer=1, d_model=16, n_head=1)
    assert RECIPE.shape(6e3, build, size) == Decoder(n_layer=2, d_model=16, n_head=1)


@pytest.mark.parametrize(("target", "nearest"), [(100.0, "3,072"), (1e14, "parameters; the nearest has")])
def test_targets_out_of_reach_are_refused(target: float, nearest: str) -> None:
    with pytest.raises(ValueError, match=nearest):
        RECIPE.shape(target, build, size)


def test_depth_follows_width() -> None:
    widths = [16, 32, 48, 64, 128, 256, 384, 768]
    depths = [RECIPE.of_width(w, build).n_layer for w in widths]  # type: ignore[attr-defined]
    assert depths == [3, 3, 3, 3, 4, 5, 6, 8]


def test_heads() -> None:
    known = {16: 1, 24: 2, 32: 2, 40: 2, 48: 3, 56: 4, 64: 4, 128: 8, 256: 8, 384: 12, 512: 16, 768: 12, 1024: 16}
    assert {width: heads(width) for width in known} == known
    with pytest.raises(ValueError, match="width 17 cannot be split into heads of even width"):
        heads(17)


@pytest.mark.parametrize(
    ("tokens", "batch"), [(1e5, 128), (1_023_999, 128), (1_024_000, 256), (1e7, 2048), (32_768_000, 8192), (1e12, 8192)]
)
def test_batch_is_the_power_of_two_below_a_four_thousandth(tokens: float, batch: int) -> None:
    assert RECIPE.batch_tokens(tokens, Decoder(n_layer=2, d_model=32, n_head=2)) == batch


def test_batch_is_whole_windows() -> None:
    architecture = Decoder(n_layer=2, d_model=32, n_head=2, seq_len=96)
    assert RECIPE.batch_tokens(1e7, architecture) == 2016  # 2048 // 96 windows
    assert RECIPE.batch_tokens(1e5, architecture, factor=0.1) == 96


def test_learning_rate() -> None:
    """lr·(d/64)^-1·(B/256)^.5 with the coefficients of causal and bidirectional models, by hand."""
    wide = Decoder(n_layer=3, d_model=128, n_head=8)
    assert RECIPE.learning_rate(Decoder(n_layer=3, d_model=64, n_head=4), 256) == 4e-3
    assert RECIPE.learning_rate(wide, 256) == 2e-3
    assert RECIPE.learning_rate(wide, 256, factor=2.0) == 4e-3
    assert RECIPE.learning_rate(wide, 2048) == pytest.approx(2e-3 * 8**0.5, rel=1e-3)
    assert RECIPE.learning_rate(Encoder(n_layer=3, d_model=64, n_head=4), 256) == 2.2e-3
    assert SmallV1(lr=1e-2).learning_rate(Encoder(n_layer=3, d_model=64, n_head=4), 256) == 1e-2
    assert SmallV1(width_exponent=0.0).learning_rate(wide, 256) == 4e-3


@pytest.mark.parametrize("parametrisation", ["mup", "completep"])
def test_a_rate_that_carries_over_does_not_depend_on_the_width(parametrisation: str) -> None:
    """lr·(B/256)^.5 at every width for a base of width 64; in general the standard rate of the base width."""
    for width in (32, 64, 128, 512):
        shape = Decoder(n_layer=3, d_model=width, n_head=4, parametrisation=parametrisation)
        assert RECIPE.learning_rate(shape, 256) == 4e-3
        assert RECIPE.learning_rate(shape, 1024) == 8e-3
        based = shape.model_copy(update={"base_width": 128})
        assert RECIPE.learning_rate(based, 256) == RECIPE.learning_rate(Decoder(n_layer=3, d_model=128, n_head=8), 256)
