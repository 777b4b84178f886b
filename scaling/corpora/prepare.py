"""A corpus made ready: read once, near-duplicates removed, split by document, tokenised into memory-mapped files.

Later calls open what is cached, in milliseconds.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from filelock import FileLock
from pydantic import TypeAdapter

from scaling.corpora import cache as store
from scaling.corpora import dedup, heldout, split
from scaling.corpora.base import Corpus
from scaling.corpora.split import Part, Pieces
from scaling.errors import CorpusError
from scaling.objectives.base import Vocabulary
from scaling.paths import cache_folder
from scaling.tokenizers import TokenizerSpec
from scaling.tokenizers.base import Encoder, Tokenizer

Progress = Callable[[str], None]

_ENCODE_DOCUMENTS = 512


class TokenizedCorpus:
    """A corpus as token streams on disk: documents in a fixed shuffled order, each followed by the separator.

    `digest` names the tokens of all parts and the vocabulary; `statistics` says what was read, dropped and kept.
    """

    def __init__(self, folder: Path, sidecar: dict[str, Any]) -> None:
        self.folder = folder
        self.digest: str = sidecar["digest"]
        self.statistics: dict[str, Any] = sidecar["statistics"]
        self.spec: dict[str, Any] = sidecar["spec"]
        self._sidecar = sidecar
        self._chosen: dict[tuple[str, int, str], tuple[np.ndarray, np.ndarray]] = {}

    @property
    def imported(self) -> bool:
        """Whether it came from another machine by `import_corpus`."""
        return self.folder.parent.name == store.IMPORTED

    def __repr__(self) -> str:
        return (
            f"TokenizedCorpus({self.spec['corpus']['type']}, {self.spec['tokenizer']['type']}, digest {self.digest}, "
            f"{self.n_train:,} training tokens)"
        )

    def _stream(self, part: Part) -> np.memmap:
        return np.memmap(self.folder / f"{part}.tokens", dtype=self._sidecar["dtype"], mode="r")

    @cached_property
    def train(self) -> np.memmap:
        """(n_train,) token ids of the training part."""
        return self._stream("train")

    @cached_property
    def test(self) -> np.memmap:
        """Token ids of the test part."""
        return self._stream("test")

    @cached_property
    def dev(self) -> np.memmap:
        """Token ids of the development part, reserved for choosing steps."""
        return self._stream("dev")

    @property
    def n_train(self) -> int:
        """Tokens of the training part, separators included."""
        return int(self.statistics["parts"]["train"]["tokens"])

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """(size,) int64: UTF-8 bytes that each token stands for; 0 for special ones."""
        table: np.ndarray = np.load(self.folder / "token_bytes.npy")
        return table

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Size, special ids, and what is known of each token's text."""
        tokenizer: Tokenizer = TypeAdapter(TokenizerSpec).validate_python(self.spec["tokenizer"])
        classes = tokenizer.load(self.saved_tokenizer).vocabulary.classes
        return Vocabulary(**self._sidecar["vocabulary"], classes=classes)

    @property
    def saved_tokenizer(self) -> str:
        """What `Tokenizer.load` makes the encoder from."""
        return (self.folder / "tokenizer.json").read_text()

    def document_names(self, part: Literal["test", "dev"]) -> list[str]:
        """Names of the documents of a held-out part, in the order of their stream."""
        names: list[str] = json.loads((self.folder / "names.json").read_text())[part]
        return names

    def document_starts(self, n_tokens: int) -> np.ndarray:
        """(K,) int64: where each document of the first `n_tokens` training tokens begins."""
        return heldout.document_starts(self.train[:n_tokens], self.vocabulary.separator_id)

    def heldout(
        self,
        window: int,
        seq_len: int,
        part: Literal["full", "nested", "dev"] = "full",
        begins: Literal["anywhere", "document"] = "anywhere",
    ) -> heldout.HeldOut:
        """Held-out windows of `window` tokens; their starts depend on `seq_len` alone, whatever the objective.

        `begins` document: one window at the start of each document instead, which may reach into those after it.

        Raises:
            CorpusError: fewer than two held-out documents are `seq_len` + 1 tokens long.
            ValueError: a window is longer than `seq_len` + 1.
        """
        if not 0 < window <= seq_len + 1:
            raise ValueError(f"a held-out window holds 1 to seq_len + 1 = {seq_len + 1} tokens, not {window}")
        name: Literal["test", "dev"] = "dev" if part == "dev" else "test"
        tokens = np.asarray(getattr(self, name))
        key = (name, seq_len, begins)
        if key not in self._chosen:
            seed, separator = f"{self.digest}-{name}", self.vocabulary.separator_id
            if begins == "anywhere":
                self._chosen[key] = heldout.choose(tokens, separator, seq_len, self.token_bytes, seed)
            else:
                self._chosen[key] = heldout.choose_documents(tokens, separator, window, self.token_bytes, seed)
        return heldout.cut(
            tokens,
            *self._chosen[key],
            window=window,
            seq_len=seq_len,
            token_bytes=self.token_bytes,
            nested=part == "nested",
        )

    def verify(self) -> None:
        """Reads every file and compares its sha256.

        Raises:
            CorpusError: one differs.
        """
        store.verify(self.folder)


def prepare(
    corpus: Corpus, tokenizer: Tokenizer, *, cache: Path | None = None, progress: Progress | None = None
) -> TokenizedCorpus:
    """Opens the tokenised corpus, making it first where the cache lacks it; an imported one comes first.

    Two processes may call it at once: one prepares, the other waits and opens.

    Raises:
        CorpusError: nothing to read, unreadable, too short to hold a part out; an imported copy is damaged; the cache
            cannot be written.
    """
    say = progress or (lambda message: None)
    root = cache or cache_folder()
    spec = store.spec_of(corpus, tokenizer)
    imported = store.imported_folder_for(root, spec)
    if imported.exists():
        sidecar = store.open_sidecar(imported)
        if sidecar is None:
            raise CorpusError(f"imported corpus {imported} is damaged; delete the folder and import it again")
        return TokenizedCorpus(imported, sidecar)
    fingerprint = corpus.fingerprint()
    folder = store.folder_for(root, spec, fingerprint)
    sidecar = store.open_sidecar(folder)
    if sidecar is None:
        store.make_room(folder)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            sidecar = store.open_sidecar(folder)
            if sidecar is None:
                store.remove_stale_staging(folder)
                _build(corpus, tokenizer, spec, fingerprint, folder, say)
                sidecar = store.open_sidecar(folder)
    if sidecar is None:
        raise CorpusError(f"cache {folder} vanished or was damaged while it was written; run it again")
    return TokenizedCorpus(folder, sidecar)


def _build(
    corpus: Corpus, tokenizer: Tokenizer, spec: dict[str, Any], fingerprint: str, folder: Path, say: Progress
) -> None:
    staging = store.new_staging(folder)
    try:
        sidecar = _fill(staging, corpus, tokenizer, say) | {"spec": spec, "fingerprint": fingerprint}
        store.publish(staging, folder, sidecar)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    say(f"{corpus.type}: {sidecar['statistics']['parts']['train']['tokens']:,} training tokens, {sidecar['digest']}")


def _fill(staging: Path, corpus: Corpus, tokenizer: Tokenizer, say: Progress) -> dict[str, Any]:
    """Writes every file but the sidecar, and returns what the sidecar says of them."""
    spool = staging / "text"
    say(f"{corpus.type}: reading")
    names, pieces = _spool(corpus, spool)
    text = np.memmap(spool, dtype=np.uint8, mode="r")
    pieces, parts, statistics = _select(corpus, text, pieces, say)

    def texts(part: Part) -> Iterator[str]:
        chosen = pieces.take(parts[part])
        for begin, end in zip(chosen.begins.tolist(), chosen.ends.tolist(), strict=True):
            yield text[begin:end].tobytes().decode()

    say(f"{corpus.type}: tokenising with {tokenizer.type}")
    encoder = tokenizer.learn(texts("train"))
    size = encoder.vocabulary.size
    dtype = np.dtype(np.uint8 if size <= 1 << 8 else np.uint16 if size <= 1 << 16 else np.uint32)
    statistics["parts"] = {
        part: _write_tokens(staging / f"{part}.tokens", encoder, texts(part), dtype) for part in split.PARTS
    }
    np.save(staging / "token_bytes.npy", encoder.token_bytes().astype(np.int64))
    (staging / "tokenizer.json").write_text(encoder.save())
    held = {part: [names[i] for i in pieces.source[parts[part]].tolist()] for part in ("test", "dev")}
    (staging / "names.json").write_text(json.dumps(held))
    spool.unlink()
    vocabulary = {name: value for name, value in encoder.vocabulary._asdict().items() if name != "classes"}
    return {
        "digest": store.content_digest(staging, vocabulary),
        "vocabulary": vocabulary,
        "dtype": dtype.name,
        "statistics": statistics | corpus.facts(),
    }


def _spool(corpus: Corpus, path: Path) -> tuple[list[str], Pieces]:
    """Writes the documents' UTF-8 bytes to `path` one after the other."""
    names: list[str] = []
    ends: list[int] = []
    at = 0
    with path.open("wb") as file:
        for document in corpus.documents():
            try:
                content = document.text.encode()
            except UnicodeEncodeError as error:
                raise CorpusError(
                    f"{document.name}: character {error.start} is half of a surrogate pair and no text; mend the file"
                ) from None
            if content.strip():
                file.write(content)
                at += len(content)
                names.append(document.name)
                ends.append(at)
    if not names:
        raise CorpusError(f"corpus {corpus.type} holds no text; give it files that are not empty")
    return names, Pieces(np.array([0, *ends[:-1]]), np.array(ends), np.arange(len(ends)))


class _Kept(NamedTuple):
    """What duplicates left: pieces, their content hashes, shingles, and indices among the pieces given."""

    pieces: Pieces
    hashes: np.ndarray
    shingles: dedup.Shingles
    position: np.ndarray


def _select(
    corpus: Corpus, text: np.ndarray, pieces: Pieces, say: Progress
) -> tuple[Pieces, dict[Part, np.ndarray], dict[str, Any]]:
    """Removes duplicates and splits; returns the pieces, the indices of each part, and what happened."""
    say(f"{corpus.type}: {len(pieces.begins):,} documents, {len(text):,} bytes; removing near-duplicates")
    statistics: dict[str, Any] = {"documents_read": len(pieces.begins), "bytes_read": len(text)}
    statistics |= {"exact_duplicates": 0, "near_duplicates": 0, "duplicate_bytes": 0, "blocks": None}
    kept = _deduplicate(corpus, text, pieces, statistics)
    if len(kept.pieces.begins) >= split.MIN_DOCUMENTS:
        parts = split.split_documents(kept.hashes, kept.pieces.ends - kept.pieces.begins)
    else:
        cut = split.blocks(text, kept.pieces)
        kept = _deduplicate(corpus, text, cut, statistics)
        parts, dropped = split.split_blocks(kept.hashes, len(cut.begins), kept.position)
        size = int((cut.ends - cut.begins)[0])
        statistics["blocks"] = {"bytes": size, "count": len(cut.begins), "dropped_at_borders": dropped}
    if not all(len(part) for part in parts.values()):
        raise CorpusError(
            f"corpus {corpus.type} repeats itself so much that no part can be held out; give it more text"
        )
    in_part = {name: np.zeros(len(kept.hashes), bool) for name in parts}
    for name, chosen in parts.items():
        in_part[name][chosen] = True
    statistics["shingles_shared_test_train"] = dedup.shared(kept.shingles, in_part["train"], in_part["test"])
    return kept.pieces, parts, statistics


def _deduplicate(corpus: Corpus, text: np.ndarray, pieces: Pieces, statistics: dict[str, Any]) -> _Kept:
    """Removes exact and near duplicates where the corpus has such; adds what went to `statistics`."""
    hashes = split.content_hashes(text, pieces)
    found = dedup.shingles(text, pieces.begins, pieces.ends)
    keep = np.ones(len(hashes), bool)
    if corpus.deduplicate:
        keep = split.first_occurrences(hashes)
        distinct = np.flatnonzero(keep)
        near = dedup.seen_before(found.of(distinct)) > dedup.THRESHOLD
        keep[distinct[near]] = False
        statistics["exact_duplicates"] += len(hashes) - len(distinct)
        statistics["near_duplicates"] += int(near.sum())
        statistics["duplicate_bytes"] += int((pieces.ends - pieces.begins)[~keep].sum())
    position = np.flatnonzero(keep)
    return _Kept(pieces.take(position), hashes[position], found.of(position), position)


def _write_tokens(path: Path, encoder: Encoder, texts: Iterator[str], dtype: np.dtype) -> dict[str, int]:
    """Writes one part's stream and counts it."""
    counts = {"documents": 0, "bytes": 0, "characters": 0, "tokens": 0}
    separator = np.array([encoder.vocabulary.separator_id], dtype)
    with path.open("wb") as file:
        while batch := list(islice(texts, _ENCODE_DOCUMENTS)):
            for text, ids in zip(batch, encoder.encode_many(batch), strict=True):
                file.write(np.concatenate([ids.astype(dtype, copy=False), separator]).tobytes())
                counts["documents"] += 1
                counts["bytes"] += len(text.encode())
                counts["characters"] += len(text)
                counts["tokens"] += len(ids) + 1
    return counts
