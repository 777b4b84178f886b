"""The designs: one file a member, found by their `type` tag."""

from typing import TYPE_CHECKING

from scaling.spec import family
from sweeps.designs.base import Cell, Context, Design

if TYPE_CHECKING:
    DesignSpec = Design
else:
    DesignSpec = family(__name__, Design)

__all__ = ["Cell", "Context", "Design", "DesignSpec"]
