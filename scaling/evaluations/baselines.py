"""Scores of what needs no pretraining, each found once for all runs that share it.

Runs of one shape, seed and tokenizer begin with the same weights whatever their objective and rate, and runs on one
corpus have the same text: their baselines are the same numbers, and cost as much as the score itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

from scaling.evaluations.text import backbone, opening
from scaling.spec import canonical_json

if TYPE_CHECKING:
    from scaling.evaluations.subject import Subject

T = TypeVar("T")


class Baselines:
    """What was found so far, by the name of the baseline and what it depends on; lives as long as its evaluation."""

    def __init__(self) -> None:
        self._found: dict[Hashable, Any] = {}

    def untrained(self, subject: Subject, score: Callable[[Subject], T]) -> T:
        """`score` of the run's model with the weights that its training began with."""
        fresh = subject.untrained()
        return self.once(initial_digest(fresh), lambda: score(fresh))

    def once(self, key: Hashable, score: Callable[[], T]) -> T:
        """What `score` gives, or gave before under this key."""
        if key not in self._found:
            self._found[key] = score()
        found: T = self._found[key]
        return found


def initial_digest(subject: Subject) -> str:
    """Names all that the hidden states of a text depend on, and which text: equal for runs that begin alike."""
    trial, model = subject.trial, subject.model_for(subject.seq_len)
    part = backbone(model)
    about = [
        type(part).__qualname__,
        canonical_json(trial.architecture),
        canonical_json(trial.tokenizer),
        str(opening(subject)),
        str(subject.row["data_digest"]),
        *(str(getattr(part, setting)) for setting in ("compute_dtype", "attention")),
    ]
    digest = sha256("\n".join(about).encode())
    for name, parameter in part.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()
