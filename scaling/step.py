"""The training step of one model, or of several of one shape side by side: losses and gradients, eager or compiled.

All parameters are one flat float32 tensor `theta`, (N,), or (S, N) for S models; so are the gradients. The compiled
step is one graph, forward and backward together, traced once for a shape: no autograd bookkeeping runs between its
parts, loss and its gradient are one pass over the logits, and nothing is kept for a backward pass that comes later.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from scaling.architectures.base import Architecture
from scaling.job import Execution
from scaling.models.cross_entropy import by_kernel
from scaling.models.dropout import Kept, draw, in_force
from scaling.objectives.base import Batch
from scaling.optimizers.base import Optimizer, Settings, Stretch
from scaling.trial import Trial

KEPT = "dropout_kept"
"""Name of a micro-batch's draws among its tensors."""
_TORCH_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}


class Layout:
    """Where each parameter of a model lies in the flat tensor; those of equal settings lie side by side."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, architecture: Architecture) -> None:
        by_settings: dict[Settings, list[tuple[str, torch.Size]]] = {}
        for name, parameter in model.named_parameters():
            settings = optimizer.settings(name, parameter.shape, architecture.role(name, parameter.shape))
            by_settings.setdefault(settings, []).append((name, parameter.shape))
        self.parts: dict[str, tuple[int, torch.Size]] = {}
        self.stretches: list[Stretch] = []
        at = 0
        for settings, members in by_settings.items():
            start = at
            for name, shape in members:
                self.parts[name] = (at, shape)
                at += shape.numel()
            self.stretches.append(Stretch(start, at, settings))
        self.size = at

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Each parameter's part of a flat tensor (N,) or (S, N), in its own shape, with the leading S."""
        lead = flat.shape[:-1]
        return {
            name: flat[..., start : start + shape.numel()].view(*lead, *shape)
            for name, (start, shape) in self.parts.items()
        }

    def flatten(self, tensors: dict[str, Tensor]) -> Tensor:
        """The inverse of `views`."""
        return torch.cat([tensors[name].flatten(start_dim=-len(shape)) for name, (_, shape) in self.parts.items()], -1)


class Step(NamedTuple):
    """One micro-batch's result: summed loss of each model, () or (S,); the flat gradient is where it was asked for."""

    loss: Tensor
    grad: Tensor


class StepFunction:
    """Losses and gradients of a shape in this process; `theta` is the caller's."""

    _held: tuple[tuple[Any, ...], StepFunction] | None = None

    def __init__(self, trial: Trial, vocab_size: int, execution: Execution) -> None:
        self.device = torch.device(execution.device)
        self.master = torch.float64 if trial.precision == "fp64" else torch.float32
        self.pack, self.compiled = execution.pack, execution.compiled
        self.model = trial.objective.build(trial.architecture, vocab_size, trial.seed).to(
            device=self.device, dtype=self.master
        )
        self.model.compute_dtype = _TORCH_DTYPES[execution.compute or trial.precision]
        self.model.attention = execution.attention
        self.model.compiled = execution.compiled
        self.layout = Layout(self.model, trial.optimizer, trial.architecture)
        self.buffers = dict(self.model.named_buffers())
        self.native_loss = execution.loss == "native"
        self.dropout: float = getattr(trial.architecture, "dropout", 0.0) if execution.dropout == "ahead" else 0.0
        """Share for which draws are made here, ahead of each micro-batch."""
        self._to_draw: dict[Any, int] = {}
        self.compile_s = 0.0
        self._graphs: dict[Any, Callable[..., Any]] = {}

    @classmethod
    def of(cls, trial: Trial, vocab_size: int, execution: Execution) -> StepFunction:
        """The function for this shape: the one in hand, or a new one after the old one's graphs are dropped."""
        settings = trial.optimizer.model_copy(update={"lr": 1.0})
        key = (trial.architecture, trial.objective, settings, vocab_size, trial.precision, execution)
        if cls._held is None or cls._held[0] != key:
            if cls._held is not None and cls._held[1].compiled:
                torch._dynamo.reset()
            cls._held = (key, cls(trial, vocab_size, execution))
        function = cls._held[1]
        function.compile_s = 0.0
        return function

    def initial(self, trials: Sequence[Trial], vocab_size: int) -> Tensor:
        """Initial parameters: (N,) of one trial, (S, N) of several."""
        flats = []
        for trial in trials:
            fresh = trial.objective.build(trial.architecture, vocab_size, trial.seed)
            flats.append(self.layout.flatten({name: p.detach() for name, p in fresh.named_parameters()}))
        flat = flats[0] if self.pack == 1 else torch.stack(flats)
        return flat.to(device=self.device, dtype=self.master)

    def to_device(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """A micro-batch as tensors by name (see `Batch.named`); stacked for a pack."""
        columns = [b.named() for b in batches]
        arrays = {n: a if self.pack == 1 else np.stack([c[n] for c in columns]) for n, a in columns[0].items()}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
        if self.device.type == "cuda":
            tensors = {n: t.pin_memory().to(self.device, non_blocking=True) for n, t in tensors.items()}
        return tensors

    def step(self, theta: Tensor, batch: Mapping[str, Tensor], scale: Tensor, key: Sequence[int] = (0,)) -> Step:
        """Summed loss times `scale` () and its gradient for one micro-batch, dropout and all.

        Dropout's draws are a function of `key` where they are made ahead, else torch's next.
        """
        return Step(*self._call("train", self._train, theta, self._with_draws("train", theta, batch, key), scale))

    def losses(self, theta: Tensor, batch: Mapping[str, Tensor], key: Sequence[int] = (0,)) -> Tensor:
        """Nats at each predicted position, (B, P) or (S, B, P), without dropout but where the loss needs it."""
        batch = self._with_draws("losses", theta, batch, key)
        found: Tensor = self._call("losses", self._losses, theta, batch)[0]
        return found

    def _with_draws(
        self, name: str, theta: Tensor, batch: Mapping[str, Tensor], key: Sequence[int]
    ) -> Mapping[str, Tensor]:
        """The batch with what its dropouts keep, where that is drawn here."""
        if not self.dropout:
            return batch
        shapes = (name, tuple((n, t.shape) for n, t in batch.items()))
        if shapes not in self._to_draw:
            counted = Kept(None, self.dropout)
            self.model.train(name == "train")
            with torch.no_grad():
                self._nats(self.layout.views(theta), tuple(batch), [*batch.values(), *self.buffers.values()], counted)
            self._to_draw[shapes] = counted.used
        number = self._to_draw[shapes]
        return {**batch, KEPT: draw(number, self.dropout, key).to(self.device)} if number else batch

    def warm_up(self, theta: Tensor, batch: Mapping[str, Tensor]) -> None:
        """Compiles the training graph on one batch; nothing is changed by it."""
        self.step(theta, batch, torch.ones((), device=self.device))

    def _call(
        self, name: str, function: Callable[..., Any], theta: Tensor, batch: Mapping[str, Tensor], *rest: Tensor
    ) -> Any:
        names = tuple(batch)
        function = functools.partial(function, names)
        arguments = [theta, *rest, *batch.values(), *self.buffers.values()]
        if not self.compiled:
            with torch.no_grad():
                return function(*arguments)
        key = (name, tuple((n, t.shape) for n, t in batch.items()))
        if key not in self._graphs:
            started = time.perf_counter()
            self._graphs[key] = _compile(function, arguments)
            with torch.no_grad():
                found = self._graphs[key](*arguments)
            self.compile_s += time.perf_counter() - started
            return found
        with torch.no_grad():
            return self._graphs[key](*arguments)

    def _nats(
        self,
        weights: Mapping[str, Tensor],
        names: Sequence[str],
        arguments: Sequence[Tensor],
        kept: Kept | None = None,
    ) -> Tensor:
        """What the model returns with these weights; `arguments` are a batch's tensors and the model's constants.

        Its dropouts take `kept`, or where that is None the batch's own draws, if it has any.
        """
        batch = dict(zip(names, arguments[: len(names)], strict=True))
        constants = dict(zip(self.buffers, arguments[len(names) :], strict=True))
        if KEPT in batch:
            kept = Kept(batch.pop(KEPT), self.dropout)
        fixed = (batch.pop("inputs"), batch.pop("positions", None), batch.pop("targets"))
        with in_force(kept), by_kernel(self.native_loss):
            found: Tensor = torch.func.functional_call(self.model, {**weights, **constants}, fixed, batch)
        return found

    def _train(self, names: Sequence[str], theta: Tensor, scale: Tensor, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        self.model.train()
        leaves = {name: v.detach().requires_grad_() for name, v in self.layout.views(theta).items()}
        with torch.enable_grad():
            losses = self._nats(leaves, names, arguments)
            loss = losses.sum() if self.pack == 1 else losses.flatten(1).sum(1) if losses.ndim > 1 else losses
            grads = torch.autograd.grad((loss * scale).sum(), list(leaves.values()))
        return (loss * scale).detach(), self.layout.flatten(dict(zip(leaves, grads, strict=True)))

    def _losses(self, names: Sequence[str], theta: Tensor, *arguments: Tensor) -> tuple[Tensor]:
        self.model.eval()
        return (self._nats(self.layout.views(theta), names, arguments),)


def _compile(function: Callable[..., Any], arguments: Sequence[Tensor]) -> Callable[..., Any]:
    """One graph of `function` for these shapes; the compiler keeps its results on disk by graph."""
    from torch._inductor.compile_fx import compile_fx
    from torch._inductor.decomposition import select_decomp_table
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(function, decomposition_table=select_decomp_table(), tracing_mode="fake")(*arguments)
    compiled: Callable[..., Any] = compile_fx(graph, list(arguments))
    return compiled
