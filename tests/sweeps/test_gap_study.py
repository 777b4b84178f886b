"""The study of the gap at smoke scale: every arm with an honest status, paired steps, a page; nothing trained twice."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from study_checks import check_page, check_result, check_sweeps

from scaling.store import Store
from sweeps.definition import load_sweep
from sweeps.expand import expand
from sweeps.studies import get_study, reproduce
from sweeps.studies.gap_parts import PARTS
from sweeps.studies.gap_parts.arms import CHAIN
from sweeps.studies.parts import SWEEPS


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("study") / "gap-smoke"
    return folder, reproduce("gap", "smoke", folder, serial=True, quiet=True)


def _numbers(result: dict[str, Any], part: str) -> dict[str, dict[str, Any]]:
    return {n["name"]: n for n in result["parts"][part]["numbers"]}


@pytest.mark.slow
def test_every_part_is_measured_and_every_number_states_its_worth(study: tuple[Path, dict[str, Any]]) -> None:
    check_result(*study, PARTS)


@pytest.mark.slow
def test_the_chain_has_an_exponent_or_a_reason_at_every_arm_and_step(study: tuple[Path, dict[str, Any]]) -> None:
    numbers = _numbers(study[1], "chain")
    for approach in ("porian", "isoflop"):
        for name in CHAIN:
            assert f"a_{name}_{approach}" in numbers
        for before, after in pairwise(CHAIN):
            step = numbers[f"step_{after}_{approach}"]["value"]["value"]
            ends = [numbers[f"a_{n}_{approach}"]["value"]["value"] for n in (before, after)]
            assert (step is None) == (None in ends)
            if step is not None:
                assert step == pytest.approx(ends[1] - ends[0], abs=1e-9)
    assert numbers["a_kaplan_porian"]["published"] == 0.835
    assert numbers["whole_porian"]["published"] == pytest.approx(-0.338)
    says = " ".join(study[1]["parts"]["chain"]["says"])
    assert "published chain" in says


@pytest.mark.slow
def test_arms_that_are_the_same_runs_differ_by_nothing(study: tuple[Path, dict[str, Any]]) -> None:
    """At this scale the batch is the fixed one already: its step is zero, exactly, or not known at all."""
    arms = study[1]["parts"]["chain"]["detail"]["protocols"]["arms"]
    assert arms["decay"]["frontiers"] == arms["batch"]["frontiers"]
    for approach in ("porian", "isoflop"):
        step = _numbers(study[1], "chain")[f"step_batch_{approach}"]
        assert step["status"] != "converged"
        assert step["value"]["value"] in (0.0, None)


@pytest.mark.slow
def test_runs_that_two_sweeps_ask_for_are_made_once(study: tuple[Path, dict[str, Any]]) -> None:
    folder, result = study
    assert sum(s["wanted"] for s in result["sweeps"].values()) == 30
    assert len(Store.open(folder / "store").rows()) == 18


@pytest.mark.slow
def test_the_page_has_every_part_and_number(study: tuple[Path, dict[str, Any]]) -> None:
    check_page(*study, "# Kaplan's exponent and Hoffmann's, smoke scale")


@pytest.mark.parametrize("scale", get_study("gap").scales)
def test_sweep_files_of_every_scale_expand(scale: str) -> None:
    check_sweeps("gap", scale, PARTS)


@pytest.mark.parametrize("scale", ["toy", "full"])
def test_arms_differ_by_one_factor(scale: str) -> None:
    """From each arm to the next what changes is what its name says, and nothing else."""
    trials = {n: [w.trial for w in expand(load_sweep(SWEEPS / f"gap-{n}-{scale}.yaml"))]
              for part in PARTS for n in part.sweeps}  # fmt: skip
    kaplan, warmup, decay, batch = (trials[n] for n in ("kaplan", "warmup", "decay", "batch"))
    assert {t.steps for t in kaplan} == {t.steps for t in warmup}
    assert len({t.steps for t in kaplan}) == 1
    rate = {t.architecture: t.optimizer.lr for t in kaplan}
    assert rate == {t.architecture: t.optimizer.lr for t in warmup}
    fixed = {t.batch_tokens for t in (*kaplan, *warmup, *decay, *trials["fixed-rates"])}
    assert len(fixed) == 1
    assert max(t.schedule.warmup_of(t.steps) for t in warmup) < 0.3 * min(t.schedule.warmup_of(t.steps) for t in kaplan)
    assert all(t.optimizer.lr == rate[t.architecture] for t in (*decay, *batch) if t.architecture in rate)
    assert [t.architecture for t in decay] == [t.architecture for t in batch]
    cells = {(t.architecture, t.batch_tokens, t.steps) for t in batch}
    assert {(t.architecture, t.batch_tokens, t.steps) for t in trials["rates"]} == cells
    assert len({t.optimizer.lr for t in (*batch, *trials["rates"]) if t.architecture == batch[0].architecture}) >= 4
    budgets = {t.architecture for t in decay}
    assert len(budgets) >= 9
