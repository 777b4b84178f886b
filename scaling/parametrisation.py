"""How initial weights, multipliers and optimizer settings follow a model's size, so that what was tuned small carries.

With m = d_model/base_width, l = n_layer/base_depth and the head's width k (Yang et al. 2022, arXiv 2203.03466, Tables 3
and 8; Dey et al. 2025, arXiv 2505.01618, Table 1 with α = 1), relative to the base model:

| | `mup` | `completep` |
|---|---|---|
| initial variance: embeddings, output matrix, vectors | 1 | 1 |
| initial variance: hidden matrices | 1/m | 1/m, none of depth |
| attention scores | √base_head/k | the same |
| logits | × 1/m | × 1/m |
| what a sublayer adds to the residual stream | 1 | × 1/l |
| Adam's rate: hidden matrices; all others | 1/m; 1 | 1/m; 1 |
| decoupled weight decay: hidden matrices; all others | × m; 1 | × m; 1 |
| Adam's ε: residual branches; all others | 1/m; 1/m | 1/(m·l); 1/m |

The base model is the one of the standard parametrisation, bit for bit. The tables give ε for residual branches; every
other gradient falls as 1/m too, since the logits do.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Parametrisation = Literal["standard", "mup", "completep"]

Kind = Literal["input", "hidden", "output", "vector"]


class Role(NamedTuple):
    """What an optimizer must know of a parameter to carry its settings from the base model over to a larger one.

    `kind`: a table or matrix from something of fixed size to the width is `input`, from width to width `hidden`, from
    the width to the vocabulary `output`; gains and biases are `vector`. `width` and `depth` are how many times those of
    the base model the model has; `depth` is 1 outside residual branches, and both are 1 where nothing is to be scaled.
    """

    kind: Kind = "vector"
    width: float = 1.0
    depth: float = 1.0


STANDARD = Role()
"""Settings as they are."""
