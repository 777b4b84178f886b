"""One thread for linear algebra on matrices as small as a law has parameters.

On a loaded machine a second thread of BLAS waits far longer for its turn than such a product takes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[Any]:
    """Within it numpy's and scipy's BLAS use one thread each; the process's setting is put back after it."""
    return _pools().limit(limits=1, user_api="blas")


@cache
def _pools() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  scipy brings a BLAS of its own, which has to be there to be found
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
