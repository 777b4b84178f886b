"""Checkpoints of one run: a numbered JSON file commits each and names its safetensors file by sha256.

The newest whole one counts; the one before stays as its reserve. Tensors come back with every bit they had. A tensor
file is named by its content, so that two drivers which run one trial at once never mix their files.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.errors import DiskError, StoreError
from scaling.store import files

if TYPE_CHECKING:
    import torch

FOLDER = "checkpoints"
RESERVE = 2
"""Whole checkpoints kept: the newest and the one before it."""

PATIENCE = 3
"""Times a checkpoint is written again because another driver, done with the run, removed the folder meanwhile."""

_NOTE = re.compile(r"(\d{8})\.json")
_TENSORS = re.compile(r"\d{8}(?:-[0-9a-f]{16})?\.safetensors")


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
    """Writes a checkpoint: tensors first, then the JSON that commits it, then older ones go.

    Raises StoreError where `meta` is not plain JSON, DiskError where the disk refuses.
    """
    try:
        json.dumps(meta, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"checkpoint of {run_id}: meta is not plain JSON: {error}") from error
    place = folder(run_id)
    number = max(numbers(root, run_id), default=0) + 1
    out, packed = _pack(tensors)
    name, sha256 = _save_tensors(root, run_id, number, out)
    note = {"tensors": name, "tensors_sha256": sha256, "packed": packed, "meta": meta, "keep": keep}
    files.replace(root, f"{place}/{number:08d}.json", files.signed_json(note), "checkpoint-note")
    for old in numbers(root, run_id)[RESERVE:]:
        _remove(root, run_id, old)
    _sweep(root, run_id)


def _save_tensors(root: Path, run_id: str, number: int, tensors: dict[str, torch.Tensor]) -> tuple[str, str]:
    """Puts tensors under a name made of their number and content; returns that name and the sha256."""
    from safetensors.torch import save_file

    staged = files.new_staged(root)
    try:
        save_file(tensors, staged)
        files.fault("checkpoint:after-write")
        with open(staged, "rb+") as file:
            os.fsync(file.fileno())
        files.fault("checkpoint:after-fsync")
        sha256 = _file_sha256(staged)
        name = f"{number:08d}-{sha256[:16]}.safetensors"
        final = files.locate(root, f"{folder(run_id)}/{name}")
        for attempt in range(PATIENCE):
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.replace(staged, final)
                break
            except FileNotFoundError:
                if attempt == PATIENCE - 1:
                    raise
        files.fault("checkpoint:after-replace")
        files.sync_folder(final.parent)
        return name, sha256
    except StoreError:
        raise
    except Exception as error:
        # safetensors reports a full disk as its own error, not as OSError.
        raise DiskError(f"checkpoint of {run_id}: cannot be written: {error}; free some space and run again") from error
    finally:
        staged.unlink(missing_ok=True)


def _file_sha256(path: Path) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tensor_names(root: Path, run_id: str) -> dict[str, int]:
    """Tensor files of a run with the number each is of."""
    found = (name.rsplit("/", 1)[1] for name in files.names(root, folder(run_id), ".safetensors"))
    return {name: int(name[:8]) for name in found if _TENSORS.fullmatch(name)}


def _remove(root: Path, run_id: str, number: int) -> None:
    # The JSON goes first: without it the tensors are no checkpoint.
    files.remove(root, f"{folder(run_id)}/{number:08d}.json")
    for name, of in _tensor_names(root, run_id).items():
        if of == number:
            files.remove(root, f"{folder(run_id)}/{name}")


def _sweep(root: Path, run_id: str) -> None:
    """Removes tensor files older than every checkpoint: what crashes between a tensor file and its JSON left."""
    oldest = min(numbers(root, run_id), default=0)
    for name, of in _tensor_names(root, run_id).items():
        if of < oldest:
            files.remove(root, f"{folder(run_id)}/{name}")


def _read_note(root: Path, run_id: str, number: int) -> tuple[dict[str, Any], bytes]:
    """A checkpoint's JSON and the bytes of its tensor file, both checked. Raises Damaged or FileNotFoundError."""
    note = files.read_signed_json(root, f"{folder(run_id)}/{number:08d}.json")
    name = note.get("tensors")
    if not isinstance(name, str) or not _TENSORS.fullmatch(name):
        raise files.Damaged("its JSON names no tensor file of this folder")
    try:
        data = files.read(root, f"{folder(run_id)}/{name}")
    except FileNotFoundError as error:
        raise files.Damaged("its tensor file is missing") from error
    if files.digest(data) != note.get("tensors_sha256"):
        raise files.Damaged("its tensor file differs from the sha256 in its JSON")
    return note, data


def read(root: Path, run_id: str, number: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """One checkpoint's tensors (on the CPU) and meta. Raises Damaged or FileNotFoundError."""
    import torch
    from safetensors.torch import load

    note, data = _read_note(root, run_id, number)
    try:
        tensors = load(data)
        for name, (dtype, shape) in note["packed"].items():
            tensors[name] = tensors[name].view(getattr(torch, dtype)).reshape(shape)
        return tensors, dict(note["meta"])
    except Exception as error:
        # Whole by its digests, yet no checkpoint: safetensors, torch and lookups fail each in its own way.
        raise files.Damaged(f"not a checkpoint: {str(error).splitlines()[0] if str(error) else error!r}") from error


def check(root: Path, run_id: str, number: int) -> str | None:
    """Why a checkpoint is damaged, or None; needs no torch."""
    with contextlib.suppress(FileNotFoundError):
        try:
            _read_note(root, run_id, number)
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
    """Moves a damaged checkpoint's files to quarantine; the JSON first, so that it no longer counts."""
    files.quarantine(root, f"{folder(run_id)}/{number:08d}.json", reason, None)
    for name, of in _tensor_names(root, run_id).items():
        if of == number:
            files.quarantine(root, f"{folder(run_id)}/{name}", reason, None)


def drop(root: Path, run_id: str) -> None:
    """Removes all checkpoints of a run but its final weights."""
    place = root / folder(run_id)
    stays = False
    for number in numbers(root, run_id):
        if _is_final(root, run_id, number):
            stays = True
        else:
            _remove(root, run_id, number)
    if not stays:
        shutil.rmtree(place, ignore_errors=True)


def _is_final(root: Path, run_id: str, number: int) -> bool:
    with contextlib.suppress(FileNotFoundError, files.Damaged, KeyError):
        return bool(files.read_signed_json(root, f"{folder(run_id)}/{number:08d}.json")["meta"].get("final"))
    return False
