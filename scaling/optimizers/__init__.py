"""The optimizers: one file a member, found by their `type` tag."""

from typing import TYPE_CHECKING

from scaling.spec import family
from scaling.optimizers.base import Optimizer

if TYPE_CHECKING:
    OptimizerSpec = Optimizer
else:
    OptimizerSpec = family(__name__, Optimizer)

__all__ = ["Optimizer", "OptimizerSpec"]
