"""The store: one parquet row per finished run, published once and checked by digest at every read.

Names are imported on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling.store.maintenance import compact, gc, verify
    from scaling.store.merging import merge
    from scaling.store.store import Store

__all__ = ["Store", "compact", "gc", "merge", "verify"]

_HOMES = {"Store": "store", "compact": "maintenance", "gc": "maintenance", "merge": "merging", "verify": "maintenance"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
