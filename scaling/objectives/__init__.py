"""The objectives: one file a member, found by their `type` tag."""

from typing import TYPE_CHECKING

from scaling.objectives.base import Objective
from scaling.spec import family

if TYPE_CHECKING:
    ObjectiveSpec = Objective
else:
    ObjectiveSpec = family(__name__, Objective)

__all__ = ["Objective", "ObjectiveSpec"]
