"""AdamW: Loshchilov and Hutter 2019 (arXiv 1711.05101); matrices decay, gains and embeddings do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scaling.optimizers.base import Optimizer, Settings, Stretch
from scaling.parametrisation import STANDARD, Role

if TYPE_CHECKING:
    from torch import Tensor


class AdamW(Optimizer):
    """Decoupled weight decay on matrices only: θ ← θ(1 − lr·decay) − lr·m̂/(√v̂ + eps)."""

    type: Literal["adamw"] = "adamw"
    summary: ClassVar[str] = "AdamW, fused; weight decay on matrices only"
    source: ClassVar[str] = "Loshchilov and Hutter 2019 (arXiv 1711.05101)"

    beta1: float = Field(default=0.9, ge=0.0, lt=1.0)
    beta2: float = Field(default=0.99, ge=0.0, lt=1.0)
    eps: float = Field(default=1e-8, gt=0.0)
    weight_decay: float = Field(default=0.1, ge=0.0)

    def settings(self, name: str, shape: Sequence[int], role: Role = STANDARD) -> Settings:
        """See `Optimizer.settings`.

        A hidden matrix's rate falls with its fan-in and its decay grows with it, so that their product stays; eps falls
        with the gradient (Yang et al. 2022; Dey et al. 2025; see `scaling.parametrisation`).
        """
        is_matrix = len(shape) >= 2 and "embedding" not in name
        fan_in = role.width if role.kind == "hidden" else 1.0
        return Settings(
            weight_decay=self.weight_decay * fan_in if is_matrix else 0.0,
            lr_scale=1.0 / fan_in,
            eps_scale=1.0 / (role.width * role.depth),
        )

    def state(self, theta: Tensor) -> dict[str, Tensor]:
        """See `Optimizer.state`; first and second moments."""
        return {"exp_avg": theta.new_zeros(theta.shape), "exp_avg_sq": theta.new_zeros(theta.shape)}

    def update(
        self, theta: Tensor, grad: Tensor, state: dict[str, Tensor], stretches: Sequence[Stretch], step: int, lr: Tensor
    ) -> None:
        """See `Optimizer.update`; torch's own fused kernel for one model, the same formula by row for several."""
        import torch

        first, second = state["exp_avg"], state["exp_avg_sq"]
        if theta.ndim == 1:
            done = torch.tensor(float(step), device=theta.device)
            for start, stop, settings in stretches:
                part = slice(start, stop)
                torch._fused_adamw_(
                    [theta[part]],
                    [grad[part]],
                    [first[part]],
                    [second[part]],
                    [],
                    [done],
                    lr=lr * settings.lr_scale,
                    beta1=self.beta1,
                    beta2=self.beta2,
                    weight_decay=settings.weight_decay,
                    eps=self.eps * settings.eps_scale,
                    amsgrad=False,
                    maximize=False,
                )
            return
        first.lerp_(grad, 1.0 - self.beta1)
        second.mul_(self.beta2).addcmul_(grad, grad, value=1.0 - self.beta2)
        root = (second / (1.0 - self.beta2**step)).sqrt_()
        move = first / (1.0 - self.beta1**step)
        for start, stop, settings in stretches:
            rate = (lr * settings.lr_scale).unsqueeze(1)
            here, part = theta[:, start:stop], slice(start, stop)
            ratio = move[:, part].div_(root[:, part].add_(self.eps * settings.eps_scale))
            here.mul_(1.0 - rate * settings.weight_decay).sub_(rate * ratio)
