"""Prefix language modelling: −mean log p(x_t | x_<t), t after a prefix whose positions see each other, nats per token.

Raffel et al. 2020 (arXiv 1910.10683, §3.2.3 and §3.3.1; after Liu et al. 2018, arXiv 1801.10198): a random point
splits the text; the prefix is read from both sides, the rest is predicted. The loss is no code length of the text, of
which the prefix is not scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from scaling.objectives.base import Batch, Objective, Vocabulary

if TYPE_CHECKING:
    from scaling.accounting import FlopTerm
    from scaling.architectures.base import Architecture


class Prefix(Objective):
    """A window is `seq_len` + 1 tokens. The prefix is `prefix_share` of it, or ends at a random point (None).

    At random points, the windows of a batch go in pairs, one as much shorter than half as the other is longer, and one
    left over is split in the middle: so each batch has the same number of predicted tokens.
    """

    type: Literal["prefix"] = "prefix"
    summary: ClassVar[str] = "predict each token after a prefix that is read from both sides (nats per token)"
    source: ClassVar[str] = "Raffel et al. 2020 (arXiv 1910.10683); Liu et al. 2018 (arXiv 1801.10198)"

    prefix_share: float | None = Field(default=None, gt=0.0, lt=1.0)

    def serves(self, architecture: Architecture) -> str | None:
        """See `Objective.serves`."""
        if not architecture.prefix:
            return "a prefix needs attention that sees it from both sides; use architecture prefix_decoder"
        if architecture.seq_len < 4:
            return f"a window of {architecture.seq_len} tokens is too short to split; use seq_len 4 or more"
        return None

    def window(self, seq_len: int) -> int:
        """See `Objective.window`."""
        return seq_len + 1

    def predicted_per_window(self, seq_len: int) -> int:
        """Tokens after the prefix; on average, where it ends at a random point."""
        return seq_len // 2 if self.prefix_share is None else seq_len + 1 - self._fixed(seq_len)

    def heldout_passes(self, seq_len: int) -> int:
        """See `Objective.heldout_passes`."""
        return 2 if self.prefix_share is None else 1

    def _fixed(self, seq_len: int) -> int:
        assert self.prefix_share is not None
        return min(max(1, round(self.prefix_share * (seq_len + 1))), seq_len)

    def forward_flops(self, architecture: Architecture, vocab_size: int, windows: int) -> Mapping[FlopTerm, int]:
        """As stated by the architecture; where prefixes differ in length the head works at every position."""
        length = architecture.seq_len
        predicted = length if self.prefix_share is None else self.predicted_per_window(length)
        return architecture.forward_flops(vocab_size, windows * length, windows * predicted)

    def train_batch(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> Batch:
        """See `Objective.train_batch`."""
        if self.prefix_share is not None:
            return self._batch(windows, np.full(len(windows), self._fixed(windows.shape[1] - 1)))
        predicted = self._draw(windows, rng)
        return self._batch(windows, windows.shape[1] - predicted)

    def heldout_batches(self, windows: np.ndarray, vocab: Vocabulary, rng: np.random.Generator) -> list[Batch]:
        """One batch; where prefixes end at random points two, the second with the lengths paired to the first's.

        Together the two score as many tokens of each window as it has (less one where `seq_len` is odd).
        """
        if self.prefix_share is not None:
            return [self.train_batch(windows, vocab, rng)]
        first = self._draw(windows, rng)
        whole = windows.shape[1]
        return [self._batch(windows, whole - p) for p in (first, (whole - 1) // 2 * 2 - first)]

    @staticmethod
    def _draw(windows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(B,) tokens to predict: uniform over 1 … 2m − 1 with m half a window, in pairs that sum to 2m."""
        n_windows, middle = len(windows), (windows.shape[1] - 1) // 2
        drawn = rng.integers(1, 2 * middle, n_windows)
        odd = n_windows % 2
        drawn[1::2] = 2 * middle - drawn[: n_windows - odd : 2]
        if odd:
            drawn[-1] = middle
        return drawn

    def _batch(self, windows: np.ndarray, prefix: np.ndarray) -> Batch:
        """The batch whose windows have prefixes of these lengths (B,), at least 1."""
        tokens = windows.astype(np.int64)
        inputs, targets = tokens[:, :-1].copy(), tokens[:, 1:].copy()
        lengths = prefix.astype(np.int64)
        if self.prefix_share is not None:
            at = np.arange(lengths[0] - 1, inputs.shape[1])
            return Batch(
                inputs, np.tile(at, (len(inputs), 1)), np.ascontiguousarray(targets[:, at]), {"prefix": lengths}
            )
        targets[np.arange(inputs.shape[1]) < lengths[:, None] - 1] = -1
        return Batch(inputs, None, targets, {"prefix": lengths})
