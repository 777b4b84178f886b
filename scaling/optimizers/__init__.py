"""The optimizers: one file a member, found by their `type` tag."""

from typing import TYPE_CHECKING

from scaling.optimizers.base import Optimizer
from scaling.spec import family

if TYPE_CHECKING:
    OptimizerSpec = Optimizer
else:
    OptimizerSpec = family(__name__, Optimizer)

__all__ = ["Optimizer", "OptimizerSpec"]
