"""A tokenised corpus as one file, for a machine without the text it was made from."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from scaling.corpora import cache as store
from scaling.corpora.prepare import TokenizedCorpus
from scaling.errors import CorpusError
from scaling.paths import cache_folder

_FILES = frozenset({*store.TOKEN_FILES, "token_bytes.npy", "tokenizer.json", "names.json"})
_TAG = re.compile(r"[a-z0-9][a-z0-9_-]*")
_CHUNK = 1 << 20
_MOST_SIDECAR_BYTES = 1 << 24


def export_corpus(tokenized: TokenizedCorpus, file: Path) -> None:
    """Writes the corpus to `file` (zip): sidecar and token files. Equal corpora give equal bytes.

    Raises:
        CorpusError: the cached files are damaged, or `file` cannot be written.
    """
    tokenized.verify()
    partial = file.with_name(f".{file.name}.partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in (store.SIDECAR, *sorted(_FILES)):
                entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                with (tokenized.folder / name).open("rb") as source, archive.open(entry, "w", force_zip64=True) as out:
                    shutil.copyfileobj(source, out, _CHUNK)
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CorpusError(f"{file}: cannot be written: {error.strerror}") from None


def import_corpus(file: Path, *, cache: Path | None = None) -> TokenizedCorpus:
    """Adds an exported corpus to the cache, where `prepare` of the same corpus and tokenizer then finds it.

    Raises:
        CorpusError: no exported corpus, damaged (every sha256 and the digest are checked), or the cache cannot be
            written.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            sidecar = _read_sidecar(file, archive)
            target = store.imported_folder_for(cache or cache_folder(), sidecar["spec"])
            store.make_room(target)
            staging = store.new_staging(target)
            try:
                _unpack(file, archive, sidecar, staging)
                with FileLock(target.with_name(f".{target.name}.lock")):
                    if target.exists():
                        store.discard(target)
                    store.publish(staging, target, sidecar)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except (OSError, zipfile.BadZipFile) as error:
        raise CorpusError(f"{file}: cannot be read as an exported corpus: {error}") from None
    opened = store.open_sidecar(target)
    if opened is None:
        raise CorpusError(f"{target}: damaged while it was written; import {file} again")
    return TokenizedCorpus(target, opened)


def _read_sidecar(file: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    try:
        entry = archive.getinfo(store.SIDECAR)
    except KeyError:
        raise CorpusError(f"{file}: holds no {store.SIDECAR}; make it with scaling corpus export") from None
    sidecar = store.parse_sidecar(archive.read(entry)) if entry.file_size <= _MOST_SIDECAR_BYTES else None
    if sidecar is None or set(sidecar["files"]) != _FILES:
        raise CorpusError(f"{file}: sidecar damaged or of another version; export it again")
    tags = (sidecar["spec"]["corpus"]["type"], sidecar["spec"]["tokenizer"]["type"])
    if not all(isinstance(tag, str) and _TAG.fullmatch(tag) for tag in tags):
        raise CorpusError(f"{file}: {tags} are no names of a corpus and a tokenizer")
    return sidecar


def _unpack(file: Path, archive: zipfile.ZipFile, sidecar: dict[str, Any], staging: Path) -> None:
    """Writes the named files, and nothing else, into `staging`."""
    for name, recorded in sidecar["files"].items():
        sha, size = hashlib.sha256(), 0
        try:
            source = archive.open(name)
        except KeyError:
            raise CorpusError(f"{file}: lacks {name}; export it again") from None
        with source, (staging / name).open("wb") as out:
            while (chunk := source.read(_CHUNK)) and size <= recorded["bytes"]:
                sha.update(chunk)
                size += len(chunk)
                out.write(chunk)
        if size != recorded["bytes"] or sha.hexdigest() != recorded["sha256"]:
            raise CorpusError(f"{file}: {name} is damaged (its sha256 is not the recorded one); export it again")
    if store.content_digest(staging, sidecar["vocabulary"]) != sidecar["digest"]:
        raise CorpusError(f"{file}: digest {sidecar['digest']} does not name this content; export it again")
    itemsize = np.dtype(sidecar["dtype"]).itemsize
    for part, counts in sidecar["statistics"]["parts"].items():
        if counts["tokens"] * itemsize != (staging / f"{part}.tokens").stat().st_size:
            raise CorpusError(f"{file}: {part}.tokens does not hold the recorded number of tokens; export it again")
