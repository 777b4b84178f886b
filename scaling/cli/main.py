"""The command `scaling`: its commands, and how an error becomes one line on stderr and an exit status.

Exit status: 0 done, also when the honest answer is 'unidentified'; 1 some trial failed, or a bug; 2 the input is wrong;
130 and 143 interrupted; 141 the reader of our output went away.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from scaling.cli import (
    about,
    compares,
    curves,
    data,
    evaluates,
    fits,
    frontiers,
    plans,
    plots,
    predictions,
    runs,
    statistics,
)
from scaling.errors import ScalingError, SweepError

_WRONG_PATH = (PermissionError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
FAILED, WRONG_INPUT, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141


class PipeClosed(Exception):
    """Whoever read our output went away."""


class Commands(TyperGroup):
    """A group whose errors never show a traceback: one line on stderr, and the exit status that says what it was."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Commands in the order in which one uses them, not by name."""
        return list(self.commands)

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context, which knows the arguments as they were typed."""
        typed = list(args)
        context = super().make_context(info_name, args, parent, **extra)
        if parent is None:
            context.meta["scaling.arguments"] = typed
        return context

    def invoke(self, ctx: Any) -> Any:
        """Runs the command; what it printed is written out here, where a closed pipe can still be told apart."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise PipeClosed from error
        return result

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> Any:
        """Runs the command and exits with its status."""
        arguments = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        _tolerate_odd_terminals()
        try:
            result = super().main(arguments, *more, **extra)
        except PipeClosed:
            _silence_stdout()
            sys.exit(BROKEN_PIPE)
        except (KeyboardInterrupt, typer.Abort):
            sys.exit(INTERRUPTED)
        except Exception as error:
            sys.exit(_report(error))
        sys.exit(result if isinstance(result, int) else 0)


def _report(error: Exception) -> int:
    """Prints one clear line for an error (one for each mistake in a sweep file) and returns the exit status."""
    if isinstance(error, SweepError):
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return error.exit_status
    if isinstance(error, ScalingError):
        print(f"error: {_one_line(str(error))}", file=sys.stderr)
        return error.exit_status
    message = getattr(error, "format_message", None)  # click's own errors, whichever copy of click typer brings
    if message is not None:
        where = getattr(getattr(error, "ctx", None), "command_path", "scaling")
        print(f"error: {_one_line(message()).rstrip('.')}; see `{where} --help`", file=sys.stderr)
        return WRONG_INPUT
    if os.environ.get("SCALING_DEBUG"):
        raise error
    if isinstance(error, OSError) and error.strerror:
        print(f"error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        if not error.filename:
            _silence_stdout()
        return WRONG_INPUT if isinstance(error, _WRONG_PATH) else FAILED
    print(
        f"error: {type(error).__name__}: {_one_line(str(error))}; this is a bug, SCALING_DEBUG=1 shows where",
        file=sys.stderr,
    )
    return FAILED


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _tolerate_odd_terminals() -> None:
    """Letters that the terminal's encoding lacks become question marks instead of errors."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def _silence_stdout() -> None:
    """Nothing more can be written: what is left in the buffer goes nowhere instead of raising at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def _group(callback: Callable[..., None]) -> typer.Typer:
    """A group of commands; the callback's docstring is its help. Alone it prints that help."""
    group = typer.Typer(
        cls=Commands,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings=_SETTINGS,
        invoke_without_command=True,
    )
    group.callback()(callback)
    return group


def _help_if_alone(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _version(wanted: bool) -> None:
    if wanted:
        from scaling.provenance import version

        typer.echo(f"scaling {version()}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Scaling-law experiments: sweep files, runs, fits with intervals, predictions and their scores.

    TABLE is a store's folder, a parquet file, or a CSV with columns params, tokens, loss and optionally flops.
    Every command takes --json, which prints JSON alone on stdout.
    """
    _help_if_alone(context)


def _corpus(context: typer.Context) -> None:
    """Tokenised corpora: list, prepare, export, import; their statistics and what those foretell."""
    _help_if_alone(context)


def _store(context: typer.Context) -> None:
    """A store's housekeeping: compact, merge, verify, gc."""
    _help_if_alone(context)


Table = dict[str, Callable[..., Any]]

_CORPUS: Table = {
    "list": data.corpus_list,
    "prepare": data.prepare,
    "export": data.export_corpus,
    "import": data.load,
    "statistics": statistics.statistics,
    "exponent": statistics.exponent,
}
_STORE: Table = {"compact": data.compact, "merge": data.merge, "verify": data.verify, "gc": data.gc}
_COMMANDS: Table = {
    "init": runs.init,
    "plan": plans.plan,
    "run": runs.run,
    "status": runs.status,
    "evaluate": evaluates.evaluate,
    "fit": fits.fit,
    "frontier": frontiers.frontier,
    "predict": frontiers.predict,
    "compare": compares.compare,
    "choose": compares.choose,
    "check": compares.check,
    "fit-curves": curves.fit_curves,
    "plot": plots.plot,
    "register": predictions.register,
    "score": predictions.score,
    "reproduce": runs.reproduce,
    "export": data.export,
    "import": data.import_,
    "list": about.list_,
    "schema": about.schema,
    "doctor": about.doctor,
}


def _assembled() -> typer.Typer:
    root, corpus, store = _group(_root), _group(_corpus), _group(_store)
    for group, commands in ((root, _COMMANDS), (corpus, _CORPUS), (store, _STORE)):
        for name, command in commands.items():
            group.command(name)(command)
    root.add_typer(corpus, name="corpus")
    root.add_typer(store, name="store")
    return root


app = _assembled()


def main() -> None:
    """Entry point of the command `scaling`."""
    if not sys.warnoptions and not os.environ.get("SCALING_DEBUG"):
        warnings.simplefilter("ignore")  # What a user must know comes as a status or a warning of ours.
    app(prog_name="scaling")
