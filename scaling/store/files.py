"""All the store does to the filesystem: stage, publish once, replace, lock, quarantine. Names are relative to the root.

A file appears complete or not at all: it is written under `.staging`, synced, read back, and hard-linked to its name.
Where the filesystem has no hard links the name is claimed with O_EXCL and the staged file renamed over the claim; a
crash in between leaves an empty file, which readers take for damage.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scaling.errors import StoreError

STAGING = ".staging"
QUARANTINE = "quarantine"

_RUN_ID = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/){0,2}[A-Za-z0-9_-][A-Za-z0-9._-]*")
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}


class Damaged(Exception):
    """A file's content is not what was written; the message says how that is known."""


def _no_fault(point: str) -> None:
    """Nothing goes wrong; tests put a function here that kills the process at a named point."""


fault: Callable[[str], None] = _no_fault
"""Called with `KIND:after-write`, then `after-fsync`, then `after-link` or `after-replace`; `quarantine:after-move`."""


def digest(data: bytes) -> str:
    """The sha256 of some bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def json_digest(value: Any) -> str:
    """The sha256 of a JSON value, whatever the order of its keys."""
    return digest(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def is_run_id(text: str) -> bool:
    """Whether a text is 16 lower-case hex digits."""
    return _RUN_ID.fullmatch(text) is not None


def check_run_id(run_id: object) -> str:
    """Returns `run_id`, or raises StoreError where it is not 16 hex digits and so could not name a file."""
    if not isinstance(run_id, str) or not is_run_id(run_id):
        raise StoreError(f"run_id {run_id!r}: not 16 lower-case hex digits; take it from Trial.run_id")
    return run_id


def locate(root: Path, name: str) -> Path:
    """The path of a relative name inside the store. Raises StoreError where it would leave the store."""
    if not _NAME.fullmatch(name):
        raise StoreError(f"{name!r}: not a name inside a store")
    return root / name


def names(root: Path, folder: str, suffix: str = "") -> list[str]:
    """Sorted relative names of the plain files of a folder; empty where the folder is missing."""
    try:
        with os.scandir(root / folder) as entries:
            return sorted(f"{folder}/{e.name}" for e in entries if e.name.endswith(suffix) and e.is_file())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{root / folder}: cannot be read: {error.strerror}; check the folder") from error


def read(root: Path, name: str) -> bytes:
    """A file's bytes. Raises FileNotFoundError, Damaged where the device cannot read it, StoreError otherwise."""
    try:
        return locate(root, name).read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.EIO:
            raise Damaged(f"unreadable: {error.strerror}") from error
        raise StoreError(f"{root / name}: cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        mend = {errno.ENOSPC: "free some space", errno.EDQUOT: "free some quota", errno.EFBIG: "raise the size limit"}
        what = mend.get(error.errno or 0, "check the disk and the permissions")
        raise StoreError(f"{path}: cannot be written: {error.strerror}; {what} and run again") from error


def sync_folder(path: Path) -> None:
    """Makes the names in a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def new_staged(root: Path) -> Path:
    """A fresh path under `.staging`, on the filesystem of the store."""
    folder = root / STAGING
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"


@contextlib.contextmanager
def _staged(root: Path, data: bytes, kind: str, durable: bool = True) -> Iterator[Path]:
    path = new_staged(root)
    try:
        with open(path, "xb") as file:
            file.write(data)
            file.flush()
            fault(f"{kind}:after-write")
            if durable:
                os.fsync(file.fileno())
        fault(f"{kind}:after-fsync")
        if durable and path.read_bytes() != data:
            raise OSError(errno.EIO, "what was read back differs from what was written")
        yield path
    finally:
        path.unlink(missing_ok=True)


def link_once(staged: Path, final: Path, kind: str) -> bool:
    """Gives a staged file its name and syncs the folder; False where the name is taken."""
    try:
        os.link(staged, final)
    except FileExistsError:
        # Over NFS a link may succeed although its answer was lost.
        if not os.path.samefile(staged, final):
            return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        try:
            os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            return False
        os.replace(staged, final)
    fault(f"{kind}:after-link")
    sync_folder(final.parent)
    return True


def publish(root: Path, name: str, data: bytes, kind: str) -> bool:
    """Publishes bytes under a name once and for all; False where another writer was first. Raises StoreError."""
    final = locate(root, name)
    if os.path.lexists(final):
        return False
    with _named(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        with _staged(root, data, kind) as staged:
            return link_once(staged, final, kind)


def replace(root: Path, name: str, data: bytes, kind: str, durable: bool = True) -> None:
    """Puts bytes under a name in one step, whatever was there. Raises StoreError."""
    final = locate(root, name)
    with _named(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        with _staged(root, data, kind, durable) as staged:
            os.replace(staged, final)
            fault(f"{kind}:after-replace")
            if durable:
                sync_folder(final.parent)


def remove(root: Path, name: str) -> None:
    """Removes a file if it is there."""
    with _named(root / name):
        locate(root, name).unlink(missing_ok=True)


def quarantine(root: Path, name: str, reason: str, seen: str | None) -> str | None:
    """Moves a damaged file to `quarantine/` with its reason in a JSON file beside it.

    `seen` is the digest of the bytes that were judged (None: any). If the name meanwhile holds other bytes, a good file
    took the place of the damaged one, and nothing is moved. Returns the name in quarantine, or None. Raises StoreError.
    """
    path = locate(root, name)
    target = f"{QUARANTINE}/{name.replace('/', '.')}.{uuid.uuid4().hex[:12]}"
    note = {"file": name, "reason": reason, "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "sha256": seen}
    try:
        if seen is not None and digest(path.read_bytes()) != seen:
            return None
    except FileNotFoundError:
        return None
    except OSError:
        pass  # What cannot be read can still be moved.
    replace(root, f"{target}.json", json.dumps(note, indent=1).encode(), "quarantine-note")
    moved = root / target
    try:
        os.rename(path, moved)
    except FileNotFoundError:
        remove(root, f"{target}.json")
        return None
    except OSError as error:
        raise StoreError(f"{path}: damaged ({reason}) and cannot be moved: {error.strerror}") from error
    if seen is not None and moved.stat().st_size and digest(moved.read_bytes()) != seen:
        # A good file arrived between the look and the move: give it its name back.
        with contextlib.suppress(FileExistsError):
            os.link(moved, path)
        moved.unlink()
        remove(root, f"{target}.json")
        return None
    fault("quarantine:after-move")
    with _named(path):
        sync_folder(path.parent)
        sync_folder(moved.parent)
    return target


@contextlib.contextmanager
def lock(root: Path, name: str) -> Iterator[None]:
    """Serialises short read-change-write steps among processes that share the filesystem; released at a crash.

    Where the platform or the filesystem has no advisory locks it does nothing.
    """
    with _named(root / STAGING):
        (root / STAGING).mkdir(parents=True, exist_ok=True)
        handle = os.open(root / STAGING / f"{name}.lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def read_signed_json(root: Path, name: str) -> dict[str, Any]:
    """A JSON object that carries its own digest under `sha256`. Raises FileNotFoundError or Damaged."""
    data = read(root, name)
    try:
        value = json.loads(data)
    except ValueError as error:
        raise Damaged(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Damaged("not a JSON object")
    claimed = value.pop("sha256", None)
    try:
        actual = json_digest(value)
    except ValueError as error:
        raise Damaged(f"not JSON: {error}") from error
    if claimed != actual:
        raise Damaged("its content differs from the sha256 it carries")
    return value


def signed_json(value: dict[str, Any]) -> bytes:
    """The bytes that `read_signed_json` reads."""
    return (json.dumps({**value, "sha256": json_digest(value)}, indent=1, sort_keys=True) + "\n").encode()
