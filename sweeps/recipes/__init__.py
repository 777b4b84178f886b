"""The recipes: one file a member, found by their `type` tag."""

from typing import TYPE_CHECKING

from scaling.spec import family
from sweeps.recipes.base import Recipe

if TYPE_CHECKING:
    RecipeSpec = Recipe
else:
    RecipeSpec = family(__name__, Recipe)

__all__ = ["Recipe", "RecipeSpec"]
