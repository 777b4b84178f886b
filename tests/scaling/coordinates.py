"""Coordinate check: how far activations move in a few steps, by width or depth (Yang et al. 2022, arXiv 2203.03466).

Under a right parametrisation the rms of each activation's change does not depend on the width: the slope of its
logarithm on that of the width is 0, but for what a small width adds. One batch is repeated, so that the gradient of one
seed is as alike as can be from width to width.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from scaling.architectures.transformer import Transformer
from scaling.job import Execution
from scaling.models import transformer
from scaling.objectives.base import Vocabulary
from scaling.step import StepFunction
from scaling.trial import Trial

KINDS = ("embedding", "scores", "attention", "feed_forward", "stream", "logits")
SYMBOLS, SEQ_LEN, WINDOWS = 32, 32, 16
VOCABULARY = Vocabulary(SYMBOLS + 2, SYMBOLS, SYMBOLS, SYMBOLS + 1)


def trial_of(architecture: Mapping[str, Any], lr: float) -> Trial:
    """A trial in float32 whose corpus is never read; `weight_decay` 0.1."""
    return Trial.model_validate(
        {
            "architecture": {"seq_len": SEQ_LEN, **architecture},
            "objective": "masked" if architecture["type"] == "encoder" else "causal",
            "corpus": {"type": "markov"},
            "optimizer": {"type": "adamw", "lr": lr},
            "batch_tokens": WINDOWS * SEQ_LEN,
            "steps": 1,
            "precision": "fp32",
        }
    )


def windows(window: int, seed: int) -> np.ndarray:
    """(WINDOWS, window) symbols; each follows from the one before it, but for a quarter that are drawn at random."""
    rng = np.random.default_rng(seed)
    follows = rng.permutation(SYMBOLS)
    found = rng.integers(0, SYMBOLS, (WINDOWS, window))
    for at in range(1, window):
        found[:, at] = np.where(rng.random(WINDOWS) < 0.75, follows[found[:, at - 1]], found[:, at])
    return found


@torch.no_grad()
def activations(function: StepFunction, theta: Tensor, inputs: Tensor) -> dict[str, list[Tensor]]:
    """Of each kind the activations with these weights, one of a layer or one in all."""
    model: Any = function.model
    for name, value in function.layout.views(theta).items():
        model.get_parameter(name).copy_(value)
    found: dict[str, list[Tensor]] = defaultdict(list)
    plain, block = transformer.multi_head, transformer.Block
    attend, feed_forward = block.attend, block.feed_forward

    def scored(packed: Tensor, source: Tensor | None, n_head: int, *rest: Any) -> Tensor:
        q, k, _ = packed.view(*packed.shape[:2], 3, n_head, -1).unbind(2)
        found["scores"].append(torch.einsum("bqhk,bshk->bhqs", q, k) / math.sqrt(q.shape[-1]))
        return plain(packed, source, n_head, *rest)

    def kept(kind: str, method: Any) -> Any:
        def call(self: Any, *given: Any) -> Tensor:
            found[kind].append(method(self, *given))
            return found[kind][-1]

        return call

    with (
        mock.patch.object(transformer, "multi_head", scored),
        mock.patch.object(block, "attend", kept("attention", attend)),
        mock.patch.object(block, "feed_forward", kept("feed_forward", feed_forward)),
    ):
        model.eval()
        found["embedding"].append(model.embedded(inputs))
        found["stream"].append(model.hidden(inputs))
        found["logits"].append(model.read_out(found["stream"][0]))
    return found


def changes(architecture: Mapping[str, Any], lr: float, steps: int, seed: int) -> dict[str, float]:
    """Rms of the change of each kind of activation after `steps` steps; over layers, the root of the mean square."""
    trial = trial_of(architecture, lr).model_copy(update={"seed": seed})
    assert isinstance(trial.architecture, Transformer)
    function = StepFunction(trial, VOCABULARY.size, Execution(attention="manual"))
    theta = function.initial([trial], VOCABULARY.size)
    rng = np.random.default_rng(seed)
    batch = trial.objective.train_batch(windows(trial.objective.window(SEQ_LEN), seed), VOCABULARY, rng)
    tensors = function.to_device([batch])
    before = activations(function, theta, tensors["inputs"])
    state = trial.optimizer.state(theta)
    scale = torch.tensor(1.0 / (WINDOWS * trial.objective.predicted_per_window(SEQ_LEN)))
    for step in range(1, steps + 1):
        grad = function.step(theta, tensors, scale).grad
        trial.optimizer.update(theta, grad, state, function.layout.stretches, step, torch.tensor(lr))
    after = activations(function, theta, tensors["inputs"])
    return {
        kind: math.sqrt(
            sum(float((b - a).square().mean()) for a, b in zip(before[kind], after[kind], strict=True))
            / len(before[kind])
        )
        for kind in KINDS
    }


def slopes(sizes: Sequence[int], found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each kind the slope of log rms on log size, by least squares."""
    x = np.log(sizes)
    return {kind: float(np.polyfit(x, np.log([f[kind] for f in found]), 1)[0]) for kind in KINDS}


def by_width(
    parametrisation: str,
    widths: Sequence[int],
    *,
    kind: str = "decoder",
    heads: int | None = None,
    lr: float,
    steps: int,
    seeds: int,
) -> list[dict[str, float]]:
    """Changes at each width, the root of their mean square over seeds: two layers, heads of 8, or `heads` in number."""
    first = 8 if heads is None else widths[0] // heads
    base = {} if parametrisation == "standard" else {"base_width": widths[0], "base_head": first}
    shape = {"type": kind, "n_layer": 2, "parametrisation": parametrisation, **base}
    shapes = [{**shape, "d_model": w, "n_head": w // 8 if heads is None else heads} for w in widths]
    return [_mean([changes(s, lr, steps, seed) for seed in range(seeds)]) for s in shapes]


def by_depth(
    parametrisation: str, depths: Sequence[int], *, kind: str = "decoder", lr: float, steps: int, seeds: int
) -> list[dict[str, float]]:
    """Changes at each depth at width 32."""
    base = {"base_depth": depths[0]} if parametrisation == "completep" else {}
    if parametrisation != "standard":
        base |= {"base_width": 32, "base_head": 8}
    shape = {"type": kind, "d_model": 32, "n_head": 4, "parametrisation": parametrisation, **base}
    return [_mean([changes({**shape, "n_layer": n}, lr, steps, seed) for seed in range(seeds)]) for n in depths]


def _mean(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {kind: math.sqrt(float(np.mean([f[kind] ** 2 for f in found]))) for kind in KINDS}
