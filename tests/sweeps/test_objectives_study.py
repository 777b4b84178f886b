"""The study of objectives at smoke scale: every number with an honest status, a page that says what is not measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from study_checks import check_page, check_result, check_sweeps

from sweeps.definition import load_sweep
from sweeps.expand import expand
from sweeps.studies import get_study, reproduce
from sweeps.studies.objectives_parts import PARTS
from sweeps.studies.parts import SWEEPS
from sweeps.studies.parts_page import write_page


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("study") / "objectives-smoke"
    return folder, reproduce("objectives", "smoke", folder, serial=True, quiet=True)


@pytest.mark.slow
def test_every_part_is_measured_and_every_number_states_its_worth(study: tuple[Path, dict[str, Any]]) -> None:
    folder, result = study
    check_result(folder, result, PARTS, "below_baseline", "not_measured")
    check_page(folder, result, "# Objectives at equal compute, smoke scale")
    assert all(p["numbers"] for p in result["parts"].values())
    says = " ".join(s for p in result["parts"].values() for s in p["says"])
    assert "masked less causal" in says
    part = next(iter(result["parts"]))
    unmeasured = {**result["parts"][part], "state": "not_measured", "reason": "missing: 3 of 6 runs"}
    result = {**result, "parts": {**result["parts"], part: unmeasured | {"numbers": [], "pictures": [], "says": []}}}
    again = write_page(folder, result, template="objectives.md.jinja", first=part, published="published").read_text()
    assert "**Not yet measured**: missing: 3 of 6 runs." in again


@pytest.mark.parametrize("scale", get_study("objectives").scales)
def test_sweep_files_of_every_scale_expand(scale: str) -> None:
    check_sweeps("objectives", scale, PARTS)


@pytest.mark.parametrize("scale", ["toy", "full"])
def test_arms_are_alike_but_for_what_they_compare(scale: str) -> None:
    trials = {n: [w.trial for w in expand(load_sweep(SWEEPS / f"objectives-{n}-{scale}.yaml"))]
              for part in PARTS for n in part.sweeps}  # fmt: skip

    def cells(name: str) -> set[tuple[Any, ...]]:
        return {(t.architecture.d_model, t.architecture.n_layer, t.batch_tokens, t.optimizer.lr) for t in trials[name]}

    def budgets(name: str) -> set[Any]:
        return {w.budget for w in expand(load_sweep(SWEEPS / f"objectives-{name}-{scale}.yaml"))}

    assert {t.architecture.d_model for t in trials["causal"]} == {t.architecture.d_model for t in trials["masked"]}
    assert budgets("causal") == budgets("masked")
    assert cells("masked-seeds") < cells("masked")
    at_zero = {(t.model_copy(update={"seed": 0})).run_id("d") for t in trials["masked-seeds"]}
    assert at_zero < {t.run_id("d") for t in trials["masked"]}
    assert cells("shared-seeds") == cells("masked-seeds")
    twins = {(t.architecture.model_copy(update={"share": "none"}), t.steps) for t in trials["shared-seeds"]}
    assert twins == {(t.architecture, t.steps) for t in trials["masked-seeds"]}
    for name in ("mask-rate", "pairs"):
        assert cells(name) <= cells("masked-seeds")
        assert budgets(name) == budgets("masked-seeds")
    # Replaced-token detection has rates of its own.
    assert {c[:3] for c in cells("electra")} <= {c[:3] for c in cells("masked-seeds")}
    assert budgets("electra") == budgets("masked-seeds")
    for side in ("causal", "masked"):
        assert cells(f"{side}-again") == cells(side)
        assert {t.seed for t in trials[f"{side}-again"]} == {1}
