"""Commands that move or keep data: export, import, corpus list|prepare|export|import, store compact|merge|verify|gc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli import options as o
from scaling.cli import output as out
from scaling.errors import CorpusError, InputError
from scaling.paths import cache_folder

if TYPE_CHECKING:
    from scaling.corpora import Corpus
    from scaling.corpora.prepare import TokenizedCorpus
    from scaling.tokenizers import Tokenizer

CorpusName = Annotated[
    str,
    typer.Argument(
        metavar="CORPUS", help="A type such as python-v1, YAML such as '{type: local, path: texts}', or a sweep file."
    ),
]
TokenizerName = Annotated[
    str, typer.Option(metavar="TOKENIZER", help="byte, or YAML such as '{type: bpe, vocab_size: 4096}'.")
]


def export(
    store: o.StoreFolder,
    csv: Annotated[str, typer.Option(metavar="FILE", help="The CSV to write.")],
    table: Annotated[str, typer.Option(metavar="NAME", help="rows, curves or evals.")] = "rows",
    json: o.Json = False,
) -> None:
    """Write a store's rows, curves or evaluations as CSV."""
    from scaling.store import Store

    if table not in ("rows", "curves", "evals"):
        raise InputError(f"there is no table {table!r}; there are rows, curves, evals")
    frame = getattr(Store.open(store), table)()
    target = Path(csv)
    partial = target.with_name(f".{target.name}.partial")
    try:
        frame.to_csv(partial, index=False, lineterminator="\n")
        os.replace(partial, target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{csv}: cannot be written: {error.strerror}") from None
    if json:
        out.print_json({"file": csv, "table": table, "rows": len(frame), "columns": list(frame.columns)})
    else:
        print(f"wrote {len(frame):,} {table} to {csv}")


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A .csv or .jsonl table, one run a row.")],
    store: Annotated[str, typer.Option("--store", metavar="DIR", help="The store, made where it does not exist.")],
    curves: Annotated[
        str | None, typer.Option(metavar="FILE", help="Training curves, or the wide export of a W&B panel.")
    ] = None,
    columns: o.Columns = None,
    curve_columns: Annotated[
        str | None, typer.Option(metavar="step=_step,train_loss=L", help="The curves' names for our columns.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the data set, part of every run's id [default: the file's].")
    ] = None,
    objective: Annotated[str, typer.Option(metavar="NAME", help="The rows' objective, where they have none.")] = "",
    json: o.Json = False,
) -> None:
    """Add other people's runs, or an export of ours, to a store.

    From CSV, JSONL and Weights & Biases exports. Importing the same table again adds nothing.
    """
    from scaling.importing.runs import import_runs

    found = import_runs(
        file,
        store,
        curves=curves,
        columns=o.columns_of(columns),
        curve_columns=o.columns_of(curve_columns),
        label=label,
        objective=objective,
    )
    if json:
        out.print_json(found.to_json())
        return
    curve_points = f" with {found.points:,} points of curves" if found.points else ""
    print(f"{store}: {found.runs} runs added{curve_points}, {found.known} were there already")
    for row, reason in found.left_out:
        print(f"left out: {row}: {reason}")
    print(f"next: scaling fit {store}")


def _parts(corpus: str, tokenizer: str) -> tuple[Corpus, Tokenizer]:
    """The corpus and tokenizer that texts describe. Raises InputError."""
    if Path(corpus).suffix in (".yaml", ".yml"):
        from sweeps.definition import load_sweep
        from sweeps.expand import expand

        trial = expand(load_sweep(corpus))[0].trial
        return trial.corpus, trial.tokenizer
    from scaling.corpora import CorpusSpec
    from scaling.tokenizers import TokenizerSpec

    return _member("corpus", corpus, CorpusSpec), _member("tokenizer", tokenizer, TokenizerSpec)


def _member(what: str, text: str, kind: Any) -> Any:
    from pydantic import TypeAdapter, ValidationError
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        value = YAML(typ="safe", pure=True).load(text)
        return TypeAdapter(kind).validate_python(value)
    except YAMLError:
        raise InputError(f"{what} {text!r} is not YAML; write a type, or {{type: local, path: texts}}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part not in ("function-before", value))
        raise InputError(f"{what} {text!r}: {place + ': ' if place else ''}{first['msg']}") from None


def _facts(found: TokenizedCorpus) -> dict[str, Any]:
    parts = found.statistics["parts"]
    return {
        "corpus": found.spec["corpus"],
        "tokenizer": found.spec["tokenizer"],
        "digest": found.digest,
        "vocab_size": found.vocabulary.size,
        "tokens": {part: counts["tokens"] for part, counts in parts.items()},
        "documents": {part: counts["documents"] for part, counts in parts.items()},
        "imported": found.imported,
        "folder": str(found.folder),
    }


def corpus_list(json: o.Json = False) -> None:
    """List the tokenised corpora in this machine's cache."""
    from scaling.corpora import cache
    from scaling.corpora.prepare import TokenizedCorpus

    found = []
    for place in ("corpora", cache.IMPORTED):
        for folder in sorted((cache_folder() / place).glob("[!.]*")):
            sidecar = cache.open_sidecar(folder) if folder.is_dir() else None
            if sidecar is not None:
                found.append(_facts(TokenizedCorpus(folder, sidecar)))
    if json:
        out.print_json(found)
        return
    if not found:
        print(f"no corpora in {cache_folder()}; `scaling corpus prepare python-v1` makes one")
    _print_corpora(found)


def _print_corpora(found: list[dict[str, Any]]) -> None:
    out.print_table(
        ["corpus", "tokenizer", "digest", "vocabulary", "training tokens", "test tokens", "documents", "from"],
        [
            [
                _described(f["corpus"]),
                _described(f["tokenizer"]),
                f["digest"],
                out.number(f["vocab_size"]),
                f"{f['tokens']['train']:,}",
                f"{f['tokens']['test']:,}",
                f"{sum(f['documents'].values()):,}",
                "import" if f["imported"] else "here",
            ]
            for f in found
        ],
        left=("corpus", "tokenizer", "digest", "from"),
        spare=("documents", "vocabulary", "test tokens"),
    )


def _described(spec: dict[str, Any]) -> str:
    rest = ", ".join(f"{k}={v}" for k, v in spec.items() if k != "type")
    return f"{spec['type']}({rest})" if rest else str(spec["type"])


def prepare(corpus: CorpusName, tokenizer: TokenizerName = "byte", json: o.Json = False) -> None:
    """Make a corpus ready, unless that was done before.

    It is read, deduplicated, split by document and tokenised; later calls open it in milliseconds.
    """
    found = _prepared(corpus, tokenizer)
    if json:
        out.print_json(_facts(found))
    else:
        _print_corpora([_facts(found)])


def _prepared(corpus: str, tokenizer: str) -> TokenizedCorpus:
    from scaling.corpora.prepare import prepare as make

    with out.stdout_to_stderr():
        return make(*_parts(corpus, tokenizer), progress=out.note)


def export_corpus(
    corpus: CorpusName,
    file: Annotated[str, typer.Argument(metavar="FILE.zip", help="The file to write.")],
    tokenizer: TokenizerName = "byte",
    json: o.Json = False,
) -> None:
    """Write a tokenised corpus as one file.

    For a machine without the text that it was made from.
    """
    from scaling.corpora.transfer import export_corpus as write

    found = _prepared(corpus, tokenizer)
    write(found, Path(file))
    if json:
        out.print_json({"file": file, "bytes": Path(file).stat().st_size, **_facts(found)})
    else:
        print(f"wrote {_described(found.spec['corpus'])}, digest {found.digest}, to {file}")


def load(
    file: Annotated[str, typer.Argument(metavar="FILE.zip", help="A file that `scaling corpus export` wrote.")],
    json: o.Json = False,
) -> None:
    """Add an exported corpus to this machine's cache.

    Every digest is checked.
    """
    from scaling.corpora.transfer import import_corpus

    if not Path(file).exists():
        raise CorpusError(f"{file}: no such file")
    found = import_corpus(Path(file))
    if json:
        out.print_json(_facts(found))
    else:
        _print_corpora([_facts(found)])


def compact(
    store: o.StoreFolder,
    to: Annotated[str | None, typer.Option(metavar="DIR", help="Into a new store [default: in place].")] = None,
    json: o.Json = False,
) -> None:
    """Fold a store's files into a few, for committing.

    Reads are equal before and after.
    """
    from scaling.store import Store
    from scaling.store import compact as fold

    before = Store.open(store, write=to is None)
    after = fold(before, to)
    sizes = [path.stat().st_size for path in after.root.rglob("*") if path.is_file()]
    if json:
        facts = {"store": str(after.root), "runs": len(after.done()), "files": len(sizes), "bytes": sum(sizes)}
        out.print_json(facts)
    else:
        print(f"{after.root}: {len(after.done())} runs in {len(sizes)} files, {out.size(sum(sizes))}")


def merge(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The store whose runs are wanted.")],
    store: Annotated[
        str, typer.Argument(metavar="STORE", help="The store they are added to; made where there is none.")
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Where both have trained a run with other results, take that of FROM.")
    ] = False,
    json: o.Json = False,
) -> None:
    """Add the runs of one store to another, such as one from a second machine.

    Rows, curves, measurements and kept weights; FROM stays as it is.
    """
    from scaling.store import Store
    from scaling.store import merge as bring

    found = bring(Store.open(source), Store.create(store), replace)
    if json:
        out.print_json({"store": store, **found.to_json()})
    else:
        print(f"{store}: {found.lines[0]}")
        for line in found.lines[1:]:
            print(line)


def verify(
    store: o.StoreFolder,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Put damaged files aside, so that their runs are made again.")
    ] = False,
    json: o.Json = False,
) -> int:
    """Read and check every byte of a store.

    Exit status 1 where something is damaged.
    """
    from scaling.store import Store
    from scaling.store import verify as check

    opened = Store.open(store, write=quarantine)
    found = check(opened)
    if json:
        out.print_json({"store": store, "runs": len(opened.done()), "damaged": found})
    else:
        print(f"{store}: {len(opened.done())} runs, {len(found)} damaged or foreign files")
        for item in found:
            print(f"{item['file']}: {item['reason']}")
    return 1 if found else 0


def gc(
    store: o.StoreFolder,
    older_than: Annotated[str, typer.Option(metavar="TIME", help="Leave younger left-overs alone.")] = "1h",
    json: o.Json = False,
) -> None:
    """Remove what crashes left and finished runs do not need."""
    from scaling.store import Store
    from scaling.store import gc as clean

    removed = clean(Store.open(store, write=True), out.seconds_of(older_than, "--older-than"))
    if json:
        out.print_json({"store": store, "removed": removed})
    else:
        print(f"{store}: {len(removed)} left-overs removed")
        for name in removed:
            print(name)
