"""Imports: anyone's tables become rows that fits take, ids stay text, twice adds nothing, exports come back whole."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from cli_world import ALPHA, BETA, SWEEP, A, B, E, call, fill, write_text
from store_rows import make_curve, make_evals, make_failure, make_row

from analysis import fit, frontier
from scaling.errors import TableError
from scaling.importing.runs import import_runs, run_id_of
from scaling.store import Store

CSV = """\
Name,State,config.n_params,config.tokens,summary.val_loss,config.batch_tokens,config.lr
00123,finished,10000,1e6,2.5,1000,0.01
1e5,finished,20000,2000000,2.25,1000,0.005
crashy,crashed,40000,4e6,,1000,0.0025
"""
WIDE = """\
"Step","00123 - train/loss","00123 - train/loss__MIN","00123 - train/loss__MAX","1e5 - train/loss","1e5 - val_loss"
"100","4.0","3.9","4.1","3.5",""
"200","3.0","2.9","3.1","2.5","2.75"
"""


def write(folder: Path, text: str, name: str = "runs.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_wandb_table_becomes_rows(tmp_path: Path) -> None:
    found = import_runs(write(tmp_path, CSV), tmp_path / "store", label="theirs", objective="causal")
    assert (found.runs, found.known, found.points) == (2, 0, 0)
    assert found.left_out == (("line 4, crashy", "State is crashed"),)
    rows = Store.open(tmp_path / "store").rows().set_index("run_id")
    assert set(rows.index) == {run_id_of("theirs", "00123"), run_id_of("theirs", "1e5")}
    row = rows.loc[run_id_of("theirs", "00123")]
    assert (row["status"], row["loss"], row["params_total"], row["tokens"]) == ("finished", 2.5, 10_000, 1_000_000)
    assert row["params_non_embedding"] == row["params_non_embedding_head"] == 10_000
    assert row["flops_exact"] == row["flops_6nd_total"] == 6 * 10_000 * 1_000_000
    assert (row["objective"], row["sweep"], row["batch_tokens"], row["lr"]) == ("causal", "theirs", 1000, 0.01)
    origin = json.loads(row["provenance"])["imported"]
    assert (origin["run"], origin["at"], origin["file"], origin["flops"]) == ("00123", "line 2", "runs.csv", "6ND")
    assert origin["columns"]["loss"] == "summary.val_loss"


def test_a_wide_export_of_a_panel_becomes_curves(tmp_path: Path) -> None:
    runs, wide = write(tmp_path, CSV), write(tmp_path, WIDE, "history.csv")
    found = import_runs(runs, tmp_path / "store", curves=wide)
    assert found.points == 4
    curve = Store.open(tmp_path / "store").curves([run_id_of("runs", "1e5")])
    assert curve["step"].tolist() == [100, 200]
    assert curve["tokens"].tolist() == [100_000, 200_000]
    assert curve["flops"].tolist() == [6 * 20_000 * 1e5, 6 * 20_000 * 2e5]
    assert curve["train_loss"].tolist() == [3.5, 2.5]
    assert math.isnan(curve["loss"].iloc[0])
    assert curve["loss"].iloc[1] == 2.75


def test_a_long_history_may_name_the_run_otherwise(tmp_path: Path) -> None:
    """The table carries ids and names; the history names runs, has the training loss as `loss`, and steps unsorted."""
    table = "id,Name,params,tokens,loss,steps\nabc,first,1e4,1e6,2.0,1000\n"
    history = "name,_step,loss,_runtime\nfirst,20,3.0,2.5\nfirst,10,4.0,1.5\n"
    found = import_runs(write(tmp_path, table), tmp_path / "store", curves=write(tmp_path, history, "h.csv"), label="x")
    assert found.points == 2
    curve = Store.open(tmp_path / "store").curves()
    assert curve["step"].tolist() == [10, 20]
    assert curve["train_loss"].tolist() == [4.0, 3.0]
    assert curve["tokens"].tolist() == [10_000, 20_000]
    assert curve["elapsed_s"].tolist() == [1.5, 2.5]
    assert curve["loss"].isna().all()


def test_importing_twice_adds_nothing_and_changed_runs_are_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    runs = write(tmp_path, CSV)
    import_runs(runs, store)
    before = Store.open(store).rows()
    again = import_runs(runs, store)
    assert (again.runs, again.known) == (0, 2)
    pd.testing.assert_frame_equal(Store.open(store).rows(), before)
    more = write(tmp_path, CSV + "new,finished,80000,8e6,2.0,1000,0.001\n")
    assert import_runs(more, store).runs == 1
    with pytest.raises(
        TableError, match=r"run 1e5 is in .* with another loss, size or length; import it under another"
    ):
        import_runs(write(tmp_path, CSV.replace("2.25", "2.26")), store)
    assert import_runs(write(tmp_path, CSV.replace("2.25", "2.26")), store, label="second").runs == 2


def test_jsonl_is_flattened_and_ids_stay_as_written(tmp_path: Path) -> None:
    lines = [
        '{"id": 1e5, "config": {"n_params": 1e4, "tokens": 1000000}, "summary": {"loss": 2.5}, "tags": ["a"]}',
        '{"id": 100000, "config": {"n_params": 2e4, "tokens": 1000000}, "summary": {"loss": 2.25}}',
    ]
    found = import_runs(write(tmp_path, "\n".join(lines), "runs.jsonl"), tmp_path / "store")
    assert found.runs == 2
    names = {json.loads(p)["imported"]["run"] for p in Store.open(tmp_path / "store").rows()["provenance"]}
    assert names == {"1e5", "100000"}


def test_imported_runs_can_be_fitted(tmp_path: Path) -> None:
    """Rows on a known surface: the fit recovers its exponents, and FLOPs that were given are taken."""
    lines = ["run,N,D,L,C"]
    for k, c in enumerate((1e15, 4e15, 1.6e16)):
        for j, n in enumerate((0.5, 1, 2, 4, 8)):
            size = n * 1e5 * 2**k
            tokens = c / 6 / size
            lines.append(f"r{k}{j},{size},{tokens},{E + A * size**-ALPHA + B * tokens**-BETA!r},{c}")
    assert call(
        *("import", write(tmp_path, "\n".join(lines)), "--store", tmp_path / "store"),
        *("--columns", "run_id=run,params=N,tokens=D,loss=L,flops=C"),
    ).status == 0  # fmt: skip
    found = fit(tmp_path / "store", "chinchilla", bootstrap=0)
    assert found.values["alpha"] == pytest.approx(ALPHA, rel=2e-3)
    assert found.values["beta"] == pytest.approx(BETA, rel=2e-3)
    a = frontier(tmp_path / "store", "vpnls", bootstrap=0)["vpnls"].N_exponent.value
    assert a == pytest.approx(BETA / (ALPHA + BETA), abs=2e-3)


def test_an_export_comes_back_whole(tmp_path: Path) -> None:
    """Every column of rows and curves, ids that look like numbers, nulls, and losses to the last bit."""
    store = Store.create(tmp_path / "store")
    for number in (1, 12345678):
        store.publish(make_row(number, loss=3 + number / 7, params_total=None), make_curve(number), make_evals(number))
    store.publish(make_row(2, status="diverged", reason='loss\nnot, "finite"', loss=None))
    store.publish_failure(make_failure(3, "gone"))
    rows, curves = tmp_path / "rows.csv", tmp_path / "curves.csv"
    assert call("export", store.root, "--csv", rows).status == 0
    assert call("export", store.root, "--csv", curves, "--table", "curves").status == 0
    found = import_runs(rows, tmp_path / "again", curves=curves)
    assert (found.runs, found.points) == (3, 10)
    assert found.left_out == (("0000000000000003", "failed: gone"),)
    again = Store.open(tmp_path / "again")
    given = store.rows()
    given = given[given["status"] != "failed"].reset_index(drop=True)
    changed = ["evals_sha256"]
    pd.testing.assert_frame_equal(again.rows().drop(columns=changed), given.drop(columns=changed), check_dtype=False)
    pd.testing.assert_frame_equal(again.curves(), store.curves())
    assert import_runs(rows, tmp_path / "again", curves=curves).known == 3


def test_an_export_of_a_sweep_fits_as_its_store_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "cache"))
    write_text(tmp_path / "text.txt")
    sweep = write(tmp_path, SWEEP.format(text=tmp_path / "text.txt"), "little.yaml")
    fill(sweep, tmp_path / "store")
    rows = tmp_path / "rows.csv"
    call("export", tmp_path / "store", "--csv", rows)
    assert call("import", rows, "--store", tmp_path / "again", "--json").json["runs"] == 15
    first, second = (fit(tmp_path / s, "chinchilla", bootstrap=0) for s in ("store", "again"))
    assert first.values == second.values


HISTORY = "run_id,step,train_loss\n00123,1,3.0\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("10000,1e6", "ten,1e6", "runs.csv: line 2: config.n_params is 'ten', not a number"),
        ("10000,1e6", "-3,1e6", "runs.csv: line 2: config.n_params is '-3', not a positive number"),
        ("2.5,", "nan,", "runs.csv: line 2: summary.val_loss is 'nan', not a positive number"),
        ("2.5,", ",", "runs.csv: line 2: summary.val_loss is '', not a positive number"),
        ("2.5,1000,", "2.5,1000.5,", "runs.csv: line 2: config.batch_tokens is '1000.5', not a whole"),
        ("2.5,1000,", "2.5,1000,7,", "runs.csv: line 2: 8 fields where line 1 has 7"),
        ("00123,", ",", "runs.csv: line 2: Name is empty; every run needs a name"),
        ("1e5,finished", "00123,finished", "runs.csv: run 00123 is there twice"),
        ("summary.val_loss", "summary.accuracy", "runs.csv: no column for loss; it has Name, State, config.n_params"),
        ("config.lr", "config.tokens", "runs.csv: line 1: column 'config.tokens' is there twice; rename one"),
        ('"', '"', ""),
    ],
)
def test_a_wrong_table_is_one_line_with_its_place(old: str, new: str, message: str, tmp_path: Path) -> None:
    if not message:
        write(tmp_path, CSV + '"open,finished,1,1,1,1,1\n')
        with pytest.raises(TableError, match=r"runs.csv: line 5: is not CSV"):
            import_runs(tmp_path / "runs.csv", tmp_path / "store")
        return
    with pytest.raises(TableError) as caught:
        import_runs(write(tmp_path, CSV.replace(old, new, 1)), tmp_path / "store")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (HISTORY.replace("00123", "other"), "h.csv: line 2: run 'other' is not in the table of runs"),
        (HISTORY.replace(",1,", ",one,"), "h.csv: line 2: step is 'one', not a whole number"),
        (HISTORY.replace(",1,", ",,"), "h.csv: line 2: step is empty"),
        (HISTORY + "00123,1,2.0\n", "h.csv: run 00123 has step 1 twice"),
        (
            HISTORY.replace("step", "when"),
            "h.csv: no column for step; it has run_id, when, train_loss; name it: --curve-",
        ),
        ("run_id,step,train_loss\n", "h.csv: holds no points"),
        ('"Step","other - loss"\n"1","2"\n', "h.csv: line 1: run 'other' is not in the table of runs"),
        ('"when","00123 - loss"\n"1","2"\n', "h.csv: no column of steps; export the panel with Step as its x axis"),
    ],
)
def test_wrong_curves_are_one_line_with_their_place(history: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        import_runs(write(tmp_path, CSV), tmp_path / "store", curves=write(tmp_path, history, "h.csv"))
    assert message in str(caught.value)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "none.csv: no such file"),
        ("runs.xlsx", b"x", "runs.xlsx: is neither .csv nor .jsonl"),
        ("runs.csv", b"", "runs.csv: holds no runs"),
        ("runs.csv", b"a\xff\n", "runs.csv: is not UTF-8 text (byte 1)"),
        ("runs.jsonl", b'{"a": 1}\n[1]\n', "runs.jsonl: line 2: is no JSON object; write one run a line"),
        ("runs.jsonl", b'{"a": \n', "runs.jsonl: line 1: is not JSON"),
        ("runs.jsonl", b"[" * 100_000, "runs.jsonl: line 1: is "),
    ],
)
def test_unreadable_files_are_one_line(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    found = call("import", tmp_path / name, "--store", tmp_path / "store")
    assert (found.status, found.out) == (2, "")
    assert found.err.startswith("error: ")
    assert message in found.err
    assert len(found.err.splitlines()) == 1


def test_a_damaged_export_names_row_and_column(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    store.publish(make_row(1), make_curve(1), make_evals(1))
    call("export", store.root, "--csv", tmp_path / "rows.csv")
    frame = pd.read_csv(tmp_path / "rows.csv", dtype=str, keep_default_na=False)
    for column, value, message in (
        ("run_id", "12", "line 2: run_id is '12', not 16 hex digits"),
        ("steps", "many", "line 2: steps is 'many', not a whole number"),
        ("loss", "", "line 2: loss is '' in a finished run"),
        ("status", "odd", "line 2: status is 'odd', not finished, diverged or failed"),
        ("spec", "[1]", "line 2: spec: is not a JSON object"),
    ):
        frame.assign(**{column: value}).to_csv(tmp_path / "bad.csv", index=False)
        with pytest.raises(TableError) as caught:
            import_runs(tmp_path / "bad.csv", tmp_path / "again")
        assert message in str(caught.value), str(caught.value)
