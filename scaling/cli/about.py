"""Commands about the installation: list, schema, doctor."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Annotated

import typer

from scaling.cli import options as o
from scaling.cli import output as out
from scaling.errors import InputError

Listing = list[dict[str, str]]


def _family(package: str, base: str) -> Callable[[], Listing]:
    def listing() -> Listing:
        from importlib import import_module

        from scaling.spec import members

        found = members(package, getattr(import_module(package), base))
        return [{"name": n, "summary": c.summary, "source": c.source} for n, c in found.items()]

    return listing


def _function(module: str, name: str) -> Callable[[], Listing]:
    def listing() -> Listing:
        from importlib import import_module

        found: Listing = getattr(import_module(module), name)()
        return found

    return listing


KINDS: dict[str, Callable[[], Listing]] = {
    "laws": _function("analysis.laws", "list_laws"),
    "approaches": _function("analysis.approaches", "list_approaches"),
    "checks": _function("analysis.checks", "list_checks"),
    "objectives": _family("scaling.objectives", "Objective"),
    "architectures": _family("scaling.architectures", "Architecture"),
    "corpora": _family("scaling.corpora", "Corpus"),
    "tokenizers": _family("scaling.tokenizers", "Tokenizer"),
    "evaluations": _family("scaling.evaluations", "Evaluation"),
    "recipes": _family("sweeps.recipes", "Recipe"),
    "schedules": _family("scaling.schedules", "Schedule"),
    "optimizers": _family("scaling.optimizers", "Optimizer"),
    "designs": _family("sweeps.designs", "Design"),
    "figures": _function("analysis.figures", "list_figures"),
    "studies": _function("sweeps.studies", "list_studies"),
}


def list_(
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help=f"{', '.join(KINDS)} [default: all].")] = None,
    json: o.Json = False,
) -> None:
    """List the laws, objectives, corpora, figures, studies, …"""
    if kind is not None and kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(f"there is nothing called {kind!r} to list{hint}; there are {', '.join(KINDS)}")
    found = {name: KINDS[name]() for name in ([kind] if kind else KINDS)}
    if json:
        out.print_json(found[kind] if kind else found)
        return
    for name, listing in found.items():
        if kind is None:
            print(f"{name.upper()}")
        _print_listing(name, listing)
        if kind is None:
            print()


def _print_listing(kind: str, listing: Listing) -> None:
    """Name, summary and source; of laws the formula in place of the summary, which says it again."""
    columns = ["name", "summary", "source"]
    rows = [[item[c] for c in columns] for item in listing]
    if kind == "laws":
        from analysis.laws import get_law

        columns[1] = "formula"
        rows = [[name, get_law(name).formula, source] for name, _, source in rows]
    out.print_table(columns, rows, left=columns, spare=("source",))


def schema(json: o.Json = False) -> None:
    """Print the JSON schema of sweep files, for editors."""
    from sweeps.schema import sweep_schema

    out.print_json(sweep_schema())


def doctor(json: o.Json = False) -> int:
    """Check this machine and installation.

    Exit status 1 where something will not work.
    """
    from scaling.cli.health import checks

    found = checks()
    healthy = all(c.state != "fail" for c in found)
    if json:
        out.print_json({"healthy": healthy, "checks": [c._asdict() for c in found]})
    else:
        out.print_table(["check", "", "what was found"], [list(c) for c in found], left=("check", "", "what was found"))
    return 0 if healthy else 1
