"""Baselines are scored once for runs that begin alike, and anew for those that do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from evaluation_world import ENCODER, untrained, write_text

from scaling.evaluations.baselines import Baselines, initial_digest
from scaling.evaluations.subject import Subject
from scaling.evaluations.text import vectors

PAIRS = {"type": "masked_pairs", "pair": "sop"}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path_factory.getbasetemp() / "baselines-cache"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_text(tmp_path_factory.mktemp("english") / "text.txt")


def subject(corpus: dict[str, str], **changes: Any) -> Subject:
    return untrained(**{"corpus": corpus, "architecture": ENCODER, "objective": "masked", **changes})


def states(of: Subject) -> np.ndarray:
    return vectors(of, of.encoder.encode_many(["never read before", "one two three"]))


def test_runs_that_begin_alike_are_scored_once(corpus: dict[str, str]) -> None:
    found = Baselines()
    scored: list[Subject] = []

    def score(fresh: Subject) -> np.ndarray:
        scored.append(fresh)
        return states(fresh)

    alike = [
        subject(corpus),
        subject(corpus, optimizer={"type": "adamw", "lr": 0.02}),
        subject(corpus, objective={"type": "masked", "mask_rate": 0.3}),
    ]
    for run in alike:
        np.testing.assert_array_equal(found.untrained(run, score), states(run.untrained()))
    assert len(scored) == 1


def test_trained_weights_do_not_change_the_baseline(corpus: dict[str, str]) -> None:
    run = subject(corpus)
    other = Subject(run.row, run.trial, {f"model.{name}": 2 * weight for name, weight in run.weights.items()})
    assert initial_digest(run) != initial_digest(other)
    assert initial_digest(run.untrained()) == initial_digest(other.untrained())


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"architecture": {**ENCODER, "n_head": 1}},
        {"architecture": {**ENCODER, "seq_len": 16}},
        {"architecture": {**ENCODER, "norm_placement": "post"}},
        {"objective": PAIRS},
        {"precision": "bf16"},
    ],
)
def test_whatever_changes_a_state_changes_the_name(corpus: dict[str, str], changes: dict[str, Any]) -> None:
    assert initial_digest(subject(corpus)) != initial_digest(subject(corpus, **changes))


def test_pair_objectives_share_a_baseline_with_the_objective_alone(corpus: dict[str, str]) -> None:
    alone, pair = (subject(corpus, objective={**PAIRS, "pair": name}) for name in ("none", "sop"))
    assert initial_digest(alone) == initial_digest(pair)
    np.testing.assert_array_equal(states(alone), states(pair))
