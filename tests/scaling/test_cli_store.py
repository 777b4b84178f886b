"""Commands about a store: its ledger of predictions, export, corpora, housekeeping."""

from __future__ import annotations

import csv
import shlex
from pathlib import Path

import pytest
from cli_world import ALPHA, BETA, A, B, E, call, row, write_text

from scaling.store import Store
from sweeps.run import prepare_sweep


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
