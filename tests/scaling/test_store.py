"""The store: strict rows, one winner, failures, index, refusal of what is not ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from store_rows import make_curve, make_evals, make_failure, make_row, run_id

from scaling.errors import StoreError
from scaling.job import Execution
from scaling.store import Store, files
from scaling.store.index import INDEX
from scaling.store.schema import CURVE_SCHEMA, EVAL_SCHEMA, ROW_SCHEMA


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def test_a_published_run_comes_back_exactly(store: Store) -> None:
    row = make_row(1, loss=0.1 + 0.2, lr=5e-324, loss_best=float("nan"), bits_per_byte=None)
    assert store.publish(row, make_curve(1), make_evals(1))
    table = Store.open(store.root).rows()
    assert list(table.columns) == ROW_SCHEMA.names
    got = table.iloc[0]
    assert got["loss"] == 0.1 + 0.2
    assert got["lr"] == 5e-324
    assert got["tokens"] == 2**53 + 1
    assert np.isnan(got["bits_per_byte"])
    assert got["curve_sha256"] == files.digest((store.root / f"rows/../curves/{run_id(1)}.parquet").read_bytes())
    assert isinstance(got["run_id"], str)
    curve = store.curves()
    assert list(curve.columns) == CURVE_SCHEMA.names
    assert curve["train_loss"].tolist() == [p["train_loss"] for p in make_curve(1)]
    assert curve["loss"].isna().tolist() == [True] * 4 + [False]
    assert list(store.evals().columns) == EVAL_SCHEMA.names
    assert store.evals(metric="position")["value"].tolist() == [1, 1 + 1 / 3, 1 + 2 / 3]
    assert store.evals([run_id(2)]).empty
    assert not list((store.root / files.STAGING).iterdir())


def test_types_of_an_empty_store_and_of_null_integers(store: Store) -> None:
    assert store.rows()["tokens"].dtype == np.int64
    assert store.done() == {}
    assert store.curves().empty
    store.publish_failure(make_failure(3, "out of memory"))
    assert store.rows()["steps"].dtype == pd.Int64Dtype()
    assert store.rows()["tokens"].tolist() == [2**53 + 3]


def test_ids_that_look_like_numbers_stay_text(store: Store) -> None:
    for name in ("0000000000000012", "1234567890123456", "00000000000012e4"):
        store.publish(make_row(0, run_id=name))
    assert list(store.done()) == ["0000000000000012", "00000000000012e4", "1234567890123456"]
    assert store.rows()["run_id"].tolist() == list(store.done())


def test_the_first_writer_wins_and_its_curve_stays(store: Store) -> None:
    assert store.publish(make_row(1), make_curve(1), make_evals(1))
    before = {p: p.read_bytes() for p in store.root.rglob("*.parquet")}
    assert not store.publish(make_row(1, loss=9.0), make_curve(1, elapsed=7), make_evals(5))
    assert {p: p.read_bytes() for p in store.root.rglob("*.parquet")} == before


def test_a_writer_overtaken_between_its_curve_and_its_row_does_no_harm(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Store.open(store.root, write=True)

    def overtake(point: str) -> None:
        if point == "curve:after-link":
            monkeypatch.setattr(files, "fault", lambda point: None)
            assert other.publish(make_row(1), make_curve(1, elapsed=2.0))

    monkeypatch.setattr(files, "fault", overtake)
    assert not store.publish(make_row(1), make_curve(1, elapsed=1.0))
    assert store.curves()["elapsed_s"].tolist() == [2.0, 4.0, 6.0, 8.0, 10.0]
    assert store.quarantined() == []


def test_a_curve_left_by_a_crash_is_not_taken_for_the_next_run_s(store: Store) -> None:
    store.publish(make_row(1), make_curve(1, elapsed=1.0))
    (store.root / f"rows/{run_id(1)}.parquet").unlink()
    assert store.publish(make_row(1), make_curve(1, elapsed=3.0))
    assert store.curves()["elapsed_s"].max() == 15.0


RACER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
from store_rows import make_curve, make_row
from scaling.store import Store
store, me = Store.open({root!r}, write=True), float(sys.argv[1])
make = [(make_row(n, wall_s=me), make_curve(n, elapsed=me)) for n in range(30)]
store.publish(make_row(99, run_id="f" * 15 + sys.argv[1]))
while len(store.done()) < 2:
    time.sleep(0.001)
print(sum(store.publish(row, curve) for row, curve in make))
"""


def test_two_processes_publish_each_run_once(store: Store) -> None:
    code = RACER.format(here=str(Path(__file__).parent), root=str(store.root))
    racers = [subprocess.Popen([sys.executable, "-c", code, str(k)], stdout=subprocess.PIPE, text=True) for k in (1, 2)]
    wins = [int(r.communicate(timeout=60)[0]) for r in racers]
    assert sum(wins) == 30
    rows, curves = store.rows(), store.curves()
    assert len(rows) == 32
    winner = rows.set_index("run_id")["wall_s"]
    first = curves.groupby("run_id")["elapsed_s"].first()
    assert len(first) == 30
    assert all(winner[i] == first[i] for i in first.index)


def test_failures_show_until_a_success(store: Store) -> None:
    assert store.publish_failure(make_failure(1, "out of memory")).endswith(".failed-1.parquet")
    store.publish_failure(make_failure(1, "lost process"))
    assert store.failed() == {run_id(1): "lost process"}
    assert store.done() == {}
    assert store.rows()["status"].tolist() == ["failed"]
    assert store.publish(make_row(1))
    assert store.failed() == {}
    assert store.done() == {run_id(1): "finished"}
    assert store.rows()["status"].tolist() == ["finished"]


def test_a_diverged_run_is_done(store: Store) -> None:
    store.publish(make_row(1, status="diverged", reason="loss is NaN at step 7", loss=float("nan")))
    assert store.done() == {run_id(1): "diverged"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokens": 1.5}, "column tokens: 1.5 is not a whole number"),
        ({"tokens": True}, "column tokens"),
        ({"tokens": 2**63}, "column tokens"),
        ({"loss": "3.1"}, "column loss: '3.1' is not a number"),
        ({"loss": float("nan")}, "column loss: nan in a finished row"),
        ({"loss": None}, "column loss"),
        ({"sweep": None}, "column sweep: None is not text"),
        ({"status": "failed"}, "column status: 'failed' is not finished or diverged"),
        ({"provenance": "[]"}, "column provenance: not a JSON object"),
        ({"colour": "red"}, "unknown column colour"),
        ({"reason": "\ud800"}, "row 0000000000000001"),
        ({"run_id": "../../../etc/pass"}, "16 lower-case hex digits"),
        ({"run_id": 1234567890123456}, "16 lower-case hex digits"),
        ({"run_id": run_id(1) + "\n"}, "16 lower-case hex digits"),
    ],
)
def test_a_wrong_row_is_refused_by_column(store: Store, changes: dict[str, object], words: str) -> None:
    with pytest.raises(StoreError) as caught:
        store.publish(make_row(1, **changes))
    assert words in str(caught.value)
    assert not (store.root / "rows").exists()


def test_missing_columns_and_wrong_curves_are_refused(store: Store) -> None:
    row = make_row(1)
    del row["flops_exact"]
    with pytest.raises(StoreError, match="missing column flops_exact"):
        store.publish(row)
    points = make_curve(1)
    with pytest.raises(StoreError, match="point 1: column step: 1 does not follow 2"):
        store.publish(make_row(1), [points[1], points[0]])
    with pytest.raises(StoreError, match="point 0: missing column lr"):
        store.publish(make_row(1), [{k: v for k, v in points[0].items() if k != "lr"}])
    with pytest.raises(StoreError, match="unknown column loss_test"):
        store.publish(make_row(1), pd.DataFrame(points).assign(loss_test=1.0))
    with pytest.raises(StoreError, match="is another run"):
        store.publish(make_row(1), [{**points[0], "run_id": run_id(2)}])
    assert store.publish(make_row(1), pd.DataFrame(points))
    assert store.curves()["loss"].isna().sum() == 4


def test_names_cannot_leave_the_store(store: Store) -> None:
    for name in ("../x", "rows/../../x", "/etc/passwd", ".hidden", "a/b/c/d", ""):
        with pytest.raises(StoreError):
            files.locate(store.root, name)
    with pytest.raises(StoreError):
        store.checkpoint_path("../../x")


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a store"):
        Store.open(tmp_path)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"not empty \(holds thesis.txt\)"):
        Store.create(tmp_path)
    with pytest.raises(StoreError, match="cannot be made"):
        Store.create(tmp_path / "thesis.txt" / "store")


def test_a_newer_or_damaged_format_is_refused_with_the_mend(store: Store) -> None:
    path = store.root / "format.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "format_version": 2}))
    with pytest.raises(StoreError, match=r"newer version .*upgrade") as caught:
        Store.open(store.root)
    assert caught.value.exit_status == 2
    with pytest.raises(StoreError, match="newer version"):
        Store.create(store.root)
    path.write_text("{")
    with pytest.raises(StoreError, match=r"damaged .*remove this one file"):
        Store.open(store.root)


def test_sweep_files_are_recorded_by_digest(store: Store, tmp_path: Path) -> None:
    sweep = tmp_path / "toy.yaml"
    for text in ("a: 1", "a: 2", "a: 1"):
        sweep.write_text(text)
        Store.create(store.root, sweep_file=sweep)
    assert store.format["sweeps"] == {files.digest(t.encode()): "toy.yaml" for t in ("a: 1", "a: 2")}


def test_a_read_only_store_can_be_read_and_reports_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        store.publish(make_row(number))
    path = store.root / f"rows/{run_id(3)}.parquet"
    path.write_bytes(path.read_bytes()[:-100])

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    for name in ("replace", "link", "rename", "unlink", "mkdir"):
        monkeypatch.setattr(os, name, refuse)
    with pytest.raises(StoreError, match="read-only"):
        Store.open(store.root, write=True)
    reader = Store.open(store.root)
    assert len(reader.rows()) == 19
    assert [q["file"] for q in reader.quarantined()] == [f"rows/{run_id(3)}.parquet"]
    for write in (
        lambda: reader.publish(make_row(50)),
        lambda: reader.publish_failure(make_failure(1, "x")),
        lambda: reader.fix_execution(run_id(1), Execution()),
        lambda: reader.mark_running(run_id(1), {}),
        lambda: reader.drop_checkpoint(run_id(1)),
    ):
        with pytest.raises(StoreError, match="opened for reading only"):
            write()


def test_the_index_changes_nothing(store: Store) -> None:
    for number in range(20):
        store.publish(make_row(number), make_curve(number))
    plain = store.rows()
    index = store.root / INDEX
    assert Store.open(store.root).rows().equals(plain)
    assert index.exists()
    kept = index.read_bytes()
    assert Store.open(store.root).rows().equals(plain)
    # Stale: a file is gone, another holds other values, a third is new.
    (store.root / f"rows/{run_id(4)}.parquet").unlink()
    (store.root / f"rows/{run_id(5)}.parquet").unlink()
    store.publish(make_row(5, loss=1.25))
    store.publish(make_row(30))
    fresh = Store.open(store.root).rows().set_index("run_id")["loss"]
    assert len(fresh) == 20
    assert fresh[run_id(5)] == 1.25
    for damage in (kept[:50], kept[:-9], bytes([kept[0] ^ 1]) + kept[1:], kept[:500] + b"\0" + kept[501:], b""):
        index.write_bytes(damage)
        assert Store.open(store.root).rows().set_index("run_id")["loss"].equals(fresh)
    index.unlink()
    assert Store.open(store.root).rows().set_index("run_id")["loss"].equals(fresh)


def test_damage_is_seen_behind_an_index_and_unchanged_times(store: Store) -> None:
    for number in range(20):
        store.publish(make_row(number))
    store.rows()
    path = store.root / f"rows/{run_id(7)}.parquet"
    data, times = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run_id(7) not in Store.open(store.root, write=True).done()


def test_an_execution_is_fixed_once(store: Store) -> None:
    assert store.execution(run_id(1)) is None
    first, second = Execution(threads=2), Execution(threads=4)
    assert store.fix_execution(run_id(1), first) == first
    assert store.fix_execution(run_id(1), second) == first
    assert Store.open(store.root).execution(run_id(1)) == first
    path = store.root / f"executions/{run_id(1)}.json"
    path.write_text(path.read_text().replace('"threads": 2', '"threads": 3'))
    assert store.fix_execution(run_id(1), second) == second
    assert "sha256" in store.quarantined()[0]["reason"]


def test_notes_on_running_trials(store: Store) -> None:
    store.mark_running(run_id(1), {"step": 3})
    code = "import sys; from scaling.store import Store; Store.open(sys.argv[1], True).mark_running(sys.argv[2], {})"
    subprocess.run([sys.executable, "-c", code, str(store.root), run_id(2)], check=True)
    away = store.root / f"running/{run_id(3)}.json"
    note = json.loads((store.root / f"running/{run_id(1)}.json").read_text())
    away.write_text(json.dumps({**note, "host": "elsewhere"}))
    os.utime(away, (0, 0))
    (store.root / f"running/{run_id(4)}.json").write_text("{")
    notes = Store.open(store.root).running()
    assert {i: n["stale"] for i, n in notes.items()} == {run_id(1): False, run_id(2): True, run_id(3): True}
    assert notes[run_id(1)]["info"] == {"step": 3}
    assert notes[run_id(1)]["pid"] == os.getpid()
    store.clear_running(run_id(1))
    assert run_id(1) not in store.running()


def test_asking_what_is_done_imports_neither_pandas_nor_torch(store: Store) -> None:
    store.publish(make_row(1))
    code = (
        "import sys; from scaling.store import Store; assert Store.open(sys.argv[1]).done();"
        "print([m for m in ('pandas', 'torch', 'ray', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code, str(store.root)], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"
