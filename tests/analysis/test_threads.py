"""Small linear algebra takes one thread, and the process's own setting comes back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.linalg  # noqa: F401  scipy has a BLAS of its own
from threadpoolctl import threadpool_info, threadpool_limits

from analysis import fit
from analysis.threads import one_thread


def _threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_one_thread_within_and_as_before_after() -> None:
    with threadpool_limits(2, user_api="blas"):
        with one_thread():
            assert set(_threads()) == {1}
        assert set(_threads()) == {2}


def test_a_fit_leaves_the_setting_alone() -> None:
    x = np.geomspace(1e4, 1e6, 8)
    with threadpool_limits(2, user_api="blas"):
        fit(pd.DataFrame({"params": x, "loss": 2.0 * x**-0.1}), law="power:params", bootstrap=20)
        assert set(_threads()) == {2}
