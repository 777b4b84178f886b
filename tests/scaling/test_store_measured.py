"""Evaluations made after their run: published once, read with the others, kept by housekeeping, damage noticed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from store_rows import make_curve, make_evals, make_row, run_id

from scaling.errors import StoreError
from scaling.store import Store, compact, gc, verify
from scaling.store.measured import Measurement

POSITION = '{"type":"position_loss"}'
OTHER = '{"corpus":{"type":"pydocs-v1"},"type":"other_corpus"}'


def points(number: int) -> list[dict[str, object]]:
    return [
        {"metric": "position_loss", "x": float(k), "value": number + k / 7, "se": 0.1, "n": 9, "eval_version": 1}
        for k in (3, 1, 2)
    ]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "store")
    for number in range(4):
        store.publish(make_row(number), make_curve(number), make_evals(number))
    for number in (2, 0):
        assert store.publish_measurement(run_id(number), POSITION, 1, points(number))
    return store


def loose(store: Store) -> list[Path]:
    return sorted(p for p in (store.root / "evals").iterdir() if "position_loss" in p.name)


def test_a_measurement_is_read_with_the_others_and_leaves_the_row_alone(store: Store) -> None:
    row = (store.root / f"rows/{run_id(0)}.parquet").read_bytes()
    found = store.evals([run_id(0)])
    assert found["metric"].tolist() == ["document"] * 3 + ["position"] * 3 + ["position_loss"] * 3
    assert found["settings"].tolist() == [""] * 6 + [POSITION] * 3
    assert found["value"].tolist()[6:] == [3 / 7, 1 / 7, 2 / 7]
    assert store.evals(metric="position_loss")["run_id"].tolist() == [run_id(0)] * 3 + [run_id(2)] * 3
    assert not store.publish_measurement(run_id(0), POSITION, 1, points(5))
    assert store.publish_measurement(run_id(0), POSITION, 2, points(5))
    assert store.publish_measurement(run_id(0), OTHER, 1, points(5))
    made = {Measurement(run_id(0), POSITION, 2), Measurement(run_id(0), OTHER, 1), Measurement(run_id(0), POSITION, 1)}
    assert store.measurements([run_id(0)]) == made
    assert (store.root / f"rows/{run_id(0)}.parquet").read_bytes() == row


def test_what_cannot_be_published_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="no row here"):
        store.publish_measurement(run_id(9), POSITION, 1, points(9))
    with pytest.raises(StoreError, match="JSON with a type"):
        store.publish_measurement(run_id(1), "{}", 1, points(1))
    with pytest.raises(StoreError, match="JSON with a type"):
        store.publish_measurement(run_id(1), '{"type":"../x"}', 1, points(1))
    with pytest.raises(StoreError, match="nothing was measured"):
        store.publish_measurement(run_id(1), POSITION, 1, [])
    with pytest.raises(StoreError, match="unknown column"):
        store.publish_measurement(run_id(1), POSITION, 1, [{**points(1)[0], "size": 1}])
    with pytest.raises(StoreError, match="write=True"):
        Store.open(store.root).publish_measurement(run_id(1), POSITION, 1, points(1))


def test_compaction_reads_the_same_and_more_may_follow(store: Store, tmp_path: Path) -> None:
    before = str(store.evals().to_dict("list"))
    away = compact(store, tmp_path / "away")
    assert str(Store.open(away.root).evals().to_dict("list")) == before
    assert sorted(p.name.split("-")[0] for p in (away.root / "evals").iterdir()) == ["measured", "part"]
    compact(store)
    assert str(store.evals().to_dict("list")) == before
    assert loose(store) == []
    assert not store.publish_measurement(run_id(0), POSITION, 1, points(5))
    assert store.publish_measurement(run_id(3), POSITION, 1, points(3))
    whole = str(store.evals().to_dict("list"))
    compact(store)
    assert str(store.evals().to_dict("list")) == whole
    assert len([p for p in (store.root / "evals").iterdir() if p.name.startswith("measured-")]) == 1
    assert verify(store) == []


def test_a_crash_between_folding_and_removing_counts_nothing_twice(store: Store) -> None:
    held = {p: p.read_bytes() for p in loose(store)}
    before = str(store.evals().to_dict("list"))
    compact(store)
    for path, data in held.items():
        path.write_bytes(data)
    assert str(store.evals().to_dict("list")) == before


@pytest.mark.parametrize("folded", [False, True])
def test_damage_is_put_aside_and_only_the_measurement_is_missing(store: Store, folded: bool) -> None:
    if folded:
        compact(store)
    victim = next((store.root / "evals").glob("measured-*")) if folded else loose(store)[0]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 4
    victim.write_bytes(data)
    reader = Store.open(store.root)
    left = [] if folded else [Measurement(run_id(2), POSITION, 1)]
    assert sorted(reader.measurements()) == left
    assert [q["file"] for q in verify(reader)] == [f"evals/{victim.name}"]
    assert [q["file"] for q in verify(store)] == [f"evals/{victim.name}"]
    assert not victim.exists()
    assert sorted(store.done()) == [run_id(n) for n in range(4)]
    assert store.publish_measurement(run_id(0), POSITION, 1, points(0))
    assert store.evals([run_id(0)], "position_loss")["value"].tolist() == [3 / 7, 1 / 7, 2 / 7]


def test_a_file_under_anothers_name_is_damage(store: Store) -> None:
    first, second = loose(store)
    first.write_bytes(second.read_bytes())
    assert store.measurements() == {Measurement(run_id(2), POSITION, 1)}
    (note,) = (store.root / "quarantine").glob("*.json")
    assert "its name promises" in json.loads(note.read_text())["reason"]


def test_gc_keeps_measurements_of_runs_and_removes_those_of_none(store: Store) -> None:
    before = str(store.evals().to_dict("list"))
    orphan = store.root / "evals" / loose(store)[0].name.replace(run_id(0), run_id(8))
    orphan.write_bytes(loose(store)[0].read_bytes())
    for path in (store.root / "evals").iterdir():
        os.utime(path, (1, 1))
    assert gc(store) == [f"evals/{orphan.name}"]
    assert str(store.evals().to_dict("list")) == before
