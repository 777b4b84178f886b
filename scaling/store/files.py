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
from typing import IO, Any

from scaling.errors import DiskError, StoreError

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
    """The path of a relative name inside the store. Raises StoreError where it would leave the store.

    A folder of the store that is a symbolic link would lead out of it, and is refused; the store itself may be one.
    """
    if not _NAME.fullmatch(name):
        raise StoreError(f"{name!r}: not a name inside a store")
    path = root / name
    _check_folder(root, os.path.dirname(name))
    return path


def _check_folder(root: Path, folder: str) -> None:
    while folder:
        if os.path.islink(os.path.join(root, folder)):
            raise StoreError(f"{root / folder}: a symbolic link, which may lead out of the store; move the folder here")
        folder = os.path.dirname(folder)


def names(root: Path, folder: str, suffix: str = "") -> list[str]:
    """Sorted relative names of the plain files of a folder; empty where the folder is missing."""
    _check_folder(root, folder)
    try:
        with os.scandir(root / folder) as entries:
            # A symbolic link is listed, so that whoever reads it puts it aside; no link is ever followed.
            return sorted(
                f"{folder}/{e.name}"
                for e in entries
                if e.name.endswith(suffix) and (e.is_symlink() or e.is_file(follow_symlinks=False))
            )
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{root / folder}: cannot be read: {error.strerror}; check the folder") from error


def read(root: Path, name: str) -> bytes:
    """A file's bytes. Raises FileNotFoundError, Damaged where it is a link or unreadable, StoreError otherwise."""
    try:
        with open(os.open(locate(root, name), os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Damaged("a symbolic link, which is not followed") from error
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
        raise DiskError(f"{path}: cannot be written: {error.strerror}; {what} and run again") from error


def sync_folder(path: Path) -> None:
    """Makes the names in a folder survive a power cut; one that another process removed meanwhile has none."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def new_staged(root: Path) -> Path:
    """A fresh path under `.staging`, on the filesystem of the store."""
    folder = root / STAGING
    _check_folder(root, STAGING)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"


def writer_lives(name: str) -> bool:
    """Whether a staged file was made by a process that is still there; False where another machine made it."""
    host, _, rest = name.rsplit("/", 1)[-1].rpartition("-")[0].rpartition("-")
    if host != socket.gethostname() or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def clock(root: Path) -> float:
    """The present by the clock that dates the store's files, in seconds since 1970. Raises StoreError."""
    with _named(root / STAGING), _staged(root, b"", "clock", durable=False) as staged:
        return staged.stat().st_mtime


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
            try:
                os.replace(staged, final)
            except FileNotFoundError:  # Another driver, done with the run, removed its folder of checkpoints.
                final.parent.mkdir(parents=True, exist_ok=True)
                os.replace(staged, final)
            fault(f"{kind}:after-replace")
            if durable:
                sync_folder(final.parent)


def append_to(root: Path, name: str) -> tuple[Path, IO[bytes]]:
    """A file's path and the file, open for appending without a buffer; made where it is missing. Raises StoreError."""
    path = locate(root, name)
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        return path, open(os.open(path, flags, 0o644), "ab", buffering=0)


def probe(root: Path) -> None:
    """Stages a small file and removes it. Raises StoreError where the store cannot be written."""
    try:
        with _staged(root, b"probe", "probe", durable=False):
            pass
    except OSError as error:
        raise StoreError(
            f"{root}: cannot be written: {error.strerror}; get the right to write there, free some space,"
            " or choose another store"
        ) from error


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
    _check_folder(root, STAGING)
    with _named(root / STAGING):
        (root / STAGING).mkdir(parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(root / STAGING / f"{name}.lock", flags, 0o644)
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
