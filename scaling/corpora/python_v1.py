"""Python source of the distributions that this project itself depends on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from scaling.corpora import packages
from scaling.corpora.base import Corpus, Document
from scaling.corpora.hashing import derive_key


class PythonV1(Corpus):
    """One document a file: tests, vendored and generated files left out, at most 100 kB of each."""

    type: Literal["python-v1"] = "python-v1"
    summary: ClassVar[str] = "Python source of the packages this project depends on (default)"
    source: ClassVar[str] = "the installed distributions; digests in scaling/corpora/python_v1.json"

    def fingerprint(self) -> str:
        """See `Corpus.fingerprint`."""
        return f"{derive_key(1, packages.installed_versions()):016x}"

    def documents(self) -> Iterator[Document]:
        """See `Corpus.documents`."""
        packages.installed_versions()
        for name in packages.DISTRIBUTIONS:
            for source in packages.sources(name):
                yield Document(source.path, packages.clipped(source.content).decode())

    def facts(self) -> dict[str, Any]:
        """The versions, and which distributions' text differs from the committed digests."""
        return {"versions": packages.installed_versions(), "differing": sorted(packages.differing())}
