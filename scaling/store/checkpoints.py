"""Checkpoints of one run: numbered safetensors files, each with a JSON file that names its sha256 and commits it.

The newest whole one counts; the one before stays as its reserve. Tensors come back with every bit they had.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.errors import StoreError
from scaling.store import files

if TYPE_CHECKING:
    import torch

FOLDER = "checkpoints"
RESERVE = 2
"""Whole checkpoints kept: the newest and the one before it."""

_NOTE = re.compile(r"(\d{8})\.json")


def folder(run_id: str) -> str:
    """The relative name of a run's checkpoint folder."""
    return f"{FOLDER}/{files.check_run_id(run_id)}"


def numbers(root: Path, run_id: str) -> list[int]:
    """Numbers of the committed checkpoints, newest first."""
    found = (_NOTE.fullmatch(name.rsplit("/", 1)[1]) for name in files.names(root, folder(run_id), ".json"))
    return sorted((int(m[1]) for m in found if m), reverse=True)


def _pack(tensors: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, list[Any]]]:
    """Tensors as safetensors takes them: contiguous, on the CPU, sharing nothing; other dtypes as bytes, noted."""
    import torch

    plain = {"float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"}
    out: dict[str, torch.Tensor] = {}
    packed: dict[str, list[Any]] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        dtype = str(flat.dtype).removeprefix("torch.")
        if dtype not in plain:
            packed[name] = [dtype, list(flat.shape)]
            flat = flat.reshape(-1).view(torch.uint8)
        pointer = flat.untyped_storage().data_ptr()
        out[name] = flat.clone() if pointer in storages else flat
        storages.add(pointer)
    return out, packed


def save(root: Path, run_id: str, tensors: dict[str, torch.Tensor], meta: dict[str, Any], keep: bool) -> None:
    """Writes a checkpoint: tensors first, then the JSON that commits it, then older ones go. Raises StoreError."""
    from safetensors.torch import save_file

    place = folder(run_id)
    number = max(numbers(root, run_id), default=0) + 1
    name = f"{place}/{number:08d}.safetensors"
    out, packed = _pack(tensors)
    try:
        json.dumps(meta, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"checkpoint of {run_id}: meta is not plain JSON: {error}") from error
    staged = files.new_staged(root)
    try:
        final = files.locate(root, name)
        final.parent.mkdir(parents=True, exist_ok=True)
        save_file(out, staged)
        files.fault("checkpoint:after-write")
        with open(staged, "rb+") as file:
            os.fsync(file.fileno())
        files.fault("checkpoint:after-fsync")
        sha256 = _file_sha256(staged)
        # A file of that number without its JSON is what a crash left.
        os.replace(staged, final)
        files.fault("checkpoint:after-replace")
        files.sync_folder(final.parent)
    except Exception as error:
        # safetensors reports a full disk as its own error, not as OSError.
        raise StoreError(
            f"checkpoint of {run_id}: cannot be written: {error}; free some space and run again"
        ) from error
    finally:
        staged.unlink(missing_ok=True)
    note = {"tensors": final.name, "tensors_sha256": sha256, "packed": packed, "meta": meta, "keep": keep}
    files.replace(root, f"{place}/{number:08d}.json", files.signed_json(note), "checkpoint-note")
    for old in numbers(root, run_id)[RESERVE:]:
        _remove(root, run_id, old)


def _file_sha256(path: Path) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(root: Path, run_id: str, number: int) -> None:
    # The JSON goes first: without it the tensors are no checkpoint.
    files.remove(root, f"{folder(run_id)}/{number:08d}.json")
    files.remove(root, f"{folder(run_id)}/{number:08d}.safetensors")


def read(root: Path, run_id: str, number: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """One checkpoint's tensors (on the CPU) and meta. Raises Damaged or FileNotFoundError."""
    import torch
    from safetensors.torch import load

    note = files.read_signed_json(root, f"{folder(run_id)}/{number:08d}.json")
    try:
        data = files.read(root, f"{folder(run_id)}/{number:08d}.safetensors")
    except FileNotFoundError as error:
        raise files.Damaged("its tensor file is missing") from error
    if files.digest(data) != note.get("tensors_sha256"):
        raise files.Damaged("its tensor file differs from the sha256 in its JSON")
    tensors = load(data)
    for name, (dtype, shape) in note["packed"].items():
        tensors[name] = tensors[name].view(getattr(torch, dtype)).reshape(shape)
    return tensors, note["meta"]


def check(root: Path, run_id: str, number: int) -> str | None:
    """Why a checkpoint is damaged, or None; needs no torch."""
    try:
        note = files.read_signed_json(root, f"{folder(run_id)}/{number:08d}.json")
        if files.digest(files.read(root, f"{folder(run_id)}/{number:08d}.safetensors")) != note.get("tensors_sha256"):
            return "its tensor file differs from the sha256 in its JSON"
    except FileNotFoundError:
        return "its tensor file is missing"
    except files.Damaged as error:
        return str(error)
    return None


def kept(root: Path, run_id: str) -> bool:
    """Whether a whole checkpoint of the run asks to outlive the run."""
    for number in numbers(root, run_id):
        try:
            if files.read_signed_json(root, f"{folder(run_id)}/{number:08d}.json").get("keep"):
                return True
        except (FileNotFoundError, files.Damaged):
            continue
    return False


def isolate(root: Path, run_id: str, number: int, reason: str) -> None:
    """Moves a damaged checkpoint's two files to quarantine; the JSON first, so that it no longer counts."""
    files.quarantine(root, f"{folder(run_id)}/{number:08d}.json", reason, None)
    files.quarantine(root, f"{folder(run_id)}/{number:08d}.safetensors", reason, None)


def drop(root: Path, run_id: str) -> None:
    """Removes all checkpoints of a run."""
    place = root / folder(run_id)
    for number in numbers(root, run_id):
        _remove(root, run_id, number)
    shutil.rmtree(place, ignore_errors=True)
