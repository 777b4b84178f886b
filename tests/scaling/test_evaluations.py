"""Evaluations from kept weights: the run's own loss comes back, by position and on another text; resuming; refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_world import call
from evaluation_world import ENCODER, SOURCE, planned, row_of, subject_of
from threadpoolctl import threadpool_info, threadpool_limits
from trial_world import finish

from scaling.corpora.markov import Markov
from scaling.errors import InputError
from scaling.evaluate import clustered
from scaling.evaluations.base import Point, Unserved
from scaling.evaluations.measuring import measure_runs
from scaling.evaluations.other_corpus import OtherCorpus
from scaling.evaluations.position_loss import PositionLoss, clustered_columns
from scaling.evaluations.subject import Subject
from scaling.job import Planned
from scaling.store import Store

OTHER = {"type": "markov", "order": 1, "symbols": 8, "n_documents": 2048, "document_length": 1024, "seed": 5}
World = tuple[Store, dict[str, Planned]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A causal and a masked run with their weights, and one without."""
    folder = tmp_path_factory.mktemp("evaluations")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALING_CACHE", str(folder / "cache"))
        plans = {
            "causal": planned(),
            "masked": planned(architecture=ENCODER, objective="masked"),
            "bare": planned(seed=3, keep="none", steps=40),
        }
        return finish(folder / "store", *plans.values()), plans


@pytest.fixture(autouse=True)
def _cache(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(world[0].root.parent / "cache"))


def copied(world: World, folder: Path) -> Store:
    """The world's runs, to be measured anew."""
    shutil.copytree(world[0].root, folder / "store")
    return Store.open(folder / "store", write=True)


@pytest.mark.parametrize("name", ["causal", "masked"])
def test_positions_average_to_the_runs_own_loss(world: World, name: str) -> None:
    store, plans = world
    points = PositionLoss().measure(subject_of(store, plans[name]))
    assert [p.x for p in points] == list(range(1, 33))
    counts = np.array([p.n for p in points])
    mean = float(np.average([p.value for p in points], weights=counts))
    row = row_of(store, plans[name])
    assert mean == pytest.approx(row["loss"], rel=1e-6)
    assert counts.sum() == store.evals([plans[name].run_id], "heldout_nats_by_document")["n"].sum()
    assert all(p.se is not None and 0 < p.se < p.value for p in points)


def test_a_markov_source_of_order_one_is_flat_in_position_after_the_first(world: World) -> None:
    """One symbol of context tells all there is: nothing is won after the first position."""
    store, plans = world
    points = PositionLoss().measure(subject_of(store, plans["causal"]))
    values, errors = np.array([p.value for p in points]), np.array([p.se for p in points])
    assert np.abs(values - values.mean()).max() < 5 * errors.max()
    assert values.mean() > Markov.model_validate(SOURCE).entropy_rate()


def test_columns_have_the_mean_and_error_of_a_ratio_over_documents() -> None:
    rng = np.random.default_rng(0)
    document = rng.integers(0, 9, 60)
    nats, scored = rng.random((60, 3)), rng.integers(0, 2, (60, 3))
    nats *= scored
    nats[:, 2] = scored[:, 2] = 0
    mean, se, n = clustered_columns(document, nats, scored)
    for column in (0, 1):
        there = scored[:, column] > 0
        wanted = clustered(document[there], nats[there, column], scored[there, column])
        assert (mean[column], se[column]) == pytest.approx((wanted.loss, wanted.se), rel=1e-12)
        assert n[column] == scored[:, column].sum()
    assert n[2] == 0
    assert np.isnan(mean[2])


def test_the_own_corpus_as_another_gives_the_runs_own_loss(world: World) -> None:
    store, plans = world
    same = OtherCorpus.model_validate({"corpus": SOURCE, "heldout": "nested"})
    for name in ("causal", "masked"):
        points = {p.metric: p for p in same.measure(subject_of(store, plans[name])) if p.x is None}
        row = row_of(store, plans[name])
        assert points["other_corpus:markov"].value == pytest.approx(row["loss"], rel=1e-6)
        assert points["other_corpus:markov"].se == pytest.approx(row["loss_se"], rel=1e-4)
        assert ("other_corpus:markov:bits_per_byte" in points) == (name == "causal")
        if name == "causal":
            assert points["other_corpus:markov:bits_per_byte"].value == pytest.approx(row["bits_per_byte"], rel=1e-6)


def test_another_source_costs_more_than_its_entropy_and_than_the_own(world: World) -> None:
    store, plans = world
    other = OtherCorpus.model_validate({"corpus": OTHER})
    points = other.measure(subject_of(store, plans["causal"]))
    value = points[0].value
    assert value > row_of(store, plans["causal"])["loss"] + 0.1
    assert value > Markov.model_validate(OTHER).entropy_rate()
    documents = [p for p in points if p.metric.endswith("by_document")]
    assert sum(p.value for p in documents) / sum(p.n or 0 for p in documents) == pytest.approx(value, rel=1e-12)


def test_what_was_measured_is_not_measured_again(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = copied(world, tmp_path)
    rows = store.rows().query("objective == 'causal'").to_dict("records")
    first = measure_runs(store, PositionLoss(), rows)
    assert list(first.measured) == [world[1]["causal"].run_id]
    assert "keep: final" in first.left_out[world[1]["bare"].run_id]
    before = store.evals(metric="position_loss")
    monkeypatch.setattr(PositionLoss, "measure", lambda self, subject: pytest.fail("measured again"))
    second = measure_runs(store, PositionLoss(), rows)
    assert (second.measured, second.known) == ({}, [world[1]["causal"].run_id])
    assert store.evals(metric="position_loss").equals(before)
    monkeypatch.undo()
    monkeypatch.setenv("SCALING_CACHE", str(world[0].root.parent / "cache"))
    assert measure_runs(store, PositionLoss(heldout="full"), rows).measured
    monkeypatch.setattr(PositionLoss, "version", 2)
    assert measure_runs(store, PositionLoss(), rows).measured


def test_a_measurement_has_one_blas_thread_and_puts_the_setting_back(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[int]] = []

    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    def measure(self: PositionLoss, subject: Subject) -> list[Point]:
        seen.append(threads())
        return [Point("position_loss", 1.0)]

    monkeypatch.setattr(PositionLoss, "measure", measure)
    with threadpool_limits(limits=2, user_api="blas"):
        assert measure_runs(copied(world, tmp_path), PositionLoss(), world[0].rows().to_dict("records")).measured
        assert threads() == {2}
    assert set.union(*seen) == {1}


def test_weights_of_another_model_are_refused(world: World) -> None:
    store, plans = world
    held = store.final_weights(plans["causal"].run_id)
    assert held is not None
    row = row_of(store, plans["causal"])
    odd = {**held[0], "model.head": held[0]["model.head"][:, :8]}
    with pytest.raises(Unserved, match="parameter head differs"):
        Subject(row, plans["causal"].trial, odd)
    with pytest.raises(Unserved, match="is not what the run was trained on"):
        _ = Subject({**row, "data_digest": "0" * 16}, plans["causal"].trial, held[0]).corpus


def test_a_learned_vocabulary_has_no_other_corpus() -> None:
    trial = planned(tokenizer={"type": "bpe", "vocab_size": 300}).trial
    reason = OtherCorpus.model_validate({"corpus": OTHER}).serves(trial)
    assert reason is not None
    assert "tokenizer byte" in reason


def test_the_command_measures_and_resumes(world: World, tmp_path: Path) -> None:
    store = copied(world, tmp_path)
    names = {name: plan.run_id for name, plan in world[1].items()}
    found = call("evaluate", store.root, "--metric", "position_loss", "--where", "objective == 'causal'", "--json")
    assert found.status == 0, found.err
    assert {m["run_id"] for m in found.json["measured"]} == {names["causal"]}
    assert [r["run_id"] for r in found.json["left_out"]] == [names["bare"]]
    assert found.json["settings"] == {"type": "position_loss"}
    again = call("evaluate", store.root, "--metric", "position_loss", "--json").json
    assert again["known"] == [names["causal"]]
    assert {m["run_id"] for m in again["measured"]} == {names["masked"]}
    assert len(Store.open(store.root).evals(metric="position_loss")) == 64
    settings = ["--set", f"corpus={json.dumps(OTHER)}", "--set", "heldout=nested"]
    people = call("evaluate", store.root, "--metric", "other_corpus", *settings)
    assert people.status == 0
    assert "2 runs measured, 0 before, 1 left out" in people.out
    assert "keep: final" in people.err
    none = call("evaluate", store.root, "--metric", "position_loss", "--where", f"run_id == '{names['bare']}'")
    assert none.status == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "position_los"], "did you mean position_loss"),
        (["--metric", "other_corpus"], "give it with --set corpus=…"),
        (["--metric", "other_corpus", "--set", "corpus={type: local, path: nowhere}"], "nowhere"),
        (["--metric", "position_loss", "--set", "heldout"], "not of the form"),
        (["--metric", "position_loss", "--set", "heldout=most"], "heldout"),
        (["--metric", "position_loss", "--set", "colour=red"], "colour"),
        (["--metric", "position_loss", "--set", "heldout=[1"], "not YAML"),
        (["--metric", "position_loss", "--where", "sizes > 3"], "no column"),
    ],
)
def test_wrong_input_is_one_clear_line(world: World, arguments: list[str], message: str) -> None:
    found = call("evaluate", world[0].root, *arguments)
    assert found.status == InputError.exit_status
    assert message in found.err
    assert len(found.err.splitlines()) == 1
    assert found.out == ""


def test_evaluations_are_listed() -> None:
    listed = call("list", "evaluations", "--json").json
    assert {"position_loss", "other_corpus"} <= {item["name"] for item in listed}
