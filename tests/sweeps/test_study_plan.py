"""What a study has left to train: counted before anything is trained, without writing to its folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from law_world import install, law_sweep

from scaling.errors import InputError
from sweeps.definition import load_sweep
from sweeps.run import run_sweep
from sweeps.studies import get_study, list_studies, plan
from sweeps.studies.base import Options, Section, Study
from sweeps.studies.frontier_parts.rolling import Family, foretold, train
from sweeps.studies.planning import PartPlan, plan_study


class OneSweep(Study):
    """A study whose first part is the sweep, and whose second uses it again."""

    name = summary = source = "law"

    def __init__(self, file: Path, later: tuple[float, ...] = ()) -> None:
        self.file, self.later = file, later

    def ahead(self, options: Options, store: Path) -> list[Section]:
        sweep = load_sweep(self.file)
        return [Section("first", (sweep,)), Section("second", (sweep,), self.later)]

    def reproduce(self, options: Options) -> dict[str, Any]:
        raise NotImplementedError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's folder with one sweep, trained by the law."""
    install(monkeypatch)
    (tmp_path / "sweep-law.yaml").write_text(law_sweep("[1e12, 2.5e12, 6.3e12]", 3))
    return tmp_path


def planned(folder: Path, later: tuple[float, ...] = ()) -> list[PartPlan]:
    options = Options("toy", folder, workers=2)
    return list(plan_study(OneSweep(folder / "sweep-law.yaml", later), options).parts)


@pytest.mark.parametrize("name", [s["name"] for s in list_studies()])
def test_every_study_is_planned_before_it_has_a_folder(name: str, tmp_path: Path) -> None:
    found = plan(name, "smoke", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert sum(p.runs for p in found.parts) > 0
    assert all(p.done == 0 for p in found.parts)
    assert all((p.flops_left > 0) == (p.runs + len(p.later) > 0) == (p.seconds_left > 0) for p in found.parts)
    assert found.flops_left == sum(p.flops_left for p in found.parts)
    parts = get_study(name).parts
    assert not parts or {p.part for p in found.parts} <= set(parts)


def test_targets_of_forecasts_are_counted_before_their_size_is_known(tmp_path: Path) -> None:
    """Three rungs: the third is foretold, with two seeds, and of all families one target beyond."""
    found = {p.part: p for p in plan("frontier", "smoke", tmp_path / "x").parts}
    assert len(found["decoder"].later) == 2
    assert len(found["predictions"].later) == 6  # two seeds beyond each of three families
    assert found["predictions"].runs == 0
    assert found["predictions"].flops_left == sum(found["predictions"].later)


def test_chosen_parts_alone_are_planned(tmp_path: Path) -> None:
    everything = {p.part: p for p in plan("gap", "smoke", tmp_path / "x").parts}
    (alone,) = plan("gap", "smoke", tmp_path / "x", parts=["interactions"]).parts
    assert alone.part == "interactions"
    assert alone.runs > everything["interactions"].runs
    with pytest.raises(InputError, match="no part"):
        plan("gap", "smoke", tmp_path / "x", parts=["cain"])
    with pytest.raises(InputError, match="has no parts"):
        plan("hoffmann", "smoke", tmp_path / "x", parts=["sweeps"])


def test_what_is_done_is_subtracted_and_a_run_counts_once(folder: Path) -> None:
    first, second = planned(folder)
    assert (first.runs, first.done) == (9, 0)
    assert (second.runs, second.flops_left, second.seconds_left) == (0, 0, 0)
    run_sweep(folder / "sweep-law.yaml", folder / "store", overrides=["design.budgets=[1e12]"], serial=True, quiet=True)
    (after, _) = planned(folder)
    assert (after.runs, after.done) == (9, 3)
    assert after.flops_left == pytest.approx(3 * (2.5e12 + 6.3e12), rel=0.02)
    assert 0 < after.seconds_left < first.seconds_left
    run_sweep(folder / "sweep-law.yaml", folder / "store", serial=True, quiet=True)
    (ended, _) = planned(folder)
    assert (ended.done, ended.flops_left, ended.seconds_left) == (9, 0, 0)


def test_later_runs_have_the_pace_of_the_largest(folder: Path) -> None:
    (_, nothing), (_, two) = planned(folder), planned(folder, (1e13, 1e13))
    assert nothing.seconds_left == 0
    assert two.flops_left == 2e13
    assert two.seconds_left > 0


def test_nothing_is_said_of_the_time_of_targets_alone(tmp_path: Path) -> None:
    (found,) = plan("frontier", "smoke", tmp_path / "x", parts=["predictions"]).parts
    assert found.flops_left == sum(found.later) > 0
    assert math.isnan(found.seconds_left)


@pytest.mark.slow
def test_a_registered_target_is_planned_as_it_stands(folder: Path) -> None:
    family, options = Family.of(folder, "law", scale="smoke"), Options("smoke", folder, serial=True, quiet=True)
    assert foretold(family, family.targets, folder / "store") == ([], (6.3e12, 6.3e12, 9.45e12, 9.45e12))
    assert train(family, options)
    sweeps, later = foretold(family, family.beyond, folder / "store")
    assert later == ()
    (target,) = sweeps
    assert target.design.budgets == (9.45e12,)  # type: ignore[attr-defined]
    assert list(target.seeds) == [0, 1]
