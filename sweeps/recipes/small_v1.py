"""Recipe for models of 3 thousand to some 10 million parameters on 10⁵ to 10⁹ tokens.

Depth n_layer ≈ depth·max(1, d_model/64)^depth_exponent; batch B = 2^⌊log2(D/tokens_per_batch)⌋ tokens; peak learning
rate lr·(d_model/64)^width_exponent·(B/256)^batch_exponent. The coefficients were found by grids over rate and batch at
2·10¹² (causal) and 3·10¹² (masked) FLOPs on bytes of source code with rotary positions and fan-in initialisation
(results/LOG.md); tokens are the tokenizer's, so for a learned vocabulary (a token of about four bytes) they are a
starting point only. Under muP and CompleteP the rate's width is the base model's, at every width.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from scaling.architectures.base import Architecture
from scaling.spec import Count
from sweeps.recipes.base import Build, Recipe, Size

REFERENCE_WIDTH = 64
REFERENCE_BATCH = 256


class Tuning(NamedTuple):
    """Measured coefficients; see the module's formulas."""

    lr: float
    width_exponent: float
    batch_exponent: float
    tokens_per_batch: float


CAUSAL = Tuning(lr=4e-3, width_exponent=-1.0, batch_exponent=0.5, tokens_per_batch=4000.0)
MASKED = Tuning(lr=2.2e-3, width_exponent=-1.0, batch_exponent=0.5, tokens_per_batch=3000.0)
"""Bidirectional models: a seventh of the tokens bear loss, so gradients are noisier and rates lower."""

WORST_MISS = 1.5
"""A shape further than this factor from the size asked for is refused."""


class SmallV1(Recipe):
    """Shapes, batches and rates for small models; a coefficient left out is the measured one for the architecture."""

    type: Literal["small-v1"] = "small-v1"
    summary: ClassVar[str] = "shape, batch, learning rate and warmup for 3k–10M parameters"
    source: ClassVar[str] = "grids over rate and batch at 2e12 and 3e12 FLOPs on bytes of source code (results/LOG.md)"

    lr: float | None = Field(default=None, gt=0.0, le=100.0)
    """Peak learning rate at width 64 and a batch of 256 tokens; 4e-3 causal."""
    width_exponent: float | None = Field(default=None, ge=-5.0, le=5.0)
    """Of the learning rate in d_model/64; -1."""
    batch_exponent: float | None = Field(default=None, ge=-5.0, le=5.0)
    """Of the learning rate in B/256; 0.5."""
    tokens_per_batch: float | None = Field(default=None, ge=1.0)
    """Tokens of the run for each token of the batch; 4000 causal, 3000 bidirectional."""
    min_batch: Count = 128
    max_batch: Count = 8192
    depth: float = Field(default=3.0, gt=0.0, le=50.0)
    """Layers up to width 64: equal for neighbouring sizes, since uneven depths bend isoFLOP curves (results/LOG.md)."""
    depth_exponent: float = Field(default=0.38, ge=0.0, le=1.0)
    aspect_penalty: float = Field(default=0.6, ge=0.0)
    """What a factor e of departure from the depth rule weighs against a factor e of departure from the size."""

    def shape(self, target: float, build: Build, size: Size) -> Architecture:
        """Minimises |log(N/target)| + aspect_penalty·|log(n_layer/depth rule)|; ties go to the narrower.

        One layer only where two are too many: one-layer models lie off the trend (Kaplan et al. 2020, §3.1).
        """
        if not 0.0 < target < math.inf:
            raise ValueError(f"{target:g} parameters is no size")
        narrow = self._build(build, _widths()[0], 2)
        fewest = 1 if size(narrow) / target > math.sqrt(2.0) else 2
        best, best_cost = narrow, math.inf
        for width in _widths():
            ideal = self._ideal_depth(width)
            smallest_is_too_large = False
            most = math.ceil(2 * ideal)
            deepest = self._build(build, width, most)
            if size(deepest) * WORST_MISS < target:
                best, best_cost = deepest, math.log(target / size(deepest))
                continue
            for layers in range(fewest, most + 1):
                candidate = self._build(build, width, layers)
                miss = math.log(size(candidate) / target)
                cost = abs(miss) + self.aspect_penalty * abs(math.log(layers / ideal))
                if cost < best_cost - 1e-12:
                    best, best_cost = candidate, cost
                if miss > 0:
                    smallest_is_too_large = layers == fewest
                    break
            if smallest_is_too_large:
                break
        miss_factor = math.exp(abs(math.log(size(best) / target)))
        if miss_factor > WORST_MISS:
            raise ValueError(
                f"no shape of recipe {self.type} is near {target:.4g} parameters; the nearest has {size(best):,}"
            )
        return best

    def of_width(self, width: int, build: Build) -> Architecture:
        """Depth by the rule, rounded; see `Recipe.of_width`."""
        return self._build(build, width, max(1, round(self._ideal_depth(width))))

    def batch_tokens(self, tokens: float, architecture: Architecture, factor: float = 1.0) -> int:
        """2^⌊log2(D/tokens_per_batch)⌋ within min_batch…max_batch, times `factor`, in whole windows."""
        exponent = math.floor(math.log2(max(1.0, tokens / self._tuning(architecture).tokens_per_batch)))
        batch = min(self.max_batch, max(self.min_batch, 2**exponent))
        return max(1, math.floor(batch * factor / architecture.seq_len)) * architecture.seq_len

    def learning_rate(self, architecture: Architecture, batch_tokens: int, factor: float = 1.0) -> float:
        """Rounded to four digits, so that the last bit of a machine's `pow` does not change a trial's identity.

        Under muP and CompleteP the rate is the base model's at every width.
        """
        tuning = self._tuning(architecture)
        standard = getattr(architecture, "parametrisation", "standard") == "standard"
        width = _integer(architecture, "d_model" if standard else "base_width")
        rate = tuning.lr * (width / REFERENCE_WIDTH) ** tuning.width_exponent
        rate *= (batch_tokens / REFERENCE_BATCH) ** tuning.batch_exponent
        return float(f"{rate * factor:.4g}")

    def _tuning(self, architecture: Architecture) -> Tuning:
        measured = MASKED if architecture.bidirectional else CAUSAL
        given = {name: getattr(self, name) for name in Tuning._fields if getattr(self, name) is not None}
        return measured._replace(**given)

    def _ideal_depth(self, width: int) -> float:
        return self.depth * max(1.0, width / REFERENCE_WIDTH) ** self.depth_exponent

    def _build(self, build: Build, width: int, layers: int) -> Architecture:
        return build({"n_layer": layers, "d_model": width, "n_head": heads(width)})


def heads(width: int) -> int:
    """The divisor of `width` nearest to width/16 whose heads are of even width; heads of 32 from 256 on, 64 from 768.

    Raises:
        ValueError: the width is odd.
    """
    head_width = 16 if width < 256 else 32 if width < 768 else 64
    fitting = [n for n in range(1, width // 2 + 1) if width % (2 * n) == 0]
    if not fitting:
        raise ValueError(f"width {width} cannot be split into heads of even width; use a multiple of 8")
    return min(fitting, key=lambda n: (abs(n - width / head_width), -n))


def _widths() -> list[int]:
    """Multiples of 4, then 8, from 16 on; coarser where a coarser step is still a small one."""
    return [*range(16, 32, 4), *range(32, 128, 8), *range(128, 256, 16), *range(256, 768, 32), *range(768, 16385, 64)]


def _integer(architecture: Architecture, name: str) -> int:
    value = getattr(architecture, name)
    if not isinstance(value, int):
        raise ValueError(f"architecture {architecture.type} has no {name}, which recipe small-v1 needs")
    return value
