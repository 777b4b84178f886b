"""Fine-tuning of a small model on a task: all weights, AdamW, linear warmup and decay, a fixed number of steps.

As in BERT (Devlin et al. 2018, arXiv 1810.04805, §4.1): a linear head on the state of the first token, which sees the
whole text; of a causal model on that of the last (Radford et al. 2018). As in T5 (Raffel et al. 2020, arXiv
1910.10683, §2.4) where a model has an encoder and a decoder: the answer is written as text.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scaling.evaluations.subject import without_dropout
from scaling.evaluations.text import Filled, fill, opening, states, window_length

if TYPE_CHECKING:
    from torch import Tensor, nn

    from scaling.evaluations.subject import Subject

WARMUP = 0.1
"""Share of the steps over which the rate rises, as in BERT."""
DECAY = 0.01
CLIP = 1.0


class Recipe(NamedTuple):
    """How a model is fine-tuned: optimizer steps, examples in each, and the peak learning rate."""

    steps: int
    batch: int
    lr: float


def framed(subject: Subject, texts: Sequence[Sequence[np.ndarray]]) -> Filled:
    """Each text, or pair of texts, behind the opening token and with a separator after each, cut to fit the window."""
    separator = subject.vocabulary.separator_id
    length = window_length(subject.model_for(subject.seq_len), subject)
    found = []
    for parts in texts:
        room = (length - 1 - len(parts)) // len(parts)
        cut = [np.append(part[:room], separator) for part in parts]
        found.append(np.concatenate([[opening(subject)], *cut]).astype(np.int64))
    return fill(found, length, separator)


def _batches(n: int, recipe: Recipe, seed: int) -> Iterator[np.ndarray]:
    """Indices of each step's examples: permutations of all, one after another."""
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(n) for _ in range(-(-recipe.steps * recipe.batch // n))])
    for step in range(recipe.steps):
        yield order[step * recipe.batch : (step + 1) * recipe.batch]


def _optimise(
    parameters: Sequence[Tensor], n: int, recipe: Recipe, seed: int, loss_of: Callable[[np.ndarray], Tensor]
) -> None:
    """AdamW over mean losses of batches; matrices decay, vectors do not."""
    import torch

    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.lr, betas=(0.9, 0.999))
    warmup = max(1, round(WARMUP * recipe.steps))
    for step, rows in enumerate(_batches(n, recipe, seed)):
        rate = min((step + 1) / warmup, (recipe.steps - step) / max(1, recipe.steps - warmup))
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * min(1.0, rate)
        optimizer.zero_grad()
        loss_of(rows).backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()


def _tensor(subject: Subject, array: np.ndarray) -> Tensor:
    """An array where the model is."""
    import torch

    return torch.from_numpy(array).to(subject.function.device)


def _copied(subject: Subject) -> nn.Module:
    """A copy of the model that may be trained, dropout as the trial says."""
    return copy.deepcopy(subject.model_for(subject.seq_len)).train()


def with_head(
    subject: Subject, train: Filled, wanted: np.ndarray, test: Filled, recipe: Recipe, seed: int
) -> np.ndarray:
    """The head's outputs on the test texts, (n,): a logit where `wanted` holds classes (integers), else a number.

    Classes are learned by cross-entropy, numbers by squared error.
    """
    import torch
    import torch.nn.functional as F

    model = _copied(subject)
    generator = torch.Generator().manual_seed(seed)
    width = int(subject.trial.architecture.d_model)  # type: ignore[attr-defined]
    start = torch.randn(width, generator=generator) / math.sqrt(width)
    head, bias = (t.to(subject.function.device).requires_grad_() for t in (start, torch.zeros(())))
    shape = subject.trial.architecture
    causal = not (shape.bidirectional or shape.prefix or shape.encoder_decoder)

    def outputs(texts: Filled, rows: np.ndarray) -> Tensor:
        lengths = texts.lengths[rows]
        hidden = states(subject, model, _tensor(subject, texts.tokens[rows]), lengths).float()
        at = _tensor(subject, lengths - 1 if causal else np.zeros_like(lengths))
        return hidden[torch.arange(len(rows), device=at.device), at] @ head + bias

    classes = wanted.dtype.kind == "i"
    target = _tensor(subject, wanted.astype(np.float32))

    def loss_of(rows: np.ndarray) -> Tensor:
        found, true = outputs(train, rows), target[_tensor(subject, rows)]
        return F.binary_cross_entropy_with_logits(found, true) if classes else F.mse_loss(found, true)

    parameters = [p.requires_grad_() for p in model.parameters()]
    torch.manual_seed(seed)
    _optimise([*parameters, head, bias], len(target), recipe, seed, loss_of)
    without_dropout(model)
    with torch.no_grad():
        parts = [outputs(test, rows).cpu().numpy() for rows in _slices(len(test.tokens), subject.windows_at_once)]
    return np.concatenate(parts).astype(np.float64)


def _slices(n: int, size: int) -> Iterator[np.ndarray]:
    for start in range(0, n, size):
        yield np.arange(start, min(n, start + size))


def text_to_text(
    subject: Subject, train: Filled, wanted: Sequence[str], test: Filled, recipe: Recipe, seed: int
) -> list[str]:
    """What a model with encoder and decoder writes for each test text, greedily, as long as the longest answer."""
    import torch

    model = _copied(subject)
    encode = subject.encoder.encode
    separator = subject.vocabulary.separator_id
    longest = max(len(encode(text)) for text in wanted)
    room = int(model.decoder.shape.seq_len)  # type: ignore[union-attr, arg-type]
    answers = fill([encode(text).astype(np.int64) for text in wanted], room, -1).tokens
    given = fill([np.append(separator, encode(t)[:-1]).astype(np.int64) for t in wanted], room, separator).tokens

    def loss_of(rows: np.ndarray) -> Tensor:
        nats = model(
            _tensor(subject, train.tokens[rows]),
            None,
            _tensor(subject, answers[rows]),
            decoder_inputs=_tensor(subject, given[rows]),
            lengths=_tensor(subject, train.lengths[rows]),
        )
        found: Tensor = nats.sum() / int((answers[rows] >= 0).sum())
        return found

    parameters = [p.requires_grad_() for p in model.parameters()]
    torch.manual_seed(seed)
    _optimise(parameters, len(answers), recipe, seed, loss_of)
    without_dropout(model)
    written = np.full((len(test.tokens), longest), separator)
    with torch.no_grad():
        for rows in _slices(len(test.tokens), subject.windows_at_once):
            sofar = np.full((len(rows), room), separator)
            told = _tensor(subject, test.lengths[rows])
            for place in range(longest):
                inputs = _tensor(subject, test.tokens[rows])
                logits = model.logits(inputs, _tensor(subject, sofar), told)  # type: ignore[operator]
                written[rows, place] = logits[:, place].argmax(-1).cpu().numpy()
                if place + 1 < room:
                    sofar[:, place + 1] = written[rows, place]
    table = {int(encode(c)[0]): c for c in {c for text in wanted for c in text}}
    return ["".join(table.get(int(t), "") for t in row) for row in written]
