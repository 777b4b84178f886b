"""Commands on what a corpus's statistics foretell: corpus statistics, corpus exponent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from scaling.cli import data
from scaling.cli import options as o
from scaling.cli import output as out
from scaling.errors import InputError


def write_json(file: Path, value: Any) -> None:
    """Writes JSON, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    import json

    partial = file.with_name(f".{file.name}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(value, indent=1) + "\n")
        os.replace(partial, file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{file}: cannot be written: {error.strerror}") from None


def statistics(
    corpus: data.CorpusName,
    file: Annotated[str, typer.Option("--out", metavar="FILE.json", help="The file to write.")],
    tokenizer: data.TokenizerName = "byte",
    json: o.Json = False,
) -> None:
    """Measure a corpus's conditional entropies and token correlations, with document errors.

    Minutes for 100 MB; one core, 5 GB of memory.
    """
    from scaling.corpora.prepare import prepare
    from scaling.corpora.statistics import measure_statistics

    with out.stdout_to_stderr():
        prepared = prepare(*data._parts(corpus, tokenizer), progress=out.note)
        found = measure_statistics(prepared, out.note)
    write_json(Path(file), found)
    if json:
        facts = {k: v for k, v in found.items() if k not in ("draws", "sizes")}
        out.print_json({"file": file, **facts})
        return
    print(
        f"{found['corpus']['type']}, digest {found['digest']}: {found['tokens']:,} tokens of {found['symbols']} kinds"
    )
    out.print_table(
        ["n before", "plug-in", "corrected", "held-out code", "se"],
        [
            [str(e["context"]), *(f"{e[k]:.4f}" for k in ("plugin", "corrected", "upper")), f"{e['se']:.4f}"]
            for e in found["entropies"]
        ],
    )
    out.print_table(
        ["lag", "norm", "noise", "se"],
        [[str(c["lag"]), *(f"{c[k]:.2e}" for k in ("operator", "noise", "se"))] for c in found["correlations"]],
    )
    print(f"next: scaling corpus exponent {file}")


def exponent(
    file: Annotated[str, typer.Argument(metavar="FILE.json", help="What `scaling corpus statistics` wrote.")],
    register: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE.json", help="Register the prediction here; an existing file is kept."),
    ] = None,
    plot: o.PlotFile = None,
    json: o.Json = False,
) -> None:
    """Foretell the data-limited exponent from a corpus's statistics, before any training.

    alpha_D = gamma/(2 beta), over every admissible window of contexts and lags; 'not_resolved' where they disagree.
    """
    import datetime

    from analysis.corpus_exponent import foretell, register_exponent

    found = foretell(file)
    if register is not None:
        if Path(register).exists():
            raise InputError(f"{register}: exists; a registered prediction is not written over")
        write_json(Path(register), register_exponent(found, datetime.datetime.now(datetime.UTC).date().isoformat()))
    if plot is not None:
        from analysis.figures.corpus_exponent import plot_corpus_exponent

        plot_corpus_exponent(found).save_as(plot)
    if json:
        out.print_json(found.to_json())
        return
    print(found)
    if register is not None:
        print(f"registered in {register}; commit it before L(D) is measured")
