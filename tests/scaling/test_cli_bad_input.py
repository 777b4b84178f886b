"""Bad input gives one clear line that names the place, exit status 2 and an empty stdout, before anything is run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_world import TINY, call, write_text

from scaling.store import Store

ROWS = "params,tokens,loss\n" + "".join(f"{n}e5,{n}e6,{4 - n / 10}\n" for n in range(1, 7))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt")
    (tmp_path / "sweep.yaml").write_text(TINY.format(text="text.txt"))
    (tmp_path / "runs.csv").write_text(ROWS)
    return tmp_path


def refused(*arguments: object) -> str:
    """The one line on stderr of a command that must refuse its input."""
    found = call(*arguments, *(["--quiet"] if arguments[0] == "run" else []))
    assert found.status == 2, (found.out, found.err)
    assert found.out == ""
    (line,) = found.err.splitlines()
    assert "Traceback" not in line
    assert len(line) < 400
    return line


def edited(old: str, new: str) -> None:
    text = Path("sweep.yaml").read_text()
    assert old in text
    Path("sweep.yaml").write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("precision: fp32", "presicion: fp32", "6:1 presicion", "did you mean 'precision'|did you mean precision"),
        ("precision: fp32", "precision: [1]", "6:12 precision", "fp32"),
        ("batch_tokens: [32]", "batch_tokens: [many]", "12:20 ", "whole number|integer|number"),
        ("batch_tokens: [32]", "batch_tokens: [-32]", "12:20 ", "more than 0, not -"),
        ("d_model: 16", "d_model: -16", "10:", "more than 0, not -"),
        ("n_head: 2", "n_head: 3", "10:", "n_head|heads|width"),
        ("steps: [300]", "steps: [20]", "13:13 ", "300"),
        ("name: tiny", "name: [", "", "sweep.yaml:"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_wrong_sweep_names_line_column_and_field(
    here: Path, command: str, old: str, new: str, place: str, message: str
) -> None:
    edited(old, new)
    line = refused(command, "sweep.yaml", "--json")
    assert line.startswith(f"sweep.yaml:{place}")
    assert re.match(r"sweep\.yaml:\d+:\d+ ", line)
    assert re.search(message, line), line
    assert not Path("runs").exists()


def test_every_mistake_of_a_file_has_its_line(here: Path) -> None:
    edited("precision: fp32", "presicion: fp32")
    edited("objective: causal", "objective: casual")
    found = call("run", "sweep.yaml")
    assert found.status == 2
    assert [line.split(":")[1] for line in found.err.splitlines()] == ["3", "6"]


def _no_file(here: Path) -> None:
    Path("text.txt").unlink()


def _empty(here: Path) -> None:
    Path("text.txt").write_text("")


def _not_utf8(here: Path) -> None:
    Path("text.txt").write_bytes(b"plain and then \xff\xfe not\n" * 100)


def _too_short(here: Path) -> None:
    edited("steps: [300]", "steps: [1e6]")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_file, "text.txt: no such file"),
        (_empty, "no text"),
        (_not_utf8, r"text.txt.*(utf-8|UTF-8)"),
        (_too_short, "32,000,000 training tokens.*repeat: true"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_corpus_that_cannot_serve(here: Path, command: str, damage: Callable[[Path], None], message: str) -> None:
    damage(here)
    assert re.search(message, refused(command, "sweep.yaml"))
    assert not Path("runs").exists()


def test_budgets_too_small_for_300_steps(here: Path) -> None:
    text = Path("sweep.yaml").read_text().split("design:")[0]
    design = "design:\n  type: isoflop\n  budgets: [1e8]\n  sizes: {params: [3e3]}\n"
    Path("sweep.yaml").write_text(text + design)
    line = refused("run", "sweep.yaml")
    assert re.match(r"sweep\.yaml:9:13 design\.budgets\[0\]: .*300", line)


def test_a_store_of_a_newer_version(here: Path) -> None:
    Store.create("store")
    path = Path("store/format.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    for command in (
        ("status", "store"),
        ("fit", "store"),
        ("score", "store"),
        ("run", "sweep.yaml", "--store", "store"),
    ):
        assert re.search(r"store: written by a newer version \(format 99", refused(*command))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("loss", "losses", r"no column 'loss' \(did you mean 'losses'\?\); it has params, tokens, losses"),
        ("2e5,2e6,3.8", "2e5,2e6,nan", "line 3: loss is nan, not a positive number"),
        ("2e5,2e6,3.8", "2e5,2e6,0", "line 3: loss is 0.0, not a positive number"),
        ("3e5,3e6,3.7", "3e5,3e6,-1", "line 4: loss is -1.0, not a positive number"),
        ("3e5,3e6,3.7", "3e5,,3.7", "line 4: tokens is nan"),
        ("3e5,3e6,3.7", "3e5,many,3.7", "line 4: tokens is many"),
        (ROWS.split("\n", 1)[1], "", "no rows"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "frontier", "plot"])
def test_a_wrong_table_names_column_or_row(here: Path, command: str, old: str, new: str, message: str) -> None:
    Path("runs.csv").write_text(ROWS.replace(old, new))
    line = refused(command, "runs.csv", "--json")
    assert "runs.csv: " in line
    assert re.search(message, line), line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "no.csv"], "no.csv: no such file or store"),
        (["fit", "runs.csv", "--law", "chinchila"], "did you mean chinchilla"),
        (["fit", "runs.csv", "--level", "90"], "level 90.0 is not between 0 and 1"),
        (["fit", "runs.csv", "--bootstrap", "3"], "too few"),
        (["fit", "runs.csv", "--scheme", "jackknife"], "auto, case, noise"),
        (["fit", "runs.csv", "--columns", "params"], "OURS=THEIRS"),
        (["fit", "runs.csv", "--columns", "params=N"], "no column 'N'"),
        (["fit", "runs.csv", "--columns", "loss=a,loss=b"], "twice"),
        (["fit", "runs.csv", "--where", "tokens >"], "where 'tokens >'"),
        (["fit", "runs.csv", "--where", "token > 1"], "did you mean tokens"),
        (["frontier", "runs.csv", "--approach", "isoflops"], "did you mean isoflop"),
        (["frontier", "runs.csv", "--cost", "6dn"], "did you mean 6nd"),
        (["predict", "runs.csv"], "needs a budget"),
        (["predict", "runs.csv", "--flops", "-1"], "not a positive number"),
        (["predict", "runs.csv", "--flops", "much"], "--flops"),
        (["predict", "runs.csv", "--params", "1e5"], "together"),
        (["fit", "runs.csv", "--objective", "huber"], "did you mean huber_log"),
        (["fit", "runs.csv", "--interval", "wald"], "bca"),
        (["fit", "runs.csv", "--law", "power_floor:token"], "token"),
        (["fit", "runs.csv", "--plot", "it.gif"], "no .gif"),
        (["compare", "runs.csv"], "Missing argument 'B'"),
        (["compare", "runs.csv", "no.csv"], "no.csv: no such file or store"),
        (["compare", "runs.csv", "runs.csv", "--metric", "accuracy"], "accuracy"),
        (["choose", "runs.csv", "--holdout", "random"], "top_decade"),
        (["choose", "runs.csv", "--law", "chinchila"], "did you mean chinchilla"),
        (["check", "runs.csv", "--check", "rate_edges"], "did you mean rate_edge"),
        (["fit-curves", "runs.csv"], "no column 'run'"),
        (["fit-curves", "no.csv"], "no.csv"),
        (["plot", "runs.csv", "--figure", "isoflops"], "did you mean isoflop"),
        (["plot", "runs.csv", "--figure", "comparison"], "needs a second table"),
        (["plot", "runs.csv", "--figure", "fit", "--law", "tide"], "did you mean tied"),
        (["run", "no.yaml"], "no.yaml"),
        (["run", "sweep.yaml", "--for", "soon"], "write 90s, 9m or 1h30m"),
        (["run", "sweep.yaml", "--workers", "0"], "--workers"),
        (["run", "sweep.yaml", "--set", "precision"], "precision"),
        (["run", "sweep.yaml", "--store", "text.txt"], "text.txt"),
        (["status", "."], "not a store"),
        (["status", "no"], "no: not a store"),
        (["register", "."], "--like SWEEP.yaml"),
        (["reproduce", "hofmann"], "hoffmann"),
        (["reproduce", "hoffmann", "--scale", "huge"], "huge"),
        (["list", "law"], "did you mean laws"),
        (["corpus", "prepare", "pyton-v1"], "corpus 'pyton-v1'"),
        (["corpus", "prepare", "{type: local}"], "path"),
        (["corpus", "prepare", "{type: local"], "not YAML"),
        (["corpus", "import", "no.zip"], "no.zip: no such file"),
        (["corpus", "import", "runs.csv"], "runs.csv"),
        (["store", "gc", "."], "not a store"),
        (["export", "."], "--csv"),
        (["export", ".", "--csv", "x.csv", "--table", "row"], "rows, curves, evals"),
        (["fits"], "No such command 'fits'"),
        (["fit"], "Missing argument"),
        (["fit", "runs.csv", "--lwa", "x"], "--law"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_one_line_for_every_wrong_argument(here: Path, arguments: list[str], message: str) -> None:
    assert message in refused(*arguments)
