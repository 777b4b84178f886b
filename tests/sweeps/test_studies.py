"""The main study at smoke scale, through every real part, and the page it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scaling.errors import InputError
from scaling.store import Store
from sweeps.studies import get_study, list_studies, reproduce
from sweeps.studies.closed_loop import outcomes


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("study") / "hoffmann-smoke"
    return folder, reproduce("hoffmann", "smoke", folder, quiet=True)


@pytest.mark.slow
@pytest.mark.ray
def test_smoke_runs_every_part(study: tuple[Path, dict[str, Any]]) -> None:
    folder, result = study
    assert result["complete"]
    assert result["failures"] == {}
    assert json.loads((folder / "fits.json").read_text()) == json.loads(json.dumps(result))
    rows = Store.open(folder / "store").rows()
    assert set(rows.status) == {"finished"}
    assert rows.groupby("objective").sweep.nunique().to_dict().keys() == {"causal", "masked"}
    for family in result["families"].values():
        assert family["runs"]["finished"] == 9
        statuses = {f["approach"]: f["status"] for f in family["frontier"]["frontiers"]}
        assert set(statuses) == {"envelope", "isoflop", "parametric", "porian", "vpnls"}


@pytest.mark.slow
@pytest.mark.ray
def test_predictions_stand_before_their_runs(study: tuple[Path, dict[str, Any]]) -> None:
    """Every prediction was registered before its target was trained, from other runs, and is scored."""
    folder, result = study
    made = [f["prediction"] for f in result["families"].values() if f["prediction"]]
    reasons = [f["forecast_reason"] for f in result["families"].values() if not f["prediction"]]
    assert all(reasons)
    found = outcomes(folder / "store")
    assert len(found) == len(made)
    for outcome in found:
        assert not outcome.made_after_training
        assert outcome.score is not None
        assert not set(outcome.entry.fitted_on.run_ids) & set(outcome.entry.target.run_ids)
        assert set(outcome.score.skill) <= {"power_law", "last_two"}


@pytest.mark.slow
@pytest.mark.ray
def test_page_and_figures_are_whole(study: tuple[Path, dict[str, Any]]) -> None:
    folder, result = study
    page = (folder / "README.md").read_text()
    assert "{{" not in page
    assert "nan" not in page.lower().split()
    for line in page.splitlines():
        if line.startswith("!["):
            name = line.split("(")[1].rstrip(")")
            stem = (folder / name).with_suffix("")
            assert all(stem.with_suffix(s).stat().st_size > 0 for s in (".svg", ".png", ".pdf", ".csv")), name
    for family in result["families"].values():
        for frontier in family["frontier"]["frontiers"]:
            assert frontier["approach"] in page


@pytest.mark.slow
@pytest.mark.ray
def test_a_second_call_trains_nothing(study: tuple[Path, dict[str, Any]]) -> None:
    folder, first = study
    again = reproduce("hoffmann", "smoke", folder, quiet=True)
    for name, family in first["families"].items():
        assert again["families"][name]["frontier"] == family["frontier"]
        assert again["families"][name]["prediction"] == family["prediction"]
    assert again["seconds"] < first["seconds"]


def test_unknown_studies_and_scales_are_refused(tmp_path: Path) -> None:
    assert [s["name"] for s in list_studies()] == ["frontier", "gap", "hoffmann", "kaplan", "objectives", "repetition"]
    assert get_study("hoffmann").source.startswith("Hoffmann")
    with pytest.raises(InputError, match="no study 'newton'"):
        reproduce("newton", "smoke", tmp_path)
    with pytest.raises(InputError, match="no scale 'huge'; it has smoke, toy, full"):
        reproduce("hoffmann", "huge", tmp_path)
