"""The model's step: per-position losses of a batch, eager or compiled, one compiled graph at a time in a process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from scaling.job import Execution
from scaling.objectives.base import Batch
from scaling.trial import Trial

_TORCH_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}


class StepFunction:
    """A model and its per-position loss, compiled or not; shared by the trials of one shape in this process."""

    _held: tuple[tuple[Any, ...], StepFunction] | None = None

    def __init__(self, trial: Trial, vocab_size: int, execution: Execution) -> None:
        device = torch.device(execution.device)
        master = torch.float64 if trial.precision == "fp64" else torch.float32
        self.model = trial.architecture.build(vocab_size, trial.seed).to(device=device, dtype=master)
        self.model.compute_dtype = _TORCH_DTYPES[trial.precision]
        self.model.fused_attention = execution.attention == "sdpa"
        self.device = device
        self.compile_s = 0.0
        self.run: Callable[..., torch.Tensor] = self.model
        if execution.compiled:
            self.run = torch.compile(self.model, fullgraph=True, dynamic=False)

    @classmethod
    def of(cls, trial: Trial, vocab_size: int, execution: Execution) -> StepFunction:
        """The function for this shape: the one in hand with fresh weights, or a new one after a compiler reset."""
        key = (trial.architecture, trial.objective, vocab_size, trial.precision, execution)
        if cls._held is not None and cls._held[0] == key:
            function = cls._held[1]
            fresh = trial.architecture.build(vocab_size, trial.seed)
            function.model.load_state_dict(fresh.state_dict())
            function.compile_s = 0.0
        else:
            if cls._held is not None and cls._held[0][-1].compiled:
                torch._dynamo.reset()
            function = cls(trial, vocab_size, execution)
            cls._held = (key, function)
        function.model.train()
        function.model.zero_grad(set_to_none=False)
        return function

    def losses(self, batch: Batch) -> torch.Tensor:
        """Nats at each predicted position, (B, P)."""
        inputs, positions, targets = (None if a is None else torch.from_numpy(a) for a in batch)
        if self.device.type == "cuda":
            inputs, positions, targets = (
                None if a is None else a.pin_memory().to(self.device, non_blocking=True)
                for a in (inputs, positions, targets)
            )
        return self.run(inputs, positions, targets)

    def warm_up(self, batch: Batch) -> None:
        """Compiles the training graph on one batch and throws the gradients away; the weights do not move."""
        started = time.perf_counter()
        self.losses(batch).sum().backward()
        self.model.zero_grad(set_to_none=False)
        self.compile_s += time.perf_counter() - started
