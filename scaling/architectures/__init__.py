"""The architectures: one file a member, found by their `type` tag."""

from typing import TYPE_CHECKING

from scaling.spec import family
from scaling.architectures.base import Architecture

if TYPE_CHECKING:
    ArchitectureSpec = Architecture
else:
    ArchitectureSpec = family(__name__, Architecture)

__all__ = ["Architecture", "ArchitectureSpec"]
