"""The English of the docstrings in the same distributions as python-v1."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from scaling.corpora import packages
from scaling.corpora.base import Corpus, Document
from scaling.corpora.hashing import derive_key

MIN_CHARACTERS = 80
_LITERAL = re.compile(
    r"^\s*(\.\. (code|code-block|sourcecode|plot|math|testcode|doctest|highlight)::.*|(?!\.\. ).*[^:\s]::)\s*$"
)
_RULE = re.compile(r"^\s*[-=~^+*|#\s]{3,}$")


def prose(docstring: str) -> str:
    """A docstring without its doctests, fenced and literal code blocks, and ruled lines."""
    kept: list[str] = []
    fenced = doctest = False
    literal: int | None = None
    for line in docstring.splitlines():
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if stripped.startswith("```"):
            fenced = not fenced
            continue
        if literal is not None and stripped and indent <= literal:
            literal = None
        if not stripped:
            doctest = False
        elif stripped.startswith(">>>"):
            doctest = True
        if fenced or doctest or (literal is not None and stripped) or _RULE.match(line):
            continue
        if _LITERAL.match(line):
            literal = indent
            if stripped.startswith(".."):
                continue
        if stripped or (kept and kept[-1]):
            kept.append(line.rstrip())
    return "\n".join(kept).strip()


def docstrings(content: bytes) -> Iterator[str]:
    """The docstrings of a module, in source order; none where this Python cannot parse it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        return
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            found = ast.get_docstring(node)
            if found:
                yield found
        body = [*getattr(node, "body", ()), *getattr(node, "orelse", ()), *getattr(node, "handlers", ())]
        todo.extend(child for child in reversed(body) if isinstance(child, (ast.stmt, ast.ExceptHandler)))


class PydocsV1(Corpus):
    """One document a file: its docstrings of over 80 characters that no earlier file has, without code."""

    type: Literal["pydocs-v1"] = "pydocs-v1"
    summary: ClassVar[str] = "English of the docstrings of the same packages"
    source: ClassVar[str] = "the installed distributions; digests in scaling/corpora/python_v1.json"

    def fingerprint(self) -> str:
        """See `Corpus.fingerprint`. The version of Python counts: it decides which files parse."""
        return f"{derive_key(1, packages.installed_versions(), sys.version_info[:2]):016x}"

    def documents(self) -> Iterator[Document]:
        """See `Corpus.documents`."""
        packages.installed_versions()
        seen: set[str] = set()
        for name in packages.DISTRIBUTIONS:
            for source in packages.sources(name):
                texts: list[str] = []
                for docstring in docstrings(source.content):
                    text = prose(docstring)
                    if len(text) > MIN_CHARACTERS and text not in seen:
                        seen.add(text)
                        texts.append(text)
                if texts:
                    yield Document(source.path, packages.clipped("\n\n".join(texts).encode()).decode() + "\n")

    def facts(self) -> dict[str, Any]:
        """The versions, and which distributions' text differs from the committed digests."""
        return {"versions": packages.installed_versions(), "differing": sorted(packages.differing())}
