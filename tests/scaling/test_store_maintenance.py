"""Housekeeping: compaction reads the same, verify names what is wrong, gc removes only what nobody needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from store_rows import make_curve, make_evals, make_failure, make_row, run_id

from scaling.errors import StoreError
from scaling.job import Execution
from scaling.store import Store, compact, gc, verify


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "store")
    for number in range(5):
        store.publish(make_row(number), make_curve(number), make_evals(number) if number != 2 else None)
    store.publish(make_row(5, status="diverged", reason="NaN", loss=None))
    return store


def read(store: Store) -> tuple[object, ...]:
    return store.rows().to_dict("list"), str(store.curves().to_dict("list")), str(store.evals().to_dict("list"))


def test_compacting_in_place_and_elsewhere_reads_the_same(store: Store, tmp_path: Path) -> None:
    sweep = tmp_path / "toy.yaml"
    sweep.write_text("a: 1")
    store.record_sweep(sweep)
    store.fix_execution(run_id(1), Execution(threads=2))
    store.publish_failure(make_failure(9, "out of memory"))
    store.write_log(run_id(9), "where it was")
    before = [str(v) for v in read(store)]
    away = compact(store, tmp_path / "away")
    assert [str(v) for v in read(Store.open(away.root))] == before
    assert away.format["sweeps"] == store.format["sweeps"]
    assert away.execution(run_id(1)) == Execution(threads=2)
    assert (away.root / f"logs/{run_id(9)}.txt").read_text() == "where it was"
    assert away.failed() == store.failed() == {run_id(9): "out of memory"}
    assert verify(away) == []
    compact(store)
    assert [str(v) for v in read(store)] == before
    parts = {f: sorted(os.listdir(store.root / f)) for f in ("rows", "curves", "evals")}
    assert parts["rows"] == [f"{run_id(9)}.failed-1.parquet", *sorted(os.listdir(away.root / "rows"))[1:]]
    assert all(len([n for n in names if n.startswith("part-")]) == 1 for names in parts.values())
    compact(store)
    assert {f: sorted(os.listdir(store.root / f)) for f in parts} == parts
    assert verify(store) == []


def test_a_compacted_store_is_run_into_again(store: Store) -> None:
    compact(store)
    assert not store.publish(make_row(3, loss=9.0), make_curve(3))
    assert not Store.open(store.root, write=True).publish(make_row(3, loss=9.0), make_curve(3))
    assert store.publish(make_row(6), make_curve(6), make_evals(6))
    assert list(store.done()) == [run_id(n) for n in range(7)]
    assert len(store.curves()) == 30
    whole = [str(v) for v in read(store)]
    compact(store)
    assert [str(v) for v in read(store)] == whole
    assert len(os.listdir(store.root / "rows")) == 1
    assert os.listdir(store.root / "curves")[0].startswith("part-")


def test_compaction_refuses_a_store_with_runs_and_a_reader(store: Store, tmp_path: Path) -> None:
    other = Store.create(tmp_path / "other")
    other.publish(make_row(1))
    with pytest.raises(StoreError, match="holds runs already"):
        compact(store, other.root)
    with pytest.raises(StoreError, match="holds runs already"):
        compact(store, store.root)
    with pytest.raises(StoreError, match="write=True"):
        compact(Store.open(store.root))


def test_verify_of_a_whole_store_is_empty_and_else_names_each_file(store: Store) -> None:
    assert verify(store) == []
    store.save_checkpoint(run_id(8), {"w": torch.ones(3)}, {})
    store.fix_execution(run_id(1), Execution())
    assert verify(Store.open(store.root)) == []
    harm = [
        f"rows/{run_id(0)}.parquet",
        f"evals/{run_id(1)}.parquet",
        f"executions/{run_id(1)}.json",
        str(next(store.checkpoint_path(run_id(8)).glob("*.safetensors")).relative_to(store.root)),
    ]
    for name in harm:
        data = bytearray((store.root / name).read_bytes())
        data[len(data) // 2] ^= 2
        (store.root / name).write_bytes(data)
    (store.root / "rows/notes.txt").write_text("mine")
    reader = Store.open(store.root)
    named = {f["file"] for f in verify(reader)}
    expected = {*harm[:3], f"rows/{run_id(1)}.parquet", f"checkpoints/{run_id(8)}/00000001.json", "rows/notes.txt"}
    assert named == expected
    assert {f["file"] for f in verify(reader)} == expected
    assert {f["file"] for f in verify(store)} == expected
    assert {f["file"] for f in verify(store)} == {"rows/notes.txt"}
    assert list(store.done()) == [run_id(n) for n in (2, 3, 4, 5)]


def test_gc_removes_leftovers_and_nothing_else(store: Store) -> None:
    before = [str(v) for v in read(store)]
    staging = store.root / ".staging"
    (staging / "old").write_text("x")
    (staging / "young").write_text("x")
    orphan = store.root / f"curves/{run_id(77)}.parquet"
    orphan.write_bytes(b"x")
    recent = store.root / f"curves/{run_id(78)}.parquet"
    recent.write_bytes(b"x")
    for path in (staging / "old", orphan, store.root / f"curves/{run_id(1)}.parquet"):
        os.utime(path, (1, 1))
    store.save_checkpoint(run_id(1), {"w": torch.ones(3)}, {})
    store.save_checkpoint(run_id(2), {"w": torch.ones(3)}, {}, keep=True)
    store.save_checkpoint(run_id(50), {"w": torch.ones(3)}, {})
    store.mark_running(run_id(50), {})
    assert sorted(gc(store)) == sorted([".staging/old", f"curves/{run_id(77)}.parquet", f"checkpoints/{run_id(1)}"])
    assert recent.exists()
    assert (staging / "young").exists()
    assert store.load_checkpoint(run_id(2)) is not None
    assert store.load_checkpoint(run_id(50)) is not None
    assert run_id(50) in store.running()
    assert [str(v) for v in read(store)] == before
    with pytest.raises(StoreError, match="write=True"):
        gc(Store.open(store.root))
