"""A finished run put together again from its stored spec and kept final weights, ready to be measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from scaling.corpora.prepare import TokenizedCorpus, prepare
from scaling.errors import CorpusError
from scaling.evaluate import MASK_SEED, take
from scaling.evaluations.base import Unserved
from scaling.job import Execution
from scaling.objectives.base import Batch, Vocabulary
from scaling.trial import Trial

if TYPE_CHECKING:
    from torch import Tensor, nn

    from scaling.step import StepFunction
    from scaling.store import Store
    from scaling.tokenizers.base import Encoder

TOKENS_AT_ONCE = 4096
"""Tokens in one forward pass: activations still fit a core's cache."""

LENGTH_STEP = 16
"""Sentences are filled up to a multiple of this many tokens, so that few models are made."""

KEEP = "train it with `keep: final` in the sweep"
_MODEL = "model."


def trial_of(row: Mapping[str, Any]) -> Trial:
    """The trial of a stored row. Raises Unserved where this version cannot read it."""
    try:
        return Trial.model_validate_json(row["spec"])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "spec"
        raise Unserved(f"its spec is not one this version knows ({place}: {first['msg']}); upgrade") from None


def without_dropout(model: nn.Module) -> nn.Module:
    """The model, evaluating: not by `eval`, which leaves dropout on in a model whose loss needs it."""
    for part in model.modules():
        part.training = False
    return model


class Subject:
    """One run's model with its trained weights, on one thread, eager, in the precision it was trained in."""

    def __init__(self, row: Mapping[str, Any], trial: Trial, tensors: Mapping[str, Tensor]) -> None:
        self.row, self.trial = row, trial
        self.run_id = str(row["run_id"])
        self.vocab_size = int(row["vocab_size"])
        self.seq_len = trial.architecture.seq_len
        self.weights = {n.removeprefix(_MODEL): t for n, t in tensors.items() if n.startswith(_MODEL)}
        self.function = self._function()
        self._models: dict[int, nn.Module] = {}
        self.theta = self.function.layout.flatten(self.weights).to(self.function.device, self.function.master)

    @classmethod
    def load(cls, store: Store, row: Mapping[str, Any], trial: Trial) -> Subject:
        """The run of a row from what the store keeps.

        Raises:
            Unserved: the weights were not kept, or are not those of the trial's model.
        """
        if trial.trainer is not None:
            raise Unserved("trained by the user's own code, whose model is not known here")
        held = store.final_weights(str(row["run_id"]))
        if held is None:
            raise Unserved(f"its final weights were not kept; {KEEP}")
        return cls(row, trial, held[0])

    def _function(self) -> StepFunction:
        import torch

        from scaling.execution import put_in_force
        from scaling.models import cross_entropy
        from scaling.models.attention import available
        from scaling.step import StepFunction

        shape = self.trial.architecture
        made = Execution.model_validate_json(self.row["execution"])
        heads = getattr(shape, "n_head", 0)
        plain = made.attention == "native" and not (heads and available(getattr(shape, "d_model", 0) // heads))
        execution = made.model_copy(
            update={
                "compiled": False,
                "pack": 1,
                "threads": 1,
                "device": made.device if torch.cuda.is_available() else "cpu",
                "attention": "manual" if plain else made.attention,
                "loss": made.loss if made.loss and cross_entropy.available() else None,
            }
        )
        put_in_force(execution)
        function = StepFunction(self.trial, self.vocab_size, execution)
        wanted = {name: tuple(shape) for name, (_, shape) in function.layout.parts.items()}
        given = {name: tuple(tensor.shape) for name, tensor in self.weights.items()}
        if wanted != given:
            odd = sorted(set(wanted.items()) ^ set(given.items()))[0][0]
            raise Unserved(f"its weights are not those of its model (parameter {odd} differs); run its sweep again")
        return function

    def untrained(self) -> Subject:
        """The same model with the weights that its training began with."""
        fresh = self.trial.objective.build(self.trial.architecture, self.vocab_size, self.trial.seed)
        return Subject(self.row, self.trial, {f"{_MODEL}{n}": p.detach() for n, p in fresh.named_parameters()})

    @cached_property
    def encoder(self) -> Encoder:
        """The tokenizer, made ready."""
        tokenizer = self.trial.tokenizer
        return tokenizer.load("" if tokenizer.type == "byte" else self.corpus.saved_tokenizer)

    def model_for(self, length: int) -> nn.Module:
        """The model with its weights, for windows of at least `length` tokens where it serves such, else of its own.

        Shorter windows than the trained ones save most of the work on sentences; learned positions are cut.
        """
        length = min(self.seq_len, -(-length // LENGTH_STEP) * LENGTH_STEP)
        if length not in self._models:
            self._models[length] = self._model(length) or self.model_for(self.seq_len)
        return self._models[length]

    def _model(self, length: int) -> nn.Module | None:
        import torch

        trial, trained = self.trial, self.function.model
        shape = trial.architecture.model_copy(update={"seq_len": length})
        if trial.objective.serves(shape) is not None:
            return None
        model = trial.objective.build(shape, self.vocab_size, trial.seed).to(self.function.device, self.function.master)
        for setting in ("compute_dtype", "attention", "compiled"):
            setattr(model, setting, getattr(trained, setting))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                weight = self.weights[name]
                if name.endswith("position_embedding"):
                    weight = weight[: len(parameter)]
                if weight.shape != parameter.shape:
                    return None
                parameter.copy_(weight)
        return without_dropout(model)

    @cached_property
    def corpus(self) -> TokenizedCorpus:
        """The corpus that the run was trained on. Raises Unserved where it is not what it was."""
        try:
            found = prepare(self.trial.corpus, self.trial.tokenizer)
        except CorpusError as error:
            raise Unserved(f"its corpus cannot be read: {error}") from error
        if found.digest != self.row["data_digest"]:
            raise Unserved(
                f"corpus {self.trial.corpus.type} is not what the run was trained on: digest {self.row['data_digest']}"
                f" then, {found.digest} now; restore the text, or import the corpus"
            )
        return found

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The run's vocabulary; that of bytes needs no corpus."""
        return self.encoder.vocabulary

    @property
    def windows_at_once(self) -> int:
        """Windows in one forward pass: whole groups of those that are scored together."""
        group = self.trial.objective.scored_together
        return max(1, TOKENS_AT_ONCE // self.seq_len // group) * group

    def nats(self, batch: Batch) -> np.ndarray:
        """Nats at each predicted position, (B, P) float64; 0 where the target is -1."""
        found = self.function.losses(self.theta, self.function.to_device([batch]), (MASK_SEED,))
        return found.double().cpu().numpy()

    def scored(self, windows: np.ndarray) -> Iterator[tuple[Batch, np.ndarray]]:
        """The held-out batches of (W, window) tokens, masked as in the run's own evaluation, with their nats (W, P)."""
        rng = np.random.Generator(np.random.Philox(key=np.array([MASK_SEED, 0], dtype=np.uint64)))
        size = self.windows_at_once
        for batch in self.trial.objective.heldout_batches(windows, self.vocabulary, rng):
            parts = [self.nats(take(batch, slice(at, at + size))) for at in range(0, len(windows), size)]
            yield batch, np.concatenate(parts)
