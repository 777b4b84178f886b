"""Damage and malice in a store: cut and flipped files, planted pickles, names and links that lead out, newer rows."""

from __future__ import annotations

import os
import pickle
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from store_rows import make_curve, make_evals, make_row, run_id

from scaling.errors import StoreError
from scaling.job import Execution
from scaling.store import Store, checkpoints, compact, files, gc, tables, verify
from scaling.store.files import Damaged
from scaling.store.schema import ROW_SCHEMA

RUN = run_id(1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "store")
    for number in range(3):
        store.publish(make_row(number), make_curve(number), make_evals(number))
    return store


def read_everything(store: Store) -> None:
    """Whatever a user can ask of a store."""
    store = Store.open(store.root, write=True)
    store.rows(), store.curves(), store.evals(), store.running(), store.quarantined()
    for number in range(5):
        store.load_checkpoint(run_id(number))
        store.execution(run_id(number))
    verify(store)
    gc(store, older_than_s=-60)
    compact(store)


# --- cut and flipped files ---


def test_a_row_file_cut_anywhere_is_put_aside_and_no_other_row_is_touched(store: Store) -> None:
    path = store.root / f"rows/{RUN}.parquet"
    data = path.read_bytes()
    for length in [*range(0, len(data), 64), len(data) - 1]:
        path.write_bytes(data[:length])
        assert list(store.done()) == [run_id(0), run_id(2)]
        assert not path.exists()
    assert len(store.quarantined()) == len(range(0, len(data), 64)) + 1
    assert {q["file"] for q in store.quarantined()} == {f"rows/{RUN}.parquet"}
    assert store.publish(make_row(1), make_curve(1), make_evals(1))
    assert store.rows()["loss"].tolist() == [make_row(n)["loss"] for n in range(3)]


@pytest.mark.parametrize("folder", ["curves", "evals"])
def test_a_curve_cut_or_flipped_anywhere_is_noticed(store: Store, folder: str) -> None:
    path = store.root / f"{folder}/{RUN}.parquet"
    data = path.read_bytes()
    chooser = random.Random(0)
    for number in range(60):
        harmed = bytearray(data)
        if number % 2:
            harmed[chooser.randrange(len(data))] ^= 1 << chooser.randrange(8)
        else:
            del harmed[chooser.randrange(len(data)) :]
        path.write_bytes(harmed)
        reader = Store.open(store.root)
        table = getattr(reader, folder)()
        assert set(table["run_id"]) == {run_id(0), run_id(2)}
        assert f"{folder}/{RUN}.parquet" in {q["file"] for q in reader.quarantined()}


def test_a_checkpoint_cut_or_flipped_anywhere_gives_way_to_the_one_before(tmp_path: Path) -> None:
    """Cut at every 4 KiB and at each byte of the first and the last KiB; a bit flipped in each 4 KiB."""
    store = Store.create(tmp_path / "store")
    generator = torch.Generator().manual_seed(0)
    first, second = ({"w": torch.randn(12_000, generator=generator)} for _ in range(2))
    store.save_checkpoint(RUN, first, {"step": 1})
    store.save_checkpoint(RUN, second, {"step": 2})
    (path,) = store.checkpoint_path(RUN).glob("00000002-*.safetensors")
    data = path.read_bytes()
    size = len(data)
    cuts = {*range(0, size, 4096), *range(1024), *range(size - 1024, size)}
    chooser = random.Random(0)
    flips = [at + chooser.randrange(min(4096, size - at)) for at in range(0, size, 4096)]
    flips += [*range(0, 1024, 37), *range(size - 1024, size, 37)]
    for length in sorted(cuts, reverse=True):
        os.truncate(path, length)
        with pytest.raises(Damaged, match="sha256"):
            checkpoints.read(store.root, RUN, 2)
    for at in flips:
        harmed = bytearray(data)
        harmed[at] ^= 1 << chooser.randrange(8)
        path.write_bytes(harmed)
        with pytest.raises(Damaged, match="sha256"):
            checkpoints.read(store.root, RUN, 2)
    loaded = store.load_checkpoint(RUN)
    assert loaded is not None
    assert loaded[1] == {"step": 1}
    assert torch.equal(loaded[0]["w"], first["w"])
    assert {q["file"] for q in store.quarantined()} == {
        f"checkpoints/{RUN}/00000002.json",
        f"checkpoints/{RUN}/{path.name}",
    }


def test_two_writers_of_one_checkpoint_never_mix_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another driver saves under the same number between this one's tensors and its JSON."""
    store = Store.create(tmp_path / "store")
    mine, other = {"w": torch.ones(8)}, {"w": torch.zeros(8)}
    rivals = [lambda: Store.open(store.root, True).save_checkpoint(RUN, other, {"step": 5})]

    def between(point: str) -> None:
        if point == "checkpoint:after-replace" and rivals:
            rivals.pop()()

    monkeypatch.setattr(files, "fault", between)
    store.save_checkpoint(RUN, mine, {"step": 7})
    assert verify(store) == []
    loaded = store.load_checkpoint(RUN)
    assert loaded is not None
    assert loaded[1] == {"step": 7}
    assert torch.equal(loaded[0]["w"], mine["w"])


def test_a_driver_that_drops_the_checkpoints_of_another_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(tmp_path / "store")
    for point in ("checkpoint:after-fsync", "checkpoint:after-replace", "checkpoint-note:after-fsync"):

        def drop(now: str, point: str = point) -> None:
            if now == point:
                checkpoints.drop(store.root, RUN)

        monkeypatch.setattr(files, "fault", drop)
        store.save_checkpoint(RUN, {"w": torch.ones(8)}, {"step": 1})
    monkeypatch.undo()
    store.save_checkpoint(RUN, {"w": torch.ones(8)}, {"step": 2})
    assert store.load_checkpoint(RUN)[1] == {"step": 2}  # type: ignore[index]


# --- pickles ---


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.system, (f"touch {self.mark}",)


_unpickled: list[str] = []
_armed = [False]


def _audit(event: str, args: tuple[object, ...]) -> None:
    if _armed[0] and event == "pickle.find_class":
        _unpickled.append(str(args))


@pytest.fixture(scope="module", autouse=True)
def _watch_unpickling() -> None:
    sys.addaudithook(_audit)


@pytest.fixture
def armed() -> Iterator[None]:
    _unpickled.clear()
    _armed[0] = True
    yield
    _armed[0] = False


def test_the_watch_sees_an_unpickling(armed: None) -> None:
    pickle.loads(pickle.dumps(Path))
    assert _unpickled


def test_no_pickle_is_loaded_wherever_it_is_planted(store: Store, armed: None, tmp_path: Path) -> None:
    mark = tmp_path / "exploded"
    bomb = pickle.dumps(Bomb(mark))
    torch_file = tmp_path / "weights.pt"
    torch.save({"w": torch.ones(2), "x": Bomb(mark)}, torch_file)
    store.save_checkpoint(RUN, {"w": torch.ones(4)}, {"step": 1})
    root = store.root
    extension = pa.field(
        "x",
        pa.int64(),
        metadata={b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": bomb},
    )
    table = pa.table({"x": [1]}, schema=pa.schema([extension], metadata={b"pandas": bomb}))
    pq.write_table(table, root / f"rows/{run_id(3)}.parquet")
    pq.write_table(table, root / f"curves/{run_id(0)}.parquet")
    for name in (
        f"rows/{run_id(4)}.parquet",
        f"evals/{run_id(0)}.parquet",
        f"executions/{run_id(0)}.json",
        f"running/{run_id(0)}.json",
        f"running/{run_id(0)}.stack",
        f"checkpoints/{run_id(2)}/00000001.json",
        "predictions/head.json",
        "quarantine/rows.x.json",
        "index.cache",
        "rows/x.pkl",
        "rows/part-0123456789abcdef.parquet",
        ".staging/x.pkl",
        "logs/x.txt",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bomb)
    (tensors,) = store.checkpoint_path(RUN).glob("*.safetensors")
    for data in (bomb, torch_file.read_bytes()):
        tensors.write_bytes(data)
        note = files.signed_json(
            {
                "tensors": tensors.name,
                "tensors_sha256": files.digest(data),
                "packed": {"w": ["load", [1]]},
                "meta": {},
                "keep": False,
            }
        )
        (store.checkpoint_path(RUN) / "00000001.json").write_bytes(note)
        assert Store.open(root).load_checkpoint(RUN) is None
    read_everything(store)
    assert _unpickled == []
    assert not mark.exists()


def test_no_module_that_reads_files_can_unpickle() -> None:
    import scaling

    home = Path(str(scaling.__file__)).parent.parent
    for package in ("scaling", "sweeps", "analysis"):
        for path in (home / package).rglob("*.py"):
            text = path.read_text()
            for word in ("import pickle", "pickle.load", "torch.load(", "allow_pickle=True", "read_pickle", "joblib"):
                assert word not in text, f"{path.name} holds {word}"


# --- names and links that lead out ---


def outside(tmp_path: Path) -> Path:
    place = tmp_path / "outside"
    place.mkdir(exist_ok=True)
    (place / "precious").write_text("mine")
    return place


def test_a_row_that_names_a_way_out_is_damage(store: Store) -> None:
    """Whole by its own digest, so written on purpose; its digests would become names of files."""
    for column, text in (("curve_sha256", "../../../../../../etc/passwd"), ("evals_sha256", "/etc/passwd" + "0" * 20)):
        row = make_row(3) | {"curve_sha256": "", "evals_sha256": ""} | {column: text}
        path = store.root / f"rows/{run_id(3)}.parquet"
        path.write_bytes(tables.encode(tables.row_table(row, tables.TERMINAL)))
        assert list(store.done()) == [run_id(n) for n in range(3)]
        assert not path.exists()
        assert any(column in q["reason"] for q in store.quarantined())
    read_everything(store)


def test_a_part_whose_rows_name_a_way_out_is_damage(store: Store) -> None:
    row = tables.row_table(make_row(3) | {"curve_sha256": "", "evals_sha256": ""}, tables.TERMINAL)
    place = row.schema.get_field_index("run_id")
    for run in ("../../../up", "A" * 16):
        wrong = row.set_column(place, "run_id", pa.array([run], pa.string()))
        data = tables.encode(wrong)
        part = f"rows/part-{files.digest(data)[:16]}.parquet"
        (store.root / part).write_bytes(data)
        assert list(store.done()) == [run_id(n) for n in range(3)]
        assert part in {q["file"] for q in store.quarantined()}


@pytest.mark.parametrize("folder", ["rows", "curves", "evals", "checkpoints", "executions", "running", ".staging"])
def test_a_folder_that_is_a_link_is_refused_and_nothing_outside_is_touched(folder: str, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    place = outside(tmp_path)
    if (store.root / folder).exists():
        (store.root / folder).rmdir()
    (store.root / folder).symlink_to(place)
    acts = [
        lambda: store.publish(make_row(1), make_curve(1), make_evals(1)),
        lambda: store.save_checkpoint(RUN, {"w": torch.ones(1)}, {}),
        lambda: store.fix_execution(RUN, Execution()),
        lambda: store.mark_running(RUN, {}),
        lambda: gc(store, older_than_s=-60),
    ]
    said = []
    for act in acts:
        try:
            act()
        except StoreError as error:
            said.append(str(error))
    assert said
    assert all("a symbolic link, which may lead out of the store" in line for line in said)
    assert [p.name for p in place.iterdir()] == ["precious"]
    assert (place / "precious").read_text() == "mine"


def test_a_file_that_is_a_link_is_not_followed(store: Store, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    path = store.root / f"rows/{RUN}.parquet"
    path.rename(whole)
    path.symlink_to(whole)
    assert RUN not in store.done()
    assert [q["reason"] for q in store.quarantined()] == ["a symbolic link, which is not followed"]
    assert whole.exists()
    curve = store.root / f"curves/{run_id(0)}.parquet"
    target = tmp_path / "curve"
    curve.rename(target)
    curve.symlink_to(target)
    read_everything(store)
    assert target.exists()
    assert store.publish(make_row(1), make_curve(1), make_evals(1))


# --- other versions ---


def test_rows_of_a_newer_schema_are_refused_by_name(store: Store) -> None:
    table = tables.row_table(make_row(3) | {"curve_sha256": "", "evals_sha256": ""}, tables.TERMINAL)
    newer = table.append_column("loss_in_bananas", pa.array([1.0]))
    (store.root / f"rows/{run_id(3)}.parquet").write_bytes(tables.encode(newer))
    with pytest.raises(StoreError, match=rf"rows/{run_id(3)}.parquet: column loss_in_bananas is unknown.*upgrade"):
        store.done()
    assert (store.root / f"rows/{run_id(3)}.parquet").exists()


def test_rows_of_an_older_schema_are_read(store: Store) -> None:
    table = tables.row_table(make_row(3) | {"curve_sha256": "", "evals_sha256": ""}, tables.TERMINAL)
    older = table.drop_columns(["loss_best"])
    (store.root / f"rows/{run_id(3)}.parquet").write_bytes(tables.encode(older))
    rows = store.rows().set_index("run_id")
    assert list(rows.reset_index().columns) == ROW_SCHEMA.names
    assert rows.loss_best.isna()[run_id(3)]


def test_a_process_is_known_by_its_start_since_boot(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock set by a day changes neither its own note nor makes another process's out of it."""
    import time

    store.mark_running(RUN, {"sweep": "s"})
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 86400)
    assert not store.running()[RUN]["stale"]
    path = store.root / f"running/{RUN}.json"
    path.write_text(path.read_text().replace(f'"pid": {os.getpid()}', '"pid": 1'))
    assert store.running()[RUN]["stale"]
