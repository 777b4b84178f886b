"""Where caches live: $SCALING_CACHE, else $XDG_CACHE_HOME/scaling-lab, else ~/.cache/scaling-lab."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The cache folder (not created). Everything in it can be deleted and is made again."""
    if explicit := os.environ.get("SCALING_CACHE"):
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaling-lab"
