"""Where tokenised corpora are kept: a folder of token files and a JSON sidecar, published by one rename.

A sidecar carries the sha256 of itself and of every file. Opening verifies the sidecar and the sizes; `verify` reads
everything.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaling.corpora.base import Corpus
from scaling.errors import CorpusError
from scaling.spec import canonical
from scaling.tokenizers.base import Tokenizer

BUILD = 1
"""Raised when the same documents would give other token files: what was built before is then not found."""
SIDECAR = "corpus.json"
IMPORTED = "imported"
TOKEN_FILES = ("train.tokens", "test.tokens", "dev.tokens")


def spec_of(corpus: Corpus, tokenizer: Tokenizer) -> dict[str, Any]:
    """The canonical description of a tokenised corpus; `unique_tokens` only limits its use and is left out."""
    return {"corpus": canonical(corpus.model_copy(update={"unique_tokens": None})), "tokenizer": canonical(tokenizer)}


def _name(spec: Mapping[str, Any], *more: str) -> str:
    text = json.dumps([BUILD, spec, *more], sort_keys=True)
    return f"{spec['corpus']['type']}-{spec['tokenizer']['type']}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


def folder_for(root: Path, spec: Mapping[str, Any], fingerprint: str) -> Path:
    """Where a corpus that was prepared here lies."""
    return root / "corpora" / _name(spec, fingerprint)


def imported_folder_for(root: Path, spec: Mapping[str, Any]) -> Path:
    """Where a corpus that was imported lies, whatever the machine it came from read it from."""
    return root / IMPORTED / _name(spec)


def file_sha256(path: Path) -> str:
    """sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(folder: Path, vocabulary: Mapping[str, int]) -> str:
    """16 hex digits of the tokens of all parts, the vocabulary and the learned tokenizer: names the data in run ids."""
    sha = hashlib.sha256(json.dumps(dict(vocabulary), sort_keys=True).encode())
    for name in ("tokenizer.json", *TOKEN_FILES):
        sha.update(bytes.fromhex(file_sha256(folder / name)))
    return sha.hexdigest()[:16]


def _checksum(sidecar: Mapping[str, Any]) -> str:
    body = {key: value for key, value in sidecar.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def seal(sidecar: Mapping[str, Any]) -> str:
    """The sidecar's text, with its own checksum."""
    return json.dumps({**sidecar, "checksum": _checksum(sidecar)}, indent=1, sort_keys=True) + "\n"


def parse_sidecar(text: str | bytes) -> dict[str, Any] | None:
    """The sidecar, or None where it is damaged or of another format."""
    try:
        sidecar = json.loads(text)
    except ValueError:
        return None
    if not isinstance(sidecar, dict) or sidecar.get("format") != BUILD:
        return None
    return sidecar if sidecar.get("checksum") == _checksum(sidecar) else None


def open_sidecar(folder: Path) -> dict[str, Any] | None:
    """The sidecar of an intact folder; None where it is missing or damaged, or a file has not its recorded size."""
    try:
        sidecar = parse_sidecar((folder / SIDECAR).read_bytes())
        if sidecar is None:
            return None
        sizes = {name: (folder / name).stat().st_size for name in sidecar["files"]}
    except OSError:
        return None
    return sidecar if all(sizes[name] == entry["bytes"] for name, entry in sidecar["files"].items()) else None


def verify(folder: Path) -> None:
    """Reads every file.

    Raises:
        CorpusError: one differs from its recorded sha256.
    """
    sidecar = open_sidecar(folder)
    if sidecar is None:
        raise CorpusError(f"{folder}: sidecar damaged, or a file missing or cut short; delete the folder")
    for name, entry in sidecar["files"].items():
        if file_sha256(folder / name) != entry["sha256"]:
            raise CorpusError(f"{folder / name}: content differs from its recorded sha256; delete the folder")


def new_staging(target: Path) -> Path:
    """An empty folder beside `target`, on the same filesystem, to be filled and published."""
    return Path(tempfile.mkdtemp(prefix=f".staging-{target.name}-", dir=target.parent))


def make_room(target: Path) -> None:
    """Makes the folder that `target` is to lie in.

    Raises:
        CorpusError: the cache cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        new_staging(target).rmdir()
    except OSError as error:
        raise CorpusError(
            f"cache {target.parent} cannot be written: {error.strerror}; set SCALING_CACHE to a folder that can"
        ) from None


def publish(staging: Path, target: Path, sidecar: Mapping[str, Any]) -> None:
    """Completes `sidecar` with the files' sizes and hashes, then renames the staged folder to `target`.

    Where another process has published an intact one first, that one stays; a damaged one is replaced.
    """
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in sorted(staging.iterdir())
    }
    (staging / SIDECAR).write_text(seal({**sidecar, "format": BUILD, "files": files}))
    for path in staging.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if target.exists() and open_sidecar(target) is None:
        discard(target)
    try:
        staging.rename(target)
    except OSError:
        if open_sidecar(target) is None:
            raise
        shutil.rmtree(staging, ignore_errors=True)


def discard(folder: Path) -> None:
    """Removes a folder under another name first, so that nobody opens half of it."""
    aside = Path(tempfile.mkdtemp(prefix=".discarded-", dir=folder.parent))
    folder.rename(aside / folder.name)
    shutil.rmtree(aside, ignore_errors=True)


def remove_stale_staging(target: Path) -> None:
    """Removes what killed writers of `target` left; call it holding the target's lock."""
    for path in target.parent.glob(f".staging-{target.name}-*"):
        shutil.rmtree(path, ignore_errors=True)
