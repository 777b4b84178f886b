"""Reading tables: what is accepted, and one clear error, naming the row, for what is not."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from analysis import fit, read_table
from analysis.where import select_rows
from scaling.errors import InputError, TableError

PLAIN = pd.DataFrame({"params": [1e6, 2e6, 4e6], "tokens": [1e9, 2e9, 3e9], "loss": [3.0, 2.9, 2.8]})


def stored(**columns) -> pd.DataFrame:
    """Rows as a store has them, as far as the analysis reads them."""
    n = 4
    base = {
        "run_id": [f"{i:016x}" for i in range(n)],
        "lineage": ["a", "a", "b", "c"],
        "status": ["finished"] * n,
        "reason": [""] * n,
        "objective": ["causal"] * n,
        "data_digest": ["d1"] * n,
        "budget": [1e12, 2e12, 1e12, 1e12],
        "params_total": [100, 100, 200, 400],
        "params_non_embedding": [60, 60, 150, 330],
        "params_non_embedding_head": [80, 80, 170, 350],
        "flops_exact": [1e12, 2e12, 1.001e12, 0.999e12],
        "flops_6nd_total": [9e11, 18e11, 9e11, 9e11],
        "flops_6nd_non_embedding": [5e11, 10e11, 7e11, 7.5e11],
        "flops_6nd_non_embedding_head": [7e11, 14e11, 8e11, 8e11],
        "tokens": [1000, 2000, 500, 250],
        "loss": [2.0, 1.9, 1.8, 1.85],
        "loss_se": [0.01, 0.01, np.nan, 0.01],
    }
    return pd.DataFrame({**base, **columns})


def write(tmp_path, text: str):
    path = tmp_path / "runs.csv"
    path.write_text(text)
    return path


def test_csv_with_other_names(tmp_path):
    path = write(tmp_path, "N,D,L,who\n1e6,1e9,3.0,me\n2e6,2e9,2.9,me\n")
    runs = read_table(path, columns={"params": "N", "tokens": "D", "loss": "L"})
    np.testing.assert_array_equal(runs.params("non_embedding"), [1e6, 2e6])
    np.testing.assert_array_equal(runs.flops("exact"), [6e15, 24e15])
    np.testing.assert_array_equal(runs.lineage, [0, 1])


def test_parquet_and_own_flops(tmp_path):
    PLAIN.assign(flops=[1e16, 2e16, 3e16]).to_parquet(tmp_path / "runs.parquet")
    runs = read_table(tmp_path / "runs.parquet")
    np.testing.assert_array_equal(runs.flops("exact"), [1e16, 2e16, 3e16])
    np.testing.assert_array_equal(runs.flops("6nd"), 6 * PLAIN["params"] * PLAIN["tokens"])


def test_rows_of_a_store_switch_convention():
    runs = read_table(stored())
    np.testing.assert_array_equal(runs.params("non_embedding_head"), [80, 80, 170, 350])
    np.testing.assert_array_equal(runs.flops("6nd", "non_embedding"), [5e11, 10e11, 7e11, 7.5e11])
    assert runs.flops("exact", "non_embedding")[1] == 2e12
    np.testing.assert_array_equal(runs.lineage, [0, 0, 1, 2])
    np.testing.assert_array_equal(runs.budget, [0, 1, 0, 0])
    with pytest.raises(InputError, match="did you mean non_embedding"):
        runs.params("non_embeding")


def test_unfinished_runs_are_left_out_with_their_reason():
    table = stored(status=["finished", "diverged", "failed", "finished"], reason=["", "loss is NaN", "", ""])
    table.loc[1, "loss"] = np.nan
    runs = read_table(table)
    assert len(runs) == 2
    assert [d.reason for d in runs.dropped] == ["diverged: loss is NaN", "failed"]
    assert runs.dropped[0].row == table["run_id"][1]


def test_budgets_are_groups_of_equal_flops():
    table = pd.DataFrame(
        {"params": [1.0, 2, 4, 8], "tokens": 1e3, "loss": 2.0, "flops": [1.0e12, 1.04e12, 1.2e12, 1.21e12]}
    )
    np.testing.assert_array_equal(read_table(table).budget, [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("params,tokens,loss\n1e6,1e9,3\n2e6,1e9,nan\n", "line 3: loss is nan"),
        ("params,tokens,loss\n1e6,1e9,3\n\n2e6,1e9,0\n", "line 4: loss is 0"),
        ("params,tokens,loss\n1e6,-5,3\n", "line 2: tokens is -5"),
        ("params,tokens,loss\n0,5,3\n", "line 2: params is 0"),
        ("params,tokens,loss\n1,5,inf\n", "line 2: loss is inf"),
        ("params,tokens,loss\nmany,5,3\n", "line 2: params is many"),
        ("params,token,loss\n1,5,3\n", "no column 'tokens' .did you mean 'token'"),
        ("params,tokens,loss\n", "no rows"),
        ("", "cannot be read"),
    ],
)
def test_bad_tables_are_one_clear_error(tmp_path, text, message):
    with pytest.raises(TableError, match=message) as caught:
        read_table(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_missing_file_and_unknown_names(tmp_path):
    with pytest.raises(TableError, match="no such file"):
        read_table(tmp_path / "nothing.csv")
    with pytest.raises(TableError, match="no column of ours"):
        read_table(PLAIN, columns={"parms": "params"})
    with pytest.raises(TableError, match="no column 'N'"):
        read_table(PLAIN, columns={"params": "N"})


def test_unlike_rows_are_not_mixed():
    with pytest.raises(TableError, match=r"where \"objective == 'causal'\""):
        read_table(stored(objective=["causal", "causal", "masked", "masked"]))
    mixed = stored(data_digest=["d1", "d1", "d2", "d2"])
    with pytest.raises(TableError, match="2 different data sets"):
        read_table(mixed)
    assert len(read_table(mixed, allow_mixed_data=True)) == 4
    assert len(read_table(mixed, where="data_digest == 'd1'")) == 2


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("params > 1.5e6", [1, 2]),
        ("params > 1e6 and not loss < 2.85", [1]),
        ("1e6 < params < 3e6 or loss == 2.8", [1, 2]),
        ("tokens / params > 900", [0, 1]),
        ("(params == 1e6) | (params == 4e6)", [0, 2]),
        ("name in ['a', 'c']", [0, 2]),
        ("name not in ['a'] and params < -(-3e6)", [1]),
    ],
)
def test_where_selects(expression, rows):
    frame = PLAIN.assign(name=["a", "b", "c"])
    np.testing.assert_array_equal(np.flatnonzero(select_rows(frame, expression)), rows)


@pytest.mark.parametrize(
    "expression",
    ["__import__('os')", "params.__class__", "@x > 1", "params >", "prams > 1", "params", "params[0] > 1", "name > 1",
     "lambda: 1", "[p for p in params]", "params in 'abc'", "params and tokens", "f'{params}' == 'a'",
     "params // 2 > 1"],
)  # fmt: skip
def test_where_reaches_nothing_else(expression):
    with pytest.raises(TableError, match="where"):
        select_rows(PLAIN.assign(name=["a", "b", "c"]), expression)


def test_where_that_keeps_nothing():
    with pytest.raises(TableError, match="no row satisfies"):
        read_table(PLAIN, where="loss > 100")


def test_a_store_is_read_with_its_curves(tmp_path):
    import pyarrow as pa

    from scaling.store import Store
    from scaling.store.schema import ROW_COLUMNS

    blank = {c.name: "{}" if c.unit == "JSON" else "" if c.type == pa.string() else 1 for c in ROW_COLUMNS}
    blank |= {c.name: 1.0 for c in ROW_COLUMNS if c.type == pa.float64()}
    del blank["curve_sha256"], blank["evals_sha256"]
    store = Store.create(tmp_path / "store")
    points = {"lr": 1e-3, "train_loss": 3.0, "grad_norm": 1.0, "elapsed_s": 1.0}
    for _, row in stored(status=["finished"] * 3 + ["diverged"], budget=[1e12, 2e12, 1e12, None]).iterrows():
        row = {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()}
        curve = [
            {"step": s, "tokens": 100 * s, "flops": 1e9 * s, "loss": 2.0 if s > 1 else None, **points}
            for s in (1, 2, 3)
        ]
        store.publish({**blank, **row}, curve)
    runs = read_table(tmp_path / "store")
    assert len(runs) == 3
    assert [d.row for d in runs.dropped] == [f"{3:016x}"]
    np.testing.assert_array_equal(runs.params("non_embedding"), [60, 60, 150])
    assert set(runs.curves["run_id"]) == {f"{i:016x}" for i in range(3)}
    assert len(runs.curves) == 9


def test_any_variable_of_a_law_is_a_column():
    table = PLAIN.assign(unique_tokens=[1e9, 1e9, 1e9], rate=[1e-3, 2e-3, 3e-3])
    runs = read_table(table, columns={"lr": "rate"}, needs=("params", "lr"))
    np.testing.assert_array_equal(runs.variable("lr"), [1e-3, 2e-3, 3e-3])
    np.testing.assert_array_equal(runs.variable("unique_tokens"), [1e9] * 3)
    np.testing.assert_array_equal(runs.variable("flops"), 6 * runs.params() * runs.tokens)
    assert [runs.has(v) for v in ("lr", "flops", "steps")] == [True, True, False]
    with pytest.raises(TableError, match=r"no column 'steps'.*name it with columns, as in steps=COLUMN"):
        runs.variable("steps")
    with pytest.raises(TableError, match="no column 'batch_tokens'"):
        read_table(table, needs=("loss", "batch_tokens"))
    with pytest.raises(TableError, match="no column 'batch_tokens'"):
        read_table(runs, needs=("batch_tokens",))


def test_a_table_need_hold_no_more_than_its_law():
    table = pd.DataFrame({"loss": [3.0, 2.5, 2.0], "B_crit": [1e5, 2e5, 5e5]})
    runs = read_table(table, columns={"batch_tokens": "B_crit"}, needs=("loss", "batch_tokens"))
    np.testing.assert_array_equal(runs.variable("batch_tokens"), [1e5, 2e5, 5e5])
    with pytest.raises(TableError, match="no column 'params'"):
        runs.variable("flops")
    with pytest.raises(TableError, match="no column 'params'"):
        read_table(table)
    with pytest.raises(TableError, match="row 1: batch_tokens is -2"):
        read_table(table.assign(batch_tokens=[1.0, -2.0, 3.0]), needs=("loss", "batch_tokens"))
    with pytest.raises(TableError, match="row 2: loss is nan"):
        read_table(table.assign(loss=[3.0, 2.5, np.nan]), columns={"batch_tokens": "B_crit"}, needs=("batch_tokens",))


def test_a_store_delivers_every_variable():
    runs = read_table(
        stored(tokens_unique=[500, 500, 500, 250], steps=[10, 20, 5, 3], batch_tokens=[100] * 4, lr=[1e-3] * 4)
    )
    np.testing.assert_array_equal(runs.variable("unique_tokens"), [500, 500, 500, 250])
    np.testing.assert_array_equal(runs.variable("steps"), [10, 20, 5, 3])
    np.testing.assert_array_equal(runs.variable("params", "non_embedding"), [60, 60, 150, 330])
    np.testing.assert_array_equal(runs.variable("flops", "non_embedding", "6nd"), [5e11, 10e11, 7e11, 7.5e11])
    assert runs.has("unique_tokens")
    assert runs.has("params")


def test_a_fit_takes_its_columns_by_the_laws_names():
    loss = np.geomspace(2.0, 6.0, 12)
    table = pd.DataFrame({"L": loss, "B": 2.1e8 * loss ** (-1 / 0.21)})
    found = fit(table, "critical_batch", columns={"loss": "L", "batch_tokens": "B"}, bootstrap=0)
    assert found.status == "converged"
    assert found.values == pytest.approx({"B": 2.1e8, "alpha_B": 0.21}, rel=1e-9)
    assert found.n == 12
    json.dumps(found.to_json())


def test_a_path_may_carry_its_filter(tmp_path):
    path = tmp_path / "runs.csv"
    PLAIN.assign(objective=["causal", "causal", "masked"]).to_csv(path, index=False)
    assert list(read_table(f"{path}::objective == 'causal'").frame["params"]) == [1e6, 2e6]
    assert list(read_table(f"{path}::objective == 'causal'", where="params > 1e6").frame["params"]) == [2e6]
    with pytest.raises(TableError, match=r"rows of several .*, or as \".*runs\.csv::objective == 'causal'\""):
        read_table(path)
    # Longer than any file system lets a name be.
    long = f"params in [1e6, {', '.join(str(n) for n in range(2000))}]"
    assert list(read_table(f"{path}::{long}").frame["params"]) == [1e6]
    with pytest.raises(TableError, match="no such file or store"):
        read_table(f"{tmp_path}/none.csv::params > 1")


def test_a_file_with_colons_in_its_name_is_that_file(tmp_path):
    path = tmp_path / "a::b.csv"
    PLAIN.to_csv(path, index=False)
    assert len(read_table(str(path))) == 3
