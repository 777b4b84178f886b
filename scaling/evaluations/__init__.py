"""The evaluations made after training, from kept final weights: one file a member, found by its `type` tag."""

from typing import TYPE_CHECKING

from scaling.evaluations.base import Evaluation
from scaling.spec import family

if TYPE_CHECKING:
    EvaluationSpec = Evaluation
else:
    EvaluationSpec = family(__name__, Evaluation)

__all__ = ["Evaluation", "EvaluationSpec"]
