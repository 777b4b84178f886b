"""The command line: help, sweeps and runs; JSON is alone on stdout; exit statuses say what happened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cli_schemas import STATUS_OF_STORE, checked
from cli_world import call, planned, row

import scaling
from scaling.cli import about, main, output
from scaling.cli.options import columns_of
from scaling.errors import InputError, Interrupted
from scaling.store import Store
from sweeps.run import prepare_sweep


def test_help_names_every_command_and_no_other() -> None:
    found = call("--help")
    names = [line.split()[0] for line in found.out.split("Commands:")[1].splitlines() if line.startswith("  ")]
    wanted = """init plan run status evaluate fit frontier predict compare choose check fit-curves plot register score
        reproduce export import list schema doctor corpus store"""
    assert names == wanted.split()
    assert found.status == 0
    assert call().out == found.out
    assert call("--version").out == f"scaling {scaling.__version__}\n"


@pytest.mark.parametrize(
    "command",
    ["init", "plan", "run", "status", "fit", "frontier", "predict", "compare", "choose", "check", "fit-curves", "plot"],
)
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
    monkeypatch.setattr("scaling.cli.health._probe", lambda code: (True, "2.0 |  | yes", 0.1))
    found = call("doctor", "--json")
    assert found.status == 0, found.out
    assert found.json["healthy"]
    states = {c["name"]: c["state"] for c in found.json["checks"]}
    assert {"python", "versions", "cores", "compiler", "torch", "gpu", "bf16", "ray", "cache"} <= set(states)
    assert states["bf16"] == "ok"
    monkeypatch.setattr("scaling.cli.health._probe", lambda code: (True, "2.0 |  | ", 0.1))
    (bf16,) = [c for c in call("doctor", "--json").json["checks"] if c["name"] == "bf16"]
    assert bf16["state"] == "warn"
    assert "float32" in bf16["detail"]
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


def test_a_study_is_planned_without_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALING_CALIBRATE", "0")
    said = call("reproduce", "hoffmann", "--scale", "smoke", "--plan")
    assert said.status == 0, said.err
    assert "FLOPs left; about" in said.out
    assert "predictions" in said.out
    assert not (tmp_path / "results").exists()
    found = call("reproduce", "hoffmann", "--scale", "smoke", "--plan", "--json").json
    assert [p["part"] for p in found["parts"]] == ["sweeps", "predictions"]
    assert found["flops_left"] == sum(p["flops_left"] for p in found["parts"])
    refused = call("reproduce", "frontier", "--plan", "--page")
    assert refused.status == 2
    assert "leave --page and --for out" in refused.err
