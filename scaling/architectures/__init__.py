"""The architectures: one file a member, found by their `type` tag."""

from typing import TYPE_CHECKING

from scaling.architectures.base import Architecture
from scaling.spec import family

if TYPE_CHECKING:
    ArchitectureSpec = Architecture
else:
    ArchitectureSpec = family(__name__, Architecture)

__all__ = ["Architecture", "ArchitectureSpec"]
