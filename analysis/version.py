"""The installed version of the distribution, looked up once."""

from __future__ import annotations

from functools import cache


@cache
def version() -> str:
    """Such as "0.1.0"; "unknown" where the package runs uninstalled."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("scaling-lab")
    except PackageNotFoundError:
        return "unknown"
