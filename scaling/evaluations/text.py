"""Sentences as a model reads them: log likelihoods, pseudo-log-likelihoods, and one vector for each.

A text stands as documents do in training, behind a separator and, where a model sees both sides, before one as well.
Shape suffixes: B sequences, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scaling.evaluations.base import Unserved
from scaling.evaluations.subject import LENGTH_STEP, TOKENS_AT_ONCE
from scaling.objectives.masking import Masking

if TYPE_CHECKING:
    from torch import Tensor, nn

    from scaling.evaluations.subject import Subject
    from scaling.trial import Trial

NOT_ENGLISH = {"python-v1": "source code", "markov": "a synthetic source"}
"""Corpora whose models can say nothing about English."""


def english(trial: Trial) -> str | None:
    """None where a run may have read English, else why it did not."""
    what = NOT_ENGLISH.get(trial.corpus.type)
    if what is None:
        return None
    return f"trained on {what} (corpus {trial.corpus.type}), which this task is not about; train on English"


def likelihood_of(trial: Trial) -> str | None:
    """None where a run's model gives a text a (pseudo-)log-likelihood, else the reason."""
    writes = isinstance(trial.objective, Masking) and trial.objective.type != "replaced_token"
    if trial.objective.type == "causal" or writes:
        return None
    return f"objective {trial.objective.type} gives a text no likelihood; use causal or masked"


class Filled(NamedTuple):
    """Sequences of tokens as one array, filled up at the end: `tokens` (B, T) int64 and `lengths` (B,) int64."""

    tokens: np.ndarray
    lengths: np.ndarray


def fill(sequences: Sequence[np.ndarray], length: int, filler: int) -> Filled:
    """Sequences of at most `length` tokens as one array."""
    tokens = np.full((len(sequences), length), filler, np.int64)
    for row, sequence in zip(tokens, sequences, strict=True):
        row[: len(sequence)] = sequence
    return Filled(tokens, np.array([len(s) for s in sequences], np.int64))


def by_length(sequences: Sequence[np.ndarray]) -> Iterator[list[int]]:
    """Indices of sequences of like length, so many at a time as are read at once."""
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    group: list[int] = []
    for index in order:
        if group and (len(group) + 1) * len(sequences[index]) > TOKENS_AT_ONCE:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def window_length(model: nn.Module, subject: Subject) -> int:
    """Tokens of the windows that a model takes."""
    shape = getattr(backbone(model), "shape", None)
    return int(getattr(shape, "seq_len", subject.seq_len))


def reader(subject: Subject, longest: int) -> tuple[nn.Module, int]:
    """The model with the shortest windows that hold texts of `longest` tokens, and the windows' length.

    What reads the text may take fewer tokens than the window of text that the model is trained on (span corruption).
    """
    asked = longest
    while True:
        model = subject.model_for(asked)
        length = window_length(model, subject)
        if length >= longest or asked >= subject.seq_len:
            return model, length
        asked += LENGTH_STEP


def backbone(model: nn.Module) -> Any:
    """The part of a model that reads text: it has `hidden` of (B, T) tokens. Raises Unserved where there is none."""
    for part in (model, *(getattr(model, name, None) for name in ("discriminator", "encoder", "model"))):
        if hasattr(part, "hidden"):
            return part
    raise Unserved(f"{type(model).__name__} gives no hidden states of a text")


def opening(subject: Subject) -> int:
    """The token before a text: [CLS] where the objective has one, else the separator of documents."""
    vocabulary = subject.vocabulary
    return vocabulary.size if subject.trial.objective.type == "masked_pairs" else vocabulary.separator_id


def scope(subject: Subject, lengths: np.ndarray) -> dict[str, Any]:
    """What a model that sees both sides must be told of texts that are filled up."""
    import torch

    shape = subject.trial.architecture
    given = torch.from_numpy(lengths).to(subject.function.device)
    if shape.prefix:
        return {"prefix": given}
    return {"lengths": given} if shape.bidirectional or shape.encoder_decoder else {}


def states(subject: Subject, model: nn.Module, inputs_BT: Tensor, lengths: np.ndarray) -> Tensor:
    """Final hidden states (B, T, D) of texts of which the first `lengths` (B,) tokens count."""
    part = backbone(model)
    found: Tensor = part.hidden(inputs_BT, **scope(subject, lengths))
    return found.transpose(0, 1) if getattr(part, "time_major", False) else found


def log_likelihoods(subject: Subject, texts: Sequence[np.ndarray]) -> np.ndarray:
    """Log likelihood of each text, (n,) nats: Σ log p(x_t | x_<t), or where the model sees both sides the pseudo one.

    The pseudo-log-likelihood is Σ log p(x_t | x_≠t), one masked position at a time (Salazar et al. 2020, arXiv
    1910.14659). A text too long for the window has NaN.
    """
    reason = likelihood_of(subject.trial)
    if reason is not None:
        raise Unserved(reason)
    pseudo = subject.trial.architecture.bidirectional
    room = subject.seq_len - (2 if pseudo else 0)
    found = np.full(len(texts), np.nan)
    kept = [i for i, text in enumerate(texts) if 0 < len(text) <= room]
    one = _pseudo if pseudo else _causal
    found[kept] = one(subject, [texts[i] for i in kept])
    return found


def _causal(subject: Subject, texts: Sequence[np.ndarray]) -> np.ndarray:
    """Σ log p(x_t | x_<t) of each text behind a separator, (n,)."""
    found = np.zeros(len(texts))
    separator = subject.vocabulary.separator_id
    for group in by_length(texts):
        own = [texts[i].astype(np.int64) for i in group]
        longest = max(map(len, own))
        model, length = reader(subject, longest)
        inputs = fill([np.concatenate([[separator], text[:-1]]) for text in own], length, separator)
        targets = fill(own, length, -1)
        found[group] = -_nats(subject, model, inputs.tokens, None, targets.tokens, {}).sum(axis=1)
    return found


def _pseudo(subject: Subject, texts: Sequence[np.ndarray]) -> np.ndarray:
    """Σ log p(x_t | x_≠t) of each text between separators, (n,)."""
    separator = subject.vocabulary.separator_id
    framed = [np.concatenate([[opening(subject)], text, [separator]]).astype(np.int64) for text in texts]
    return masked_nats(subject, framed, [np.arange(1, len(f) - 1) for f in framed], -1.0)


def masked_nats(
    subject: Subject, sequences: Sequence[np.ndarray], positions: Sequence[np.ndarray], sign: float = 1.0
) -> np.ndarray:
    """Σ over some positions of each sequence of −log p(x_t | x_≠t), each masked alone, times `sign`; (n,)."""
    owner = np.repeat(np.arange(len(sequences)), [len(p) for p in positions])
    place = np.concatenate([*positions, np.zeros(0, np.int64)]).astype(np.int64)
    copies = [sequences[i] for i in owner.tolist()]
    found = np.zeros(len(sequences))
    for group in by_length(copies):
        longest = max(len(copies[i]) for i in group)
        model, length = reader(subject, longest)
        filled = fill([copies[i] for i in group], length, subject.vocabulary.separator_id)
        at = place[group][:, None]
        targets = np.take_along_axis(filled.tokens, at, axis=1)
        np.put_along_axis(filled.tokens, at, subject.vocabulary.mask_id, axis=1)
        whole = (filled.lengths == length).all()
        told = {} if whole else scope(subject, filled.lengths)
        nats = _nats(subject, model, filled.tokens, at, targets, told)[:, 0]
        np.add.at(found, owner[group], sign * nats)
    return found


def _nats(
    subject: Subject,
    model: nn.Module,
    inputs: np.ndarray,
    positions: np.ndarray | None,
    targets: np.ndarray,
    told: dict[str, Any],
) -> np.ndarray:
    """Nats at each predicted position, (B, P) float64; 0 where the target is -1."""
    import torch

    device = subject.function.device
    given = [None if a is None else torch.from_numpy(a).to(device) for a in (inputs, positions, targets)]
    with torch.inference_mode():
        nats: np.ndarray = backbone(model)(*given, **told).double().cpu().numpy()
    return nats


def vectors(subject: Subject, texts: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of the final hidden states over each text's own tokens, (n, D) float64.

    A text longer than the window is read in pieces as long as it can take, and all its tokens count alike.
    """
    import torch

    separator = subject.vocabulary.separator_id
    both = subject.trial.architecture.bidirectional or subject.trial.architecture.encoder_decoder
    room = window_length(subject.model_for(subject.seq_len), subject) - (2 if both else 1)
    owner: list[int] = []
    pieces: list[np.ndarray] = []
    for index, text in enumerate(texts):
        for start in range(0, max(1, len(text)), room):
            end = [separator] if both else []
            pieces.append(np.concatenate([[opening(subject)], text[start : start + room], end]).astype(np.int64))
            owner.append(index)
    sums: np.ndarray | None = None
    counts = np.zeros(len(texts))
    for group in by_length(pieces):
        longest = max(len(pieces[i]) for i in group)
        model, length = reader(subject, longest)
        filled = fill([pieces[i] for i in group], length, separator)
        own = np.arange(length)[None] < filled.lengths[:, None] - (1 if both else 0)
        own[:, 0] = own.sum(axis=1) == 1  # An empty text is its separator.
        with torch.inference_mode():
            inputs = torch.from_numpy(filled.tokens).to(subject.function.device)
            hidden = states(subject, model, inputs, filled.lengths).double().cpu()
            total = torch.einsum("btd,bt->bd", hidden, torch.from_numpy(own).double()).numpy()
        if sums is None:
            sums = np.zeros((len(texts), total.shape[1]))
        np.add.at(sums, [owner[i] for i in group], total)
        np.add.at(counts, [owner[i] for i in group], own.sum(axis=1))
    assert sums is not None
    return sums / counts[:, None]
