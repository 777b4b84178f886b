"""Decoder and encoder: one Transformer whose two forms differ by their attention mask.

Radford et al. 2019 (GPT-2) and Devlin et al. 2018 (arXiv 1810.04805). By default pre-norm with RMS norms (Zhang and
Sennrich 2019, arXiv 1910.07467), rotary positions (Su et al. 2021, arXiv 2104.09864) and no biases; every other choice
of the pretraining literature is a field.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from scaling.accounting import FlopTerm, ParamCount
from scaling.architectures.banded import score_products
from scaling.architectures.base import Architecture
from scaling.parametrisation import Kind, Parametrisation, Role
from scaling.spec import Count, NonNegativeCount

if TYPE_CHECKING:
    import torch


class Transformer(Architecture):
    """The shape shared by decoder and encoder.

    `d_ff` None means 4·d_model, or 8/3·d_model in steps of 8 (SwiGLU).
    """

    n_layer: Count
    d_model: Count
    n_head: Count
    d_ff: Count | None = None
    positions: Literal["rotary", "learned", "sinusoidal", "alibi", "t5", "none"] = "rotary"
    tied: bool = False
    activation: Literal["gelu", "gelu_exact", "relu", "swiglu"] = "gelu"
    init: Literal["fan_in", "gpt2"] = "fan_in"
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    norm: Literal["rms", "layer"] = "rms"
    """Layer norms have a gain and a bias."""
    norm_placement: Literal["pre", "post"] = "pre"
    """Before each sublayer and at the end, or after each sum with the residual stream (Vaswani et al. 2017)."""
    bias: bool = False
    """Whether the linear layers of the blocks, and a factorised embedding's, have biases."""
    embedding_norm: bool = False
    """A norm on the sum of the embeddings (BERT)."""
    embedding_size: Count | None = None
    """Width of the embeddings where a matrix stands between them and the stream (ALBERT); None: d_model, no matrix."""
    share: Literal["none", "all", "attention", "feed_forward"] = "none"
    """What all layers have in common, its norm included (Lan et al. 2019, arXiv 1909.11942: ALBERT)."""
    local_window: Count | None = None
    """Every second layer sees keys nearer than this alone (Brown et al. 2020, arXiv 2005.14165: GPT-3)."""
    relative_buckets: Count = 32
    """Buckets of distances of T5's positions; an encoder's half for each side."""
    relative_distance: Count = 128
    """Distance from which on T5's positions share the last bucket."""
    segments: NonNegativeCount = 0
    """Embeddings of sentences A, B, … (BERT's token types); a batch's `segments` says which."""
    head_transform: bool = False
    """BERT's head: dense layer, activation and norm before the output matrix, and a bias after it."""
    parametrisation: Parametrisation = "standard"
    """How initial weights, multipliers and the optimizer's settings follow the size; see `scaling.parametrisation`."""
    base_width: Count = 64
    """Width of the base model, whose settings carry over."""
    base_depth: Count = 3
    """Its layers; `completep` alone."""
    base_head: Count = 16
    """Width of its heads."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Transformer:
        if self.d_model % self.n_head:
            raise ValueError(f"n_head {self.n_head} does not divide d_model {self.d_model}")
        if self.positions == "rotary" and (self.d_model // self.n_head) % 2:
            raise ValueError(
                f"rotary positions need an even head width, not {self.d_model}/{self.n_head}"
                f" = {self.d_model // self.n_head}"
            )
        return self

    @model_validator(mode="after")
    def _options_fit(self) -> Transformer:
        if self.head_transform and self.activation == "swiglu":
            raise ValueError("head_transform has one matrix, so activation swiglu does not fit; use gelu or relu")
        sides = 2 if self.bidirectional else 1
        if self.positions == "t5":
            if self.relative_buckets < 2 * sides or self.relative_buckets % sides:
                raise ValueError(f"relative_buckets {self.relative_buckets} must be even, and at least {2 * sides}")
            exact = self.relative_buckets // sides // 2
            if self.relative_distance <= exact:
                raise ValueError(
                    f"relative_distance {self.relative_distance} must be over {exact}, the distances that have a"
                    f" bucket each among relative_buckets {self.relative_buckets}"
                )
        return self

    @model_validator(mode="after")
    def _parametrisation_fits(self) -> Transformer:
        chosen = self.parametrisation
        unread = {"standard": ("base_width", "base_depth", "base_head"), "mup": ("base_depth",)}
        for name in unread.get(chosen, ()):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect under parametrisation {chosen}; remove it")
        if chosen != "standard" and self.embedding_size is not None:
            raise ValueError(
                f"parametrisation {chosen} has no rule for embedding_size, a width that does not grow; remove one"
            )
        if chosen == "completep" and (self.norm_placement == "post" or self.share != "none"):
            raise ValueError(
                "parametrisation completep is for norm_placement pre and share none; set these, or parametrisation mup"
            )
        return self

    def role(self, name: str, shape: Sequence[int]) -> Role:
        """See `Architecture.role`."""
        last = name.rpartition(".")[2]
        kind: Kind = "hidden"
        if len(shape) == 1:
            kind = "vector"
        elif last.endswith("_embedding"):
            kind = "input"
        elif last == "head":
            kind = "output"
        return Role(kind, self.width_ratio, self.depth_ratio if "blocks." in name else 1.0)

    @property
    def width_ratio(self) -> float:
        """Width over that of the base model; 1 in the standard parametrisation."""
        return 1.0 if self.parametrisation == "standard" else self.d_model / self.base_width

    @property
    def depth_ratio(self) -> float:
        """Depth over that of the base model; 1 where depth is not scaled."""
        return self.n_layer / self.base_depth if self.parametrisation == "completep" else 1.0

    @property
    def query_factor(self) -> float:
        """What queries are multiplied by, so that scores are q·k·√base_head/k; 1 in the standard parametrisation."""
        return 1.0 if self.parametrisation == "standard" else math.sqrt(self.base_head * self.n_head / self.d_model)

    @property
    def ff(self) -> int:
        """Width of the feed-forward layer."""
        if self.d_ff is not None:
            return self.d_ff
        if self.activation == "swiglu":
            return max(8, round(8 * self.d_model / 3 / 8) * 8)
        return 4 * self.d_model

    @property
    def ff_matrices(self) -> int:
        """Matrices of d_model × d_ff in a feed-forward layer."""
        return 3 if self.activation == "swiglu" else 2

    @property
    def embedding_width(self) -> int:
        """Width of the embeddings and of the output matrix."""
        return self.d_model if self.embedding_size is None else self.embedding_size

    @property
    def has_head_dense(self) -> bool:
        """Whether a matrix stands between the stream and the output matrix."""
        return self.head_transform or self.embedding_size is not None

    def local_windows(self) -> list[int]:
        """Of each layer, how near a key must be to be seen; 0: all keys. Layers 2, 4, … are local."""
        return [(self.local_window or 0) if layer % 2 else 0 for layer in range(self.n_layer)]

    @property
    def norm_vectors(self) -> int:
        """Vectors that a norm trains."""
        return 2 if self.norm == "layer" else 1

    def params(self, vocab_size: int) -> ParamCount:
        """See `Architecture.params`; biases of the blocks count with the norms, all of the head with the head."""
        d, e, layers = self.d_model, self.embedding_width, self.n_layer
        attentions = 1 if self.share in ("all", "attention") else layers
        feed_forwards = 1 if self.share in ("all", "feed_forward") else layers
        norms = attentions + feed_forwards + (1 if self.norm_placement == "pre" else 0)
        biases = attentions * 4 * d + feed_forwards * ((self.ff_matrices - 1) * self.ff + d)
        projection = d * e + (d if self.bias else 0) if self.embedding_size is not None else 0
        positions = {"learned": self.seq_len * e, "t5": self.relative_buckets * self.n_head}
        dense = d * e if self.has_head_dense else 0
        transform = e + self.norm_vectors * e + vocab_size if self.head_transform else 0
        return ParamCount(
            groups={
                "token_embedding": vocab_size * e + projection,
                "position_embedding": positions.get(self.positions, 0) + self.segments * e,
                "attention": attentions * 4 * d * d,
                "feed_forward": feed_forwards * self.ff_matrices * d * self.ff,
                "norm": self.norm_vectors * (norms * d + (e if self.embedding_norm else 0))
                + (biases if self.bias else 0),
                "head": (0 if self.tied else vocab_size * e) + dense + transform,
                "other": 0,
            },
            head_matrix=vocab_size * e + dense,
        )

    def forward_flops(self, vocab_size: int, tokens: int, predicted: int) -> Mapping[FlopTerm, int]:
        """See `Architecture.forward_flops`; a shared layer counts each time it runs, a local one its band."""
        d, e, layers = self.d_model, self.embedding_width, self.n_layer
        scores = sum(score_products(self.seq_len, w, not self.bidirectional) for w in self.local_windows())
        dense = d * e if self.has_head_dense else 0
        found: dict[FlopTerm, int] = {
            "attention_projection": tokens * layers * 2 * 4 * d * d,
            "attention_score": tokens * scores * 2 * 2 * d // self.seq_len,
            "feed_forward": tokens * layers * 2 * self.ff_matrices * d * self.ff,
            "head": predicted * 2 * (e * vocab_size + dense),
        }
        if self.embedding_size is not None:
            found["other"] = tokens * 2 * d * e
        return found

    def build(self, vocab_size: int, seed: int) -> torch.nn.Module:
        """See `Architecture.build`."""
        from scaling.models.transformer import TransformerModel

        return TransformerModel(self, vocab_size, seed)


class Decoder(Transformer):
    """Each position sees itself and what came before (GPT)."""

    type: Literal["decoder"] = "decoder"
    summary: ClassVar[str] = "decoder-only Transformer, causal attention"
    source: ClassVar[str] = "Radford et al. 2019; Su et al. 2021 (rotary)"


class Encoder(Transformer):
    """Each position sees the whole window (BERT)."""

    type: Literal["encoder"] = "encoder"
    bidirectional: ClassVar[bool] = True
    summary: ClassVar[str] = "encoder-only Transformer, bidirectional attention"
    source: ClassVar[str] = "Devlin et al. 2018 (arXiv 1810.04805)"
