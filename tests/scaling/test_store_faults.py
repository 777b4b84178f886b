"""Faults: killed writers, damaged files, full disks, filesystems without hard links; nothing is lost or invented."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from store_rows import make_curve, make_evals, make_failure, make_row, run_id

from scaling import ledger
from scaling.errors import StoreError
from scaling.job import Execution
from scaling.store import Store, compact, files, gc, tables, verify
from scaling.store.files import Damaged
from scaling.store.schema import ROW_SCHEMA

HERE = str(Path(__file__).parent)

VICTIM = """
import os, signal, sys
sys.path.insert(0, {here!r})
from store_rows import make_curve, make_evals, make_failure, make_row, run_id
from scaling.store import Store, compact, files
point, count = sys.argv[2], [int(sys.argv[3])]
def kill(now):
    if now == point:
        count[0] -= 1
        if count[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
files.fault = kill
store = Store.open(sys.argv[1], write=True)
{work}
"""

STEPS = ("after-write", "after-fsync", "after-link")


def kill_at(store: Store, work: str, point: str, count: int = 1) -> None:
    code = VICTIM.format(here=HERE, work=work)
    done = subprocess.run([sys.executable, "-c", code, str(store.root), point, str(count)], timeout=60)
    assert done.returncode == -signal.SIGKILL


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


@pytest.mark.parametrize("point", [f"{kind}:{step}" for kind in ("curve", "eval", "row") for step in STEPS])
def test_a_writer_killed_anywhere_leaves_no_trace_in_the_result(store: Store, point: str) -> None:
    store.publish(make_row(0), make_curve(0), make_evals(0))
    kill_at(store, "store.publish(make_row(1), make_curve(1, elapsed=9.0), make_evals(1))", point)
    done = store.done()
    assert done == {run_id(0): "finished"} | ({run_id(1): "finished"} if point == "row:after-link" else {})
    assert store.publish(make_row(1), make_curve(1), make_evals(1)) == (run_id(1) not in done)
    rows = store.rows()
    assert dict(zip(rows["run_id"], rows["loss"], strict=True)) == {run_id(n): make_row(n)["loss"] for n in (0, 1)}
    elapsed = 9.0 if run_id(1) in done else 0.25
    assert store.curves([run_id(1)])["elapsed_s"].tolist() == [elapsed * s for s in range(1, 6)]
    assert store.evals([run_id(1)])["value"].tolist() == [e["value"] for e in make_evals(1)]
    assert verify(store) == []
    gc(store, older_than_s=-60)
    assert len(list((store.root / "curves").iterdir())) == 2
    assert len(store.curves()) == 10


@pytest.mark.parametrize("step", STEPS)
def test_a_failure_killed_while_published_is_there_or_not(store: Store, step: str) -> None:
    kill_at(store, "store.publish_failure(make_failure(1, 'first'))", f"failure:{step}")
    assert store.failed() == ({run_id(1): "first"} if step == "after-link" else {})
    store.publish_failure(make_failure(1, "second"))
    assert store.failed() == {run_id(1): "second"}


@pytest.mark.parametrize(("point", "count"), [("part:after-fsync", 1), ("part:after-link", 1), ("part:after-link", 3)])
def test_a_compaction_killed_anywhere_changes_no_reading(store: Store, point: str, count: int) -> None:
    for number in range(4):
        store.publish(make_row(number), make_curve(number), make_evals(number))
    before = store.rows(), store.curves(), store.evals()
    kill_at(store, "compact(store)", point, count)
    for reader in (Store.open(store.root), compact(Store.open(store.root, write=True))):
        after = reader.rows(), reader.curves(), reader.evals()
        assert all(a.equals(b) for a, b in zip(after, before, strict=True))
    assert sorted(p.name[:5] for f in ("rows", "curves", "evals") for p in (store.root / f).iterdir()) == ["part-"] * 3


def test_an_execution_killed_after_its_link_stays(store: Store) -> None:
    work = "from scaling.job import Execution; store.fix_execution(run_id(1), Execution(threads=3))"
    kill_at(store, work, "execution:after-link")
    assert store.fix_execution(run_id(1), Execution()) == Execution(threads=3)


def test_a_quarantine_killed_after_its_move_keeps_the_reason(store: Store) -> None:
    store.publish(make_row(1))
    (store.root / f"rows/{run_id(1)}.parquet").write_bytes(b"not parquet")
    kill_at(store, "store.done()", "quarantine:after-move")
    assert [q["file"] for q in store.quarantined()] == [f"rows/{run_id(1)}.parquet"]
    assert store.publish(make_row(1))


def test_no_flipped_bit_gives_another_number() -> None:
    row = make_row(1) | {"curve_sha256": "", "evals_sha256": ""}
    table = tables.row_table(row, tables.TERMINAL)
    data = tables.encode(table)
    truth = tables.values_sha256(table)
    caught = 0
    for offset in random.Random(0).sample(range(len(data)), 600):
        flipped = bytearray(data)
        flipped[offset] ^= 1 << (offset % 8)
        try:
            assert tables.values_sha256(tables.decode(bytes(flipped), ROW_SCHEMA)) == truth
        except Damaged:
            caught += 1
    assert caught > 300


def test_no_cut_file_gives_a_number() -> None:
    row = make_row(1) | {"curve_sha256": "", "evals_sha256": ""}
    data = tables.encode(tables.row_table(row, tables.TERMINAL))
    for length in [*range(0, len(data), 64), len(data) - 1]:
        with pytest.raises(Damaged):
            tables.decode(data[:length], ROW_SCHEMA)


@pytest.mark.parametrize("where", [0.0, 0.3, 0.6, 0.99])
def test_a_damaged_row_is_put_aside_named_and_run_again(store: Store, where: float) -> None:
    for number in range(3):
        store.publish(make_row(number), make_curve(number))
    path = store.root / f"rows/{run_id(1)}.parquet"
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 255
    path.write_bytes(data)
    store = Store.open(store.root, write=True)
    if store.done().get(run_id(1)) is None:
        (entry,) = store.quarantined()
        assert entry["file"] == f"rows/{run_id(1)}.parquet"
        assert entry["reason"]
        assert store.publish(make_row(1), make_curve(1, elapsed=4.0))
        assert store.curves([run_id(1)])["elapsed_s"].max() == 20.0
    assert store.rows()["loss"].tolist() == [make_row(n)["loss"] for n in range(3)]


def test_a_row_under_another_run_s_name_is_damage(store: Store) -> None:
    store.publish(make_row(1))
    os.rename(store.root / f"rows/{run_id(1)}.parquet", store.root / f"rows/{run_id(2)}.parquet")
    assert store.done() == {}
    assert "the one row that its name promises" in store.quarantined()[0]["reason"]
    store.publish_failure(make_failure(3, "x"))
    os.rename(store.root / f"rows/{run_id(3)}.failed-1.parquet", store.root / f"rows/{run_id(3)}.parquet")
    assert store.done() == {}


def test_a_damaged_curve_takes_its_run_along_and_a_removed_one_does_not(store: Store) -> None:
    for number in range(3):
        store.publish(make_row(number), make_curve(number))
    (store.root / f"curves/{run_id(0)}.parquet").unlink()
    path = store.root / f"curves/{run_id(1)}.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert sorted(f["file"] for f in verify(store)) == sorted(
        [f"curves/{run_id(0)}.parquet", f"curves/{run_id(1)}.parquet", f"rows/{run_id(1)}.parquet"]
    )
    assert list(store.done()) == [run_id(0), run_id(2)]
    assert store.publish(make_row(1), make_curve(1))
    assert len(store.curves()) == 10


def test_a_good_file_is_not_moved_in_place_of_the_damaged_one(store: Store) -> None:
    store.publish(make_row(1))
    assert files.quarantine(store.root, f"rows/{run_id(1)}.parquet", "was damaged", files.digest(b"older")) is None
    assert list(store.done()) == [run_id(1)]
    assert store.quarantined() == []


@pytest.mark.parametrize("kind", ["curve", "eval", "row"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EIO])
def test_a_disk_that_refuses_is_one_clear_error(
    store: Store, monkeypatch: pytest.MonkeyPatch, kind: str, number: int
) -> None:
    def refuse(point: str) -> None:
        if point == f"{kind}:after-write":
            raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(files, "fault", refuse)
        with pytest.raises(StoreError, match=f"cannot be written: {os.strerror(number)}; .* run again"):
            store.publish(make_row(1), make_curve(1), make_evals(1))
    assert store.done() == {}
    assert not list((store.root / files.STAGING).iterdir())
    assert store.publish(make_row(1), make_curve(1), make_evals(1))
    assert len(store.curves()) == 5


def test_what_reads_back_differently_is_not_published(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def rot(point: str) -> None:
        if point == "row:after-fsync":
            (staged,) = (store.root / files.STAGING).iterdir()
            staged.write_bytes(staged.read_bytes()[:-1] + b"?")

    monkeypatch.setattr(files, "fault", rot)
    with pytest.raises(StoreError, match="read back differs"):
        store.publish(make_row(1))
    assert store.done() == {}


def test_without_hard_links_the_name_is_claimed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert store.publish(make_row(1), make_curve(1))
    assert not store.publish(make_row(1), make_curve(1, elapsed=2.0))
    assert len(store.curves()) == 5
    # A crash between claim and rename leaves an empty file.
    (store.root / f"rows/{run_id(2)}.parquet").touch()
    assert list(store.done()) == [run_id(1)]
    assert store.publish(make_row(2))


@pytest.mark.parametrize("where", ["rows", "curves"])
def test_a_damaged_part_is_put_aside(store: Store, where: str) -> None:
    for number in range(3):
        store.publish(make_row(number), make_curve(number))
    compact(store)
    (part,) = (store.root / where).iterdir()
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    store = Store.open(store.root, write=True)
    assert f"{where}/{part.name}" in {f["file"] for f in verify(store)}
    assert len(store.done()) == (0 if where == "rows" else 3)
    assert not part.exists()


def test_a_prediction_killed_while_registered_is_whole_or_absent(store: Store) -> None:
    work = """
from scaling import ledger
estimate = {"value": 3.0, "ci": [2.9, 3.1], "level": 0.9}
ledger.register(store, {"sweep": "s", "objective": "causal", "predicted": {"loss": estimate}, "baselines": {},
    "target": {"flops": 1e12, "params": 1e5, "tokens": 1e6, "run_ids": [run_id(9)]}, "approach": "parametric",
    "fitted_on": ledger.FittedOn.of([run_id(1)]).model_dump(), "law": "chinchilla", "command": "c", "version": "0"})
"""
    for point in ("prediction:after-fsync", "prediction:after-link", "prediction-head:after-write"):
        with contextlib.suppress(FileNotFoundError):
            for path in (store.root / ledger.FOLDER).iterdir():
                path.unlink()
        kill_at(store, work, point)
        assert ledger.check(store) == []
        assert len(ledger.predictions(store)) == (0 if point == "prediction:after-fsync" else 1)
