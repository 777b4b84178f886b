"""Other people's training code behind our sweeps: the contract between a sweep and a function of the user's own.

A sweep names it, `trainer: "package.module:function"`; the function takes a `Task` and returns a `Trained`, or None
where it was asked to stop and has saved what it needs to go on. Its name and version are part of the run's identity:
raise `version` when the code changes what a run yields.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import BeforeValidator, Field, field_validator

from scaling.errors import InputError
from scaling.spec import Frozen

if TYPE_CHECKING:
    import numpy as np

    from scaling.corpora.prepare import TokenizedCorpus
    from scaling.trial import Trial


class Trainer(Frozen):
    """A training function: where it is, and the version of what it does."""

    target: str
    """`package.module:function`, importable from the working directory."""
    version: str = Field(default="1", min_length=1, max_length=100)

    @field_validator("target")
    @classmethod
    def _names_a_function(cls, target: str) -> str:
        module, colon, function = target.partition(":")
        if not (colon and function.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise ValueError(f"cannot be {target[:60]!r}; write package.module:function")
        return target


def from_target(value: Any) -> Any:
    """The short form `package.module:function` as a mapping."""
    return {"target": value} if isinstance(value, str) else value


TrainerSpec = Annotated[Trainer, BeforeValidator(from_target)]


class Report(Protocol):
    """Notes a point of the training curve; steps must rise."""

    def __call__(
        self,
        step: int,
        train_loss: float,
        *,
        lr: float | None = None,
        grad_norm: float | None = None,
        loss: float | None = None,
    ) -> None:
        """Optimizer steps done, and nats per predicted token: of training, and held out (`loss`) where measured."""


@dataclass(frozen=True)
class Task:
    """What a training function is given.

    `folder` keeps what the function writes until the run ends, also across interruptions: look there first. `stop()`
    says True when it is time to save and return None; ask every second or so.
    """

    trial: Trial
    corpus: TokenizedCorpus
    device: str
    threads: int
    folder: Path
    report: Report
    stop: Callable[[], bool]

    @property
    def seed(self) -> int:
        """Seed of initialisation and data order."""
        return self.trial.seed

    @property
    def vocab_size(self) -> int:
        """Size of the vocabulary."""
        return self.corpus.vocabulary.size

    def batches(self, first_step: int = 0) -> Iterator[np.ndarray]:
        """(B, window) int64 tokens of each step from `first_step` on, in the order that our own trainer has.

        A window holds seq_len tokens, and one more where the objective predicts the next token.
        """
        import numpy as np

        from scaling.corpora.order import WindowOrder, check_supply, gather

        trial = self.trial
        seq_len = trial.architecture.seq_len
        unique = check_supply(trial.tokens, self.corpus, trial.corpus.unique_tokens, trial.repeat)
        window = trial.objective.window(seq_len)
        begins = self.corpus.document_starts(unique) if trial.objective.begins == "document" else None
        order = WindowOrder(unique, window, seq_len, trial.seed, begins)
        for step in range(first_step, trial.steps):
            yield gather(self.corpus.train, order.starts(step, trial.batch_windows), window).astype(np.int64)

    def heldout(self) -> np.ndarray:
        """(W, window) int64 tokens of the held-out windows that every run of the sweep is scored on."""
        import numpy as np

        seq_len = self.trial.architecture.seq_len
        objective = self.trial.objective
        held = self.corpus.heldout(objective.window(seq_len), seq_len, self.trial.heldout, objective.begins)
        return np.asarray(held.windows, np.int64)


@dataclass(frozen=True)
class Trained:
    """What a training function returns: the held-out loss, nats per predicted token, and what else it knows.

    Left out, size, tokens and FLOPs are those of the trial. `params` maps total, non_embedding, non_embedding_head;
    `notes` are plain JSON values for the row's provenance. A loss that is not finite makes the run `diverged`.
    """

    loss: float
    loss_se: float | None = None
    train_loss: float | None = None
    tokens: int | None = None
    flops: float | None = None
    params: Mapping[str, int] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


Function = Callable[[Task], Trained | None]


def resolve(trainer: Trainer) -> Function:
    """The function that a trainer names.

    Raises:
        InputError: it cannot be imported, is not there, cannot be called, or does not take a task.
    """
    name, _, attribute = trainer.target.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(name)
    except Exception as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        missing = absent is not None and (name == absent or name.startswith(f"{absent}."))
        what = f"there is no module {absent}" if missing else f"importing it raises {type(error).__name__}: {error}"
        mend = "; run from the folder that holds it, or install it" if missing else ""
        raise InputError(f"trainer {trainer.target}: {what}{mend}") from None
    if not hasattr(module, attribute):
        known = ", ".join(n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == name)
        raise InputError(f"trainer {trainer.target}: {name} has no {attribute}; it has {known or 'no functions'}")
    function = getattr(module, attribute)
    if not callable(function):
        raise InputError(f"trainer {trainer.target}: is {type(function).__name__}, not a function")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise InputError(f"trainer {trainer.target}: must return a Trained; it is a generator or a coroutine")
    try:
        inspect.signature(function).bind(object())
    except (TypeError, ValueError):
        shown = f"{attribute}{_signature(function)}"
        raise InputError(f"trainer {trainer.target}: must take one argument, a scaling.trainer.Task: {shown}") from None
    checked: Function = function
    return checked


def _signature(function: Any) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "(…)"
