"""plan, run and status from the command line: when a machine is measured, power, edges, one line for a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_world import SWEEP, call, fill, write_text

from scaling.store import Store
from sweeps import measure
from sweeps.calibration import Calibration
from sweeps.run import prepare_sweep


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_text(Path("text.txt"))
    Path("sweep.yaml").write_text(SWEEP.format(text="text.txt"))
    return tmp_path


def test_a_machine_is_measured_once_and_only_where_something_is_left(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []

    def measured(workers: int, **how: Any) -> Calibration:
        calls.append({"workers": workers, **how})
        return Calibration(measured=True)

    monkeypatch.setattr(measure, "measure", measured)
    assert not call("plan", "sweep.yaml", "--json").json["rates_measured"]  # the tests' own setting: never
    monkeypatch.delenv("SCALING_CALIBRATE")
    assert call("plan", "sweep.yaml", "--json", "--workers", "1").json["rates_measured"]
    assert (calls[-1]["workers"], calls[-1]["precision"], calls[-1]["compiled"]) == (1, "bf16", False)
    call("plan", "sweep.yaml", "--calibrate", "--compile", "--set", "precision=fp32")
    assert (calls[-1]["precision"], calls[-1]["compiled"]) == ("fp32", True)
    assert not call("plan", "sweep.yaml", "--json", "--no-calibrate").json["rates_measured"]
    fill(Path("sweep.yaml"), Path("store"))
    assert call("plan", "sweep.yaml", "--store", "store", "--json").json["counts"] == {"finished": 15}
    assert len(calls) == 2


def test_power_takes_the_sweeps_own_rows(here: Path) -> None:
    """The store's rows lie on a known surface with .2 % noise: the exponent is found, and its power said."""
    fill(Path("sweep.yaml"), Path("store"))
    found = call("plan", "sweep.yaml", "--store", "store", "--power", "--json", "--level", "0.8").json["power"]
    assert found["surface"]["source"].startswith("fitted to 15 runs of store")
    assert 0.0005 < found["noise"] < 0.004
    by_name = {e["approach"]: e for e in found["exponents"]}
    for e in by_name.values():
        assert e["ci"][0] < e["value"] < e["ci"][1]
    assert {e["size"] for e in found["effects"]} == {0.05, 0.1, 0.23}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "sweep.yaml", "--power", "--noise", "2"], "--noise 2.0 is no standard deviation of a log loss"),
        (["plan", "sweep.yaml", "--power", "--count", "all"], "there is no count 'all'"),
        (["plan", "sweep.yaml", "--power", "--surface", "none.csv"], "none.csv: no such file or store"),
        (["run", "sweep.yaml", "--gpus-per-trial", "1.5"], "--gpus-per-trial 1.5: give a fraction of one GPU"),
        (["run", "sweep.yaml", "--gpus-per-trial", "0.5", "--serial"], "leave it out with --serial"),
        (["run", "sweep.yaml", "--set", "trainer=nowhere:f"], "trainer nowhere:f: there is no module nowhere"),
        (
            ["plan", "sweep.yaml", "--set", "trainer=nowhere"],
            "trainer: cannot be 'nowhere'; write package.module:function",
        ),
        (["import", "sweep.yaml", "--store", "new"], "sweep.yaml: is neither .csv nor .jsonl"),
        (["plan", "sweep.yaml", "--set", "design.budgets[9]=1"], "'9' is no index of it"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str, here: Path) -> None:
    found = call(*arguments)
    assert (found.status, found.out) == (2, "")
    assert len(found.err.strip().splitlines()) == 1
    assert message in found.err


def test_a_best_rate_at_the_edge_is_told_by_plan(here: Path) -> None:
    factors = "design.learning_rate_factors=[1, 2, 4]"
    ready = prepare_sweep("sweep.yaml", [factors])
    from cli_world import row

    store = Store.create("store")
    for number, item in enumerate(ready.wanted):
        store.publish(row(ready, number, 0.01 * item.labels["learning_rate_factor"]))
    warnings = call("plan", "sweep.yaml", "--store", "store", "--set", factors, "--json").json["warnings"]
    edges = [w for w in warnings if "the best learning rate is the lowest of 3 tried" in w]
    assert len(edges) == 15


def test_status_takes_the_plans_time_until_a_run_has_ended(here: Path) -> None:
    ready = prepare_sweep("sweep.yaml")
    store = Store.create("store")
    run_id = ready.wanted[0].trial.run_id(ready.digest)
    store.mark_running(run_id, {"sweep": "little", "step": 0, "steps": 100, "flops": 1.0})
    found = call("status", "store", "--sweep", "sweep.yaml", "--json").json
    planned = call("plan", "sweep.yaml", "--store", "store", "--workers", "1", "--json").json
    assert found["counts"]["running"] == 1
    assert found["seconds_left"] == pytest.approx(planned["seconds_left"])
