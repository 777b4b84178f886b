"""AdamW, fused: Loshchilov and Hutter 2019 (arXiv 1711.05101); matrices decay, gains and embeddings do not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scaling.optimizers.base import Optimizer

if TYPE_CHECKING:
    import torch


class AdamW(Optimizer):
    """Decoupled weight decay on matrices only."""

    type: Literal["adamw"] = "adamw"
    summary: ClassVar[str] = "AdamW, fused; weight decay on matrices only"
    source: ClassVar[str] = "Loshchilov and Hutter 2019 (arXiv 1711.05101)"

    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    beta2: float = Field(default=0.99, ge=0.0, lt=1.0)
    eps: float = Field(default=1e-8, gt=0.0)
    weight_decay: float = Field(default=0.1, ge=0.0)

    def build(self, parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> torch.optim.Optimizer:
        """See `Optimizer.build`."""
        import torch

        decayed: list[torch.nn.Parameter] = []
        kept: list[torch.nn.Parameter] = []
        for name, parameter in parameters:
            is_matrix = parameter.ndim >= 2 and "embedding" not in name
            (decayed if is_matrix else kept).append(parameter)
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": kept, "weight_decay": 0.0}]
        lr = torch.tensor(self.lr) if decayed and decayed[0].is_cuda else self.lr
        return torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=lr, betas=(self.beta1, self.beta2), eps=self.eps, fused=True
        )
