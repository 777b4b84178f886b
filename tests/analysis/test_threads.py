"""Small linear algebra takes one thread, and the process's own setting comes back."""

from __future__ import annotations

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_info

from analysis import fit
from analysis.threads import one_thread


def _threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_one_thread_within_and_as_before_after() -> None:
    import scipy.linalg

    scipy.linalg.norm(np.ones(3))
    with one_thread():
        before = _threads()
        assert before
        assert set(before) == {1}
    after = _threads()
    with one_thread():
        pass
    assert _threads() == after


def test_a_fit_leaves_the_setting_alone() -> None:
    x = np.geomspace(1e4, 1e6, 8)
    with one_thread():
        pass
    before = _threads()
    fit(pd.DataFrame({"params": x, "loss": 2.0 * x**-0.1}), law="power:params", bootstrap=20)
    assert _threads() == before
