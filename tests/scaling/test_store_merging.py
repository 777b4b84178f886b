"""Merging stores: what is new comes with all that hangs on it, what differs stays unless asked, nothing comes twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from cli_world import call
from store_rows import make_curve, make_evals, make_failure, make_row, run_id

from scaling.errors import StoreError
from scaling.job import Execution
from scaling.store import Store, compact, files, merge, verify

POSITION = '{"type":"position_loss"}'
EARLIER, LATER = {"loss": 3.0}, {"loss": 4.0}


def points(value: float) -> list[dict[str, object]]:
    return [{"metric": "position_loss", "x": 1.0, "value": value, "se": 0.1, "n": 9, "eval_version": 1}]


def trained(store: Store, number: int, value: float, **changes: float) -> None:
    """A run with curve, evaluations, a measurement, weights and execution, all of which say `value`."""
    run = run_id(number)
    store.fix_execution(run, Execution(threads=int(value)))
    assert store.publish(make_row(number, **changes), make_curve(number, value), make_evals(number))
    assert store.publish_measurement(run, POSITION, 1, points(value))
    store.save_final(run, {"w": torch.full((3,), value)}, {})


@pytest.fixture
def target(tmp_path: Path) -> Store:
    """Runs 0 to 2."""
    store = Store.create(tmp_path / "target")
    for number in range(3):
        trained(store, number, 3.0, **EARLIER)
    return store


@pytest.fixture
def source(tmp_path: Path) -> Store:
    """Run 1 with another result, 2 with the same row, 3 and 4 new."""
    store = Store.create(tmp_path / "source")
    trained(store, 1, 4.0, **LATER)
    trained(store, 2, 3.0, **EARLIER)
    trained(store, 3, 4.0, **LATER)
    store.publish(make_row(4, status="diverged", reason="NaN", loss=None))
    store.publish_failure(make_failure(9, "out of memory"))
    return store


def said(store: Store, number: int) -> dict[str, float]:
    """What each thing that hangs on a run says."""
    run = run_id(number)
    weights = store.final_weights(run)
    execution = store.execution(run)
    assert weights is not None
    assert execution is not None
    return {
        "row": float(store.rows().set_index("run_id").loss[run]),
        "curve": float(store.curves([run]).elapsed_s.iloc[0]),
        "evals": float(store.evals([run], "document").value.iloc[0]) - number + 3.0,
        "measurement": float(store.evals([run], "position_loss").value.iloc[0]),
        "weights": float(weights[0]["w"][0]),
        "execution": float(execution.threads),
    }


@pytest.mark.parametrize("folded", [(), ("source",), ("target",), ("source", "target")])
def test_new_runs_come_whole_and_others_stay(source: Store, target: Store, folded: tuple[str, ...]) -> None:
    for name in folded:
        compact({"source": source, "target": target}[name])
    before = {n: said(target, n) for n in (0, 1, 2)}
    found = merge(Store.open(source.root), target)
    assert (found.added, found.replaced) == ((run_id(3), run_id(4)), ())
    assert (found.same, found.kept) == ((run_id(2),), (run_id(1),))
    assert (found.measurements, found.weights, found.left_out) == (1, 1, {})
    assert {n: said(target, n) for n in (0, 1, 2)} == before
    assert said(target, 3) == said(source, 3)
    assert target.done()[run_id(4)] == "diverged"
    assert run_id(9) not in target.failed()
    assert "--replace" in found.lines[1]
    again = merge(source, target)
    assert (again.added, again.measurements, again.weights) == ((), 0, 0)
    assert verify(target) == verify(Store.open(target.root)) == []


@pytest.mark.parametrize("folded", [False, True])
def test_what_is_replaced_goes_with_all_that_hangs_on_it(source: Store, target: Store, folded: bool) -> None:
    if folded:
        compact(target)
    before = {n: said(target, n) for n in (0, 2)}
    found = merge(source, target, replace=True)
    assert (found.replaced, found.kept, found.weights) == ((run_id(1),), (), 2)
    assert set(said(target, 1).values()) == {3.0, 4.0}
    assert said(target, 1) == said(source, 1)
    assert {n: said(target, n) for n in (0, 2)} == before
    assert len(target.evals(metric="position_loss")) == 4
    assert verify(target) == []
    assert merge(source, target, replace=True).replaced == ()


def test_a_run_that_is_there_gets_the_measurements_it_lacks(source: Store, target: Store) -> None:
    source.publish_measurement(run_id(2), POSITION, 2, points(5.0))
    source.publish_measurement(run_id(1), POSITION, 2, points(5.0))
    assert merge(source, target).measurements == 2
    assert {m.version for m in target.measurements([run_id(2)])} == {1, 2}
    # Measured on other weights than the row's own.
    assert {m.version for m in target.measurements([run_id(1)])} == {1}


def test_what_a_crash_interrupts_is_finished_by_the_same_call(
    source: Store, target: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(name: str) -> Store:
        shutil.copytree(target.root, tmp_path / name)
        return Store.open(tmp_path / name, write=True)

    passed: list[str] = []
    monkeypatch.setattr(files, "fault", passed.append)
    merge(source, copy("counted"), replace=True)
    assert len(passed) > 20
    wanted = [said(source, n) for n in (1, 2, 3)]
    for stop in range(0, len(passed), 3):
        left = iter(range(stop))

        def fault(point: str, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        crashed = copy(f"crashed-{stop}")
        monkeypatch.setattr(files, "fault", fault)
        with pytest.raises(KeyboardInterrupt):
            merge(source, crashed, replace=True)
        monkeypatch.setattr(files, "fault", lambda point: None)
        again = Store.open(crashed.root, write=True)
        assert verify(again) == []
        merge(source, again, replace=True)
        assert [said(again, n) for n in (1, 2, 3)] == wanted
        assert said(again, 0)["row"] == 3.0


def test_the_unfinished_attempt_of_a_run_gives_way(source: Store, target: Store) -> None:
    target.fix_execution(run_id(3), Execution(threads=7))
    target.save_checkpoint(run_id(3), {"w": torch.zeros(3)}, {})
    merge(source, target)
    assert said(target, 3) == said(source, 3)


def test_a_run_whose_curve_is_lost_is_left_out(source: Store, target: Store) -> None:
    (source.root / f"curves/{run_id(3)}.parquet").unlink()
    found = merge(Store.open(source.root), target)
    assert list(found.left_out) == [run_id(3)]
    assert "curves named by its row are lost" in found.lines[-1]
    assert run_id(3) not in target.done()
    assert run_id(4) in target.done()


def test_stores_without_measurements_or_without_runs(source: Store, tmp_path: Path) -> None:
    bare, empty = Store.create(tmp_path / "bare"), Store.create(tmp_path / "empty")
    bare.publish(make_row(6), make_curve(6))
    assert merge(empty, bare).added == ()
    assert merge(bare, empty).added == (run_id(6),)
    assert empty.curves().equals(bare.curves())
    assert merge(bare, source).added == (run_id(6),)


def test_one_store_is_not_two_and_is_opened_for_writing(source: Store, target: Store) -> None:
    with pytest.raises(StoreError, match="give two stores"):
        merge(Store.open(target.root), target)
    with pytest.raises(StoreError, match="write=True"):
        merge(source, Store.open(target.root))


def test_the_command_says_what_it_did(source: Store, target: Store) -> None:
    given = str(source.root), str(target.root)
    first = call("store", "merge", *given)
    assert first.status == 0, first.err
    assert f"{target.root}: 2 runs added, 0 replaced, 1 there already; 1 measurements" in first.out
    second = call("store", "merge", *given, "--replace", "--json").json
    assert (second["added"], second["replaced"]) == ([], [run_id(1)])
    missing = call("store", "merge", str(source.root / "none"), given[1])
    assert missing.status == 2
    assert "not a store" in missing.err
