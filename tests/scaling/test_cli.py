"""The command line: JSON of every command has its shape and is alone on stdout; exit statuses say what happened."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cli_world import ALPHA, BETA, SWEEP, TINY, A, B, E, call, fill, planned, row, write_text

import scaling
from scaling.cli import about, main, output
from scaling.cli.options import columns_of
from scaling.errors import InputError, Interrupted
from scaling.store import Store
from sweeps.run import prepare_sweep

NUMBER = {"type": ["number", "null"]}
TEXT = {"type": "string"}


def obj(properties: dict[str, Any], closed: bool = True) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": not closed,
    }


def listed(items: dict[str, Any], least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least}


ESTIMATE = obj({"value": NUMBER, "ci": {**listed(NUMBER, 2), "maxItems": 2}, "level": {"type": "number"}})
STATUS = {
    "enum": [
        "converged",
        "bound_hit",
        "unidentified",
        "non_interior",
        "too_few_points",
        "needs_curves",
        "not_isoflop",
        "not_resolved",
        "not_converged",
    ]
}
DROPPED = listed(obj({"row": {"type": ["string", "integer"]}, "reason": TEXT}))
FIT = obj(
    {
        "law": TEXT,
        "params": {"type": "object", "additionalProperties": ESTIMATE, "minProperties": 1},
        "objective_value": NUMBER,
        "objective": TEXT,
        "n": {"type": "integer"},
        "status": STATUS,
        "warnings": listed(TEXT),
        "diagnostics": {"type": "object"},
        "dropped": DROPPED,
        "command": TEXT,
        "version": TEXT,
    }
)
POINT = obj({"flops": NUMBER, "params": NUMBER, "tokens": NUMBER, "loss": NUMBER, "status": STATUS})
FRONTIER = obj(
    {
        "frontiers": listed(
            obj(
                {
                    "approach": TEXT,
                    "count": TEXT,
                    "cost": TEXT,
                    "N_exponent": ESTIMATE,
                    "D_exponent": ESTIMATE,
                    "N_coefficient": ESTIMATE,
                    "D_coefficient": ESTIMATE,
                    "status": STATUS,
                    "points": listed(POINT),
                    "dropped": DROPPED,
                }
            ),
            1,
        ),
        "agreement": {"type": "object"},
    }
)
PREDICT = obj({"params": ESTIMATE, "tokens": ESTIMATE, "loss": ESTIMATE})
LIST = listed(obj({"name": TEXT, "summary": TEXT, "source": TEXT}), 1)
REASONS = listed(obj({"run_id": TEXT, "reason": TEXT}))
STATUS_OF_STORE = obj(
    {
        "store": TEXT,
        "sweeps": listed(TEXT),
        "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
        "flops_done": {"type": "number"},
        "flops_left": NUMBER,
        "seconds_left": NUMBER,
        "running": listed(obj({"run_id": TEXT, "fraction": NUMBER}, closed=False)),
        "stopped": REASONS,
        "failed": REASONS,
        "diverged": REASONS,
        "quarantined": listed(obj({"file": TEXT, "reason": TEXT})),
    }
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, two sweeps, and the store of one of them."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALING_CACHE", str(folder / "cache"))
        write_text(folder / "text.txt")
        (folder / "sweep.yaml").write_text(SWEEP.format(text=folder / "text.txt"))
        (folder / "tiny.yaml").write_text(TINY.format(text=folder / "text.txt"))
        fill(folder / "sweep.yaml", folder / "store")
    return folder


@pytest.fixture
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private copy of the world's store and sweeps, as the working folder."""
    monkeypatch.setenv("SCALING_CACHE", str(world / "cache"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(world / "store", "store")
    for name in ("sweep.yaml", "tiny.yaml"):
        shutil.copy(world / name, name)
    return tmp_path


def checked(schema: dict[str, Any], *arguments: object) -> Any:
    """A command's JSON, which must be all of stdout and have the schema's shape."""
    found = call(*arguments, "--json")
    assert found.status == 0, found.err
    jsonschema.validate(found.json, schema)
    return found.json


def test_help_names_every_command_and_no_other() -> None:
    found = call("--help")
    names = [line.split()[0] for line in found.out.split("Commands:")[1].splitlines() if line.startswith("  ")]
    wanted = "init plan run status fit frontier predict plot register score reproduce export list schema doctor corpus"
    assert names == [*wanted.split(), "store"]
    assert found.status == 0
    assert call().out == found.out
    assert call("--version").out == f"scaling {scaling.__version__}\n"


@pytest.mark.parametrize("command", ["init", "plan", "run", "status", "fit", "frontier", "predict", "plot", "doctor"])
def test_every_command_has_help_and_json(command: str) -> None:
    found = call(command, "--help")
    assert found.status == 0
    assert "--json" in found.out


def test_init_writes_a_sweep_once(here: Path) -> None:
    found = call("init", "new.yaml", "--json")
    assert found.json == {"file": "new.yaml"}
    assert "design:" in Path("new.yaml").read_text()
    again = call("init", "new.yaml", "--json")
    assert (again.status, again.out) == (2, "")
    assert again.err.startswith("error: new.yaml: exists")


def test_plan_counts_what_a_store_has(here: Path) -> None:
    found = call("plan", "sweep.yaml", "--store", "store", "--json").json
    assert found["counts"] == {"finished": 15}
    assert found["flops_left"] == 0
    assert found["flops"] == pytest.approx(5 * 14e11, rel=0.02)
    fresh = call("plan", "sweep.yaml")
    assert fresh.status == 0
    lines = fresh.out.splitlines()
    assert "15 trials (isoflop): 15 to run" in lines
    header = next(line for line in lines if line.lstrip().startswith("run "))
    for word in ("N", "FLOPs", "tokens", "time", "memory", "state"):
        assert word in header
    assert max(map(len, lines)) <= 100


def test_fit_recovers_the_surface(here: Path) -> None:
    found = checked(FIT, "fit", "store", "--count", "non_embedding", "--bootstrap", "100")
    assert found["command"] == "scaling fit store --count non_embedding --bootstrap 100"
    assert (found["n"], found["status"]) == (15, "converged")
    truth = {"E": E, "A": A, "alpha": ALPHA, "B": B, "beta": BETA}
    for name, value in truth.items():
        lo, hi = found["params"][name]["ci"]
        width = hi - lo
        assert lo - width < value < hi + width, name
    assert call("fit", "store", "--count", "non_embedding", "--bootstrap", "0").out.startswith("chinchilla: L = E")


def test_python_and_shell_give_the_same_fit(here: Path) -> None:
    shell = call("fit", "store", "--bootstrap", "50", "--seed", "3", "--json").json
    python = scaling.fit("store", law="chinchilla", bootstrap=50, seed=3)
    assert python.to_json()["params"] == shell["params"]
    assert "alpha" in repr(python)


def test_frontier(here: Path) -> None:
    found = checked(FRONTIER, "frontier", "store", "--count", "non_embedding,total", "--bootstrap", "50")
    asked = {(f["approach"], f["count"]) for f in found["frontiers"]}
    assert asked == {(a, c) for a in ("envelope", "isoflop", "parametric", "vpnls") for c in ("non_embedding", "total")}
    by = {(f["approach"], f["count"]): f for f in found["frontiers"]}
    assert by["envelope", "total"]["status"] == "needs_curves"
    lo, hi = by["parametric", "non_embedding"]["N_exponent"]["ci"]
    assert lo < hi
    text = call("frontier", "store", "--approach", "isoflop,parametric", "--bootstrap", "50")
    assert text.status == 0
    assert "isoflop - parametric" in text.out
    assert "\x1b" not in text.out


def test_predict(here: Path) -> None:
    best = checked(PREDICT, "predict", "store", "--flops", "3e12", "--count", "non_embedding", "--bootstrap", "50")
    run = checked(PREDICT, "predict", "store", "--params", "1e5", "--tokens", "5e6", "--count", "non_embedding")
    assert run["params"]["value"] == 1e5
    assert run["loss"]["value"] == pytest.approx(E + A * 1e5**-ALPHA + B * 5e6**-BETA, rel=0.01)
    assert best["loss"]["ci"][0] < best["loss"]["value"] < best["loss"]["ci"][1]


def test_plot_writes_four_forms(here: Path) -> None:
    found = checked(
        obj({"figures": listed(obj({"name": TEXT, "files": listed(TEXT, 4)}), 1), "skipped": listed({})}),
        *("plot", "store", "--figure", "isoflop", "--out", "out", "--bootstrap", "30"),
    )
    assert sorted(p.suffix for p in Path("out").iterdir()) == [".csv", ".pdf", ".png", ".svg"]
    assert all(Path(f).exists() for figure in found["figures"] for f in figure["files"])


@pytest.mark.parametrize("kind", list(about.KINDS))
def test_list(kind: str) -> None:
    found = checked(LIST, "list", kind)
    assert all(item["summary"] for item in found)
    assert found[0]["name"] in call("list", kind).out


def test_list_knows_what_there_is() -> None:
    found = call("list", "--json").json
    names = {kind: {item["name"] for item in items} for kind, items in found.items()}
    assert {"causal", "masked"} <= names["objectives"]
    assert {"python-v1", "pydocs-v1", "local", "markov"} <= names["corpora"]
    assert {"isoflop", "ladder", "grid"} <= names["designs"]
    assert "hoffmann" in names["studies"]


def test_schema_accepts_a_sweep(here: Path) -> None:
    from ruamel.yaml import YAML

    found = call("schema")
    jsonschema.Draft202012Validator.check_schema(found.json)
    jsonschema.validate(YAML(typ="safe", pure=True).load(Path("sweep.yaml").read_text()), found.json)


def test_status_of_every_state(here: Path) -> None:
    ready = prepare_sweep("sweep.yaml")
    store = Store.create("other", sweep_file=Path("sweep.yaml"))
    store.publish(row(ready, 0))
    store.publish(row(ready, 1, status="diverged", reason="loss is not finite"))
    store.publish_failure(row(ready, 2, status="failed", reason="out of memory; log: x.log"))
    store.publish(row(ready, 4))
    damaged = next(Path("other/rows").glob(f"{planned(ready, 4).run_id}*"))
    damaged.write_bytes(damaged.read_bytes()[:-9] + b"\0" * 9)
    running = planned(ready, 3)
    store.mark_running(running.run_id, {"sweep": "little", "step": 30, "steps": 120})
    found = checked(STATUS_OF_STORE, "status", "other", "--sweep", "sweep.yaml")
    assert found["counts"] == {
        "finished": 1, "running": 1, "stopped": 0, "failed": 1, "diverged": 1, "quarantined": 1, "missing": 11
    }  # fmt: skip
    assert found["running"][0]["fraction"] == 0.25
    rest = sum(planned(ready, n).flops for n in (2, *range(4, 15)))
    assert found["flops_left"] == pytest.approx(rest + 0.75 * running.flops)
    pace = sum(planned(ready, n).flops for n in (0, 1)) / 4.0
    assert found["seconds_left"] == pytest.approx(found["flops_left"] / pace)
    text = call("status", "other").out
    for word in ("1 finished", "25%", "out of memory; log: x.log", "loss is not finite", "quarantined rows/"):
        assert word in text


def test_a_prediction_is_registered_trained_and_scored(here: Path) -> None:
    made = call("register", "store", "--like", "sweep.yaml", "--flops", "1.6e12", "--json")
    assert made.status == 0, made.err
    (entry,) = made.json["registered"]
    waiting = call("score", "store", "--json").json["predictions"]
    assert (waiting[0]["id"], waiting[0]["score"]) == (entry["id"], None)
    assert "0 of 1 runs in" in call("score", "store").out
    command = made.json["command"]
    assert command.startswith("scaling run sweep.yaml --store store --set name=little-prediction ")
    overrides = [word for word in shlex.split(command) if "=" in word]
    ready = prepare_sweep("sweep.yaml", overrides)
    store = Store.open("store", write=True)
    store.publish(row(ready, 0))
    (scored,) = call("score", "store", "--json").json["predictions"]
    observed = row(ready, 0)["loss"]
    assert scored["observed"] == [observed]
    assert scored["score"]["error_nats"] == pytest.approx(entry["predicted"]["loss"]["value"] - observed)
    assert set(scored["score"]["skill"]) == {"power_law", "last_two"}
    assert not scored["made_after_training"]
    late = call("register", "store", "--run", "sweep.yaml")
    assert late.status == 2
    assert "made after training" in late.err
    text = call("score", "store").out
    assert "skill against baselines" in text


def test_the_very_runs_of_a_sweep_are_predicted(here: Path) -> None:
    target = ("--run", "sweep.yaml", "--set", "design.budgets=[1.6e12]", "--set", "seeds=[0, 1]")
    sizes = ("--set", "design.sizes={params: [1.5e5]}")
    made = call("register", "store", *target, *sizes, "--flops", "1.6e12", "--json")
    assert made.status == 0, made.err
    (entry,) = made.json["registered"]
    assert len(entry["target"]["run_ids"]) == 2
    truth = E + A * entry["target"]["params"] ** -ALPHA + B * entry["target"]["tokens"] ** -BETA
    assert entry["predicted"]["loss"]["value"] == pytest.approx(truth, rel=0.01)
    assert len(entry["fitted_on"]["run_ids"]) == 15
    off = call("register", "store", *target, *sizes, "--flops", "1e13")
    assert (off.status, off.out) == (2, "")


def test_export_gives_a_table_that_fits_the_same(here: Path) -> None:
    found = call("export", "store", "--csv", "rows.csv", "--json").json
    assert found["rows"] == 15
    with open("rows.csv") as file:
        assert len(list(csv.DictReader(file))) == 15
    a, b = (call("fit", t, "--bootstrap", "0", "--json").json["params"] for t in ("store", "rows.csv"))
    assert a == b
    assert call("export", "store", "--csv", "no/such/rows.csv").status == 2


def test_corpus_goes_to_another_machine(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = f"{{type: local, path: {here / 'other.txt'}}}"
    write_text(Path("other.txt"))
    made = call("corpus", "prepare", spec, "--json").json
    assert made["tokens"]["train"] > 100_000
    assert made["digest"] in [c["digest"] for c in call("corpus", "list", "--json").json]
    assert call("corpus", "export", spec, "corpus.zip").status == 0
    monkeypatch.setenv("SCALING_CACHE", str(here / "second"))
    assert call("corpus", "list", "--json").json == []
    assert call("corpus", "import", "corpus.zip", "--json").json["digest"] == made["digest"]
    Path("other.txt").unlink()
    again = call("corpus", "prepare", spec, "--json").json
    assert (again["digest"], again["imported"]) == (made["digest"], True)


def test_store_housekeeping(here: Path) -> None:
    before = call("fit", "store", "--bootstrap", "0", "--json").json["params"]
    assert call("store", "compact", "store", "--json").json["runs"] == 15
    assert len(list(Path("store/rows").iterdir())) == 1
    assert call("fit", "store", "--bootstrap", "0", "--json").json["params"] == before
    assert call("store", "verify", "store", "--json").json["damaged"] == []
    assert call("store", "gc", "store", "--json").json["removed"] == []
    part = next(Path("store/rows").iterdir())
    part.write_bytes(part.read_bytes()[:-1])
    damaged = call("store", "verify", "store", "--json")
    assert damaged.status == 1
    assert len(damaged.json["damaged"]) == 1


def test_a_run_trains_and_its_rerun_does_nothing(here: Path) -> None:
    assert call("run", "tiny.yaml", "--serial", "--eager", "--set", "design.axes.steps=[0]").status == 2
    assert not Path("runs").exists()
    found = call("run", "tiny.yaml", "--serial", "--eager", "--json")
    assert found.status == 0, found.err
    assert found.json["counts"] == {"finished": 1}
    assert found.json["ran"] == 1
    again = call("run", "tiny.yaml")
    assert again.status == 0
    assert "1 finished of 1 trials; 0 ran now" in again.out


def test_an_interrupted_run_says_so(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise Interrupted("stopped by SIGTERM", 15)

    monkeypatch.setattr("sweeps.run.run_sweep", interrupted)
    found = call("run", "tiny.yaml", "--json")
    assert (found.status, found.out, found.err) == (143, "", "error: stopped by SIGTERM\n")


def test_a_failed_trial_is_exit_1_with_its_reason(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeps.run import Outcome

    failed = Outcome("tiny", Path("s"), {"0" * 16: "failed"}, 0, False, {"0" * 16: "killed; log: a/b.txt"})
    monkeypatch.setattr("sweeps.run.run_sweep", lambda *a, **k: failed)
    found = call("run", "tiny.yaml")
    assert found.status == 1
    assert "killed; log: a/b.txt" in found.out.splitlines()[-1]


def test_a_bug_is_one_line_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setitem(about.KINDS, "laws", broken)  # type: ignore[arg-type]
    found = call("list", "laws", "--json")
    assert (found.status, found.out) == (1, "")
    assert found.err == "error: RuntimeError: two lines; this is a bug, SCALING_DEBUG=1 shows where\n"
    monkeypatch.setenv("SCALING_DEBUG", "1")
    from typer.testing import CliRunner

    assert isinstance(CliRunner().invoke(main.app, ["list", "laws"]).exception, RuntimeError)


def test_doctor(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaling.cli.health._probe", lambda code: (True, "2.0 | ", 0.1))
    found = call("doctor", "--json")
    assert found.status == 0, found.out
    assert found.json["healthy"]
    assert {"python", "versions", "cores", "compiler", "torch", "gpu", "ray", "cache"} <= {
        c["name"] for c in found.json["checks"]
    }
    Path("analysis").mkdir()
    (shadow,) = [c for c in call("doctor", "--json").json["checks"] if c["name"] == "package analysis"]
    assert shadow["state"] == "warn"
    monkeypatch.setattr("scaling.cli.health._probe", lambda code: (False, "no module", 0.1))
    sick = call("doctor")
    assert sick.status == 1
    assert "no module" in sick.out


@pytest.mark.parametrize(
    ("text", "seconds"), [("9m", 540), ("90s", 90), ("1h30m", 5400), ("45", 45), ("1.5h", 5400), ("1d", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert output.seconds_of(text, "--for") == seconds


@pytest.mark.parametrize("text", ["", "m", "5x", "-3m", "0s", "9 m", "1h30"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InputError, match="--for"):
        output.seconds_of(text, "--for")


def test_columns() -> None:
    assert columns_of("params=N, tokens=D,loss=L") == {"params": "N", "tokens": "D", "loss": "L"}
    assert columns_of(None) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(71424.0, "71,424"), (1.2e13, "1.2e13"), (0.51349, "0.513"), (3e-5, "3e-5"), (float("nan"), "–")],
)
def test_numbers_for_people(value: float, text: str) -> None:
    assert output.number(value) == text


def test_a_pipe_that_closes_is_no_traceback() -> None:
    code = "from scaling.cli.main import main; main()"
    done = subprocess.run(
        f"{sys.executable} -c '{code}' list --json | true; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 141
    assert done.stderr == ""


def test_json_is_alone_on_stdout_when_children_print(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(*arguments: object, **options: object) -> dict[str, Any]:
        print("python prints")
        subprocess.run(["echo", "a child prints"], check=True)
        return {"complete": True, "failures": {}}

    monkeypatch.setattr("sweeps.studies.reproduce", noisy)
    found = call("reproduce", "hoffmann", "--scale", "smoke", "--out", "x", "--json")
    assert json.loads(found.out)["complete"] is True
    assert "python prints" in found.err
