"""Checkpoints: every bit of every dtype comes back; a damaged one gives way to the one before it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from store_rows import run_id

from scaling.errors import StoreError
from scaling.store import Store

RUN = run_id(1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def test_every_bit_of_every_dtype_comes_back(store: Store) -> None:
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (48,), generator=generator, dtype=torch.uint8)
    names = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 complex64 complex128"
    tensors = {n: raw.clone().view(getattr(torch, n)) for n in [*names.split(), "float8_e4m3fn"]}
    tensors["flag"] = raw > 99
    tensors["scalar"] = torch.tensor(0.1, dtype=torch.bfloat16)
    tensors["empty"] = torch.empty(0, 3)
    tensors["transposed"] = torch.arange(6.0).reshape(2, 3).T
    tensors["tied"] = tensors["float32"]
    tensors["nan"] = torch.tensor([0x7FC01234, -1], dtype=torch.int32).view(torch.float32)
    store.save_checkpoint(RUN, tensors, {"step": 7, "rng": [1, 2], "loss": 0.1 + 0.2})
    loaded = store.load_checkpoint(RUN)
    assert loaded is not None
    back, meta = loaded
    assert meta == {"step": 7, "rng": [1, 2], "loss": 0.1 + 0.2}
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert back[name].shape == tensor.shape
        assert bits(back[name]) == bits(tensor), name


def test_none_before_the_first_and_after_the_drop(store: Store) -> None:
    assert store.load_checkpoint(RUN) is None
    store.save_checkpoint(RUN, {"w": torch.ones(2)}, {})
    store.drop_checkpoint(RUN)
    assert store.load_checkpoint(RUN) is None
    assert not store.checkpoint_path(RUN).exists()
    store.drop_checkpoint(RUN)


def test_the_newest_counts_and_one_reserve_stays(store: Store) -> None:
    for step in range(5):
        store.save_checkpoint(RUN, {"w": torch.full((2,), float(step))}, {"step": step})
    assert len(list(store.checkpoint_path(RUN).iterdir())) == 4
    loaded = store.load_checkpoint(RUN)
    assert loaded is not None
    assert loaded[1] == {"step": 4}


@pytest.mark.parametrize("suffix", ["safetensors", "json"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_then_to_none(store: Store, suffix: str) -> None:
    for step in (1, 2):
        store.save_checkpoint(RUN, {"w": torch.full((64,), float(step))}, {"step": step})
    (newest,) = store.checkpoint_path(RUN).glob(f"00000002*.{suffix}")
    tensors = next(store.checkpoint_path(RUN).glob("00000002*.safetensors")).name
    whole = newest.read_bytes()
    for cut in (0, 1, 8, len(whole) // 2, len(whole) - 2):
        newest.write_bytes(whole[:cut])
        assert Store.open(store.root).load_checkpoint(RUN)[1] == {"step": 1}  # type: ignore[index]
    for offset in range(0, len(whole), 7):
        data = bytearray(whole)
        data[offset] ^= 1
        newest.write_bytes(data)
        step = Store.open(store.root).load_checkpoint(RUN)[1]  # type: ignore[index]
        # White space in the JSON may change; nothing else.
        assert step == {"step": 1} or (
            suffix == "json" and step == {"step": 2} and not whole[offset : offset + 1].strip()
        )
    newest.write_bytes(whole[:-3])
    loaded = store.load_checkpoint(RUN)
    assert loaded is not None
    assert loaded[1] == {"step": 1}
    assert {q["file"] for q in store.quarantined()} == {
        f"checkpoints/{RUN}/00000002.json",
        f"checkpoints/{RUN}/{tensors}",
    }
    next(store.checkpoint_path(RUN).glob("00000001*.safetensors")).unlink()
    assert store.load_checkpoint(RUN) is None
    store.save_checkpoint(RUN, {"w": torch.zeros(1)}, {"step": 3})
    assert store.load_checkpoint(RUN)[1] == {"step": 3}  # type: ignore[index]


@pytest.mark.parametrize(
    "point",
    ["checkpoint:after-write", "checkpoint:after-fsync", "checkpoint:after-replace", "checkpoint-note:after-write"],
)
def test_a_save_killed_anywhere_leaves_the_one_before(store: Store, point: str) -> None:
    store.save_checkpoint(RUN, {"w": torch.ones(4)}, {"step": 1})
    code = """
import os, signal, sys, torch
from scaling.store import Store, files
files.fault = lambda point: point == sys.argv[2] and os.kill(os.getpid(), signal.SIGKILL)
Store.open(sys.argv[1], True).save_checkpoint(sys.argv[3], {"w": torch.zeros(4)}, {"step": 2})
"""
    done = subprocess.run([sys.executable, "-c", code, str(store.root), point, RUN], timeout=60)
    assert done.returncode == -signal.SIGKILL
    loaded = store.load_checkpoint(RUN)
    assert loaded is not None
    assert loaded[1] == {"step": 1}
    assert torch.equal(loaded[0]["w"], torch.ones(4))
    store.save_checkpoint(RUN, {"w": torch.zeros(4)}, {"step": 2})
    assert store.load_checkpoint(RUN)[1] == {"step": 2}  # type: ignore[index]


def test_what_cannot_be_saved_is_a_clear_error(store: Store) -> None:
    with pytest.raises(StoreError, match="meta is not plain JSON"):
        store.save_checkpoint(RUN, {"w": torch.ones(1)}, {"step": torch.ones(1)})
    with pytest.raises(StoreError, match="16 lower-case hex digits"):
        store.save_checkpoint("../up", {"w": torch.ones(1)}, {})
    (store.root / "checkpoints").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be read: Not a directory"):
        store.save_checkpoint(RUN, {"w": torch.ones(1)}, {})
    assert not os.listdir(store.root / ".staging")
