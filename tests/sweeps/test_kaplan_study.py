"""Kaplan's study at smoke scale: every part with an honest status, a page that has them all, nothing done twice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from study_checks import check_page, check_result, check_sweeps

from analysis.types import Status
from scaling.errors import InputError
from scaling.store import Store
from sweeps.definition import load_sweep
from sweeps.expand import expand
from sweeps.studies import get_study, reproduce
from sweeps.studies.kaplan import SWEEPS
from sweeps.studies.kaplan_parts import PARTS

ESTIMATE = {
    "type": "object",
    "properties": {
        "value": {"type": ["number", "null"]},
        "ci": {"type": "array", "items": {"type": ["number", "null"]}, "minItems": 2, "maxItems": 2},
        "level": {"type": "number"},
    },
    "required": ["value", "ci", "level"],
}
NUMBER = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "label": {"type": "string"},
        "value": ESTIMATE,
        "status": {"enum": [str(s) for s in Status]},
        "reason": {"type": "string"},
        "runs": {"type": "string", "minLength": 1},
        "n": {"type": "integer"},
        "command": {"type": "string", "minLength": 1},
        "unit": {"type": "string"},
        "published": {"type": ["number", "null"]},
    },
    "required": ["name", "label", "value", "status", "reason", "runs", "n", "command", "unit", "published"],
    "additionalProperties": False,
}
PART = {
    "type": "object",
    "properties": {
        "state": {"enum": ["measured", "not_measured"]},
        "reason": {"type": "string"},
        "numbers": {"type": "array", "items": NUMBER},
        "pictures": {"type": "array", "items": {"type": "object", "required": ["name", "caption", "reason"]}},
        "says": {"type": "array", "items": {"type": "string"}},
        "limits": {"type": "array", "items": {"type": "string"}},
        "detail": {"type": "object"},
    },
    "required": ["state", "reason", "title", "question", "design", "numbers", "pictures", "says", "limits", "detail"],
}


@dataclass(frozen=True)
class Begun:
    """What stood in the study's folder after a first call that made one part alone."""

    result: dict[str, Any]
    page: str
    rows: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Begun, dict[str, Any]]:
    """A first call with one part, and a second with all of them."""
    folder = tmp_path_factory.mktemp("study") / "kaplan-smoke"
    first = reproduce("kaplan", "smoke", folder, serial=True, quiet=True, parts=["schedules"])
    begun = Begun(first, (folder / "README.md").read_text(), _rows(folder))
    return folder, begun, reproduce("kaplan", "smoke", folder, serial=True, quiet=True)


@pytest.fixture(scope="module")
def study(calls: tuple[Path, Begun, dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    return calls[0], calls[2]


def _rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Provenance (with its times) and loss by run."""
    rows = Store.open(folder / "store").rows()
    return {r.run_id: {"loss": r.loss, "provenance": r.provenance} for r in rows.itertuples()}


@pytest.mark.slow
def test_every_part_is_measured_from_runs_that_finished(study: tuple[Path, dict[str, Any]]) -> None:
    folder, result = study
    check_result(folder, result, PARTS)
    rows = Store.open(folder / "store").rows()
    wanted = {i for s in result["sweeps"].values() for i in rows.run_id[_selected(rows, s["where"])]}
    assert wanted == set(rows.run_id)


def _selected(rows: Any, where: str) -> Any:
    from analysis.where import select_rows

    return select_rows(rows, where)


@pytest.mark.slow
def test_numbers_follow_the_schema_and_state_their_worth(study: tuple[Path, dict[str, Any]]) -> None:
    """Every number selects runs of the store; one that is known has an interval around it or a reason for none."""
    folder, result = study
    rows = Store.open(folder / "store").rows()
    for part in result["parts"].values():
        jsonschema.validate(part, PART)
        for number in part["numbers"]:
            assert _selected(rows, number["runs"]).any(), number["name"]


@pytest.mark.slow
def test_a_number_comes_out_again_from_its_runs(study: tuple[Path, dict[str, Any]]) -> None:
    """The exponent of L(N), fitted anew to the rows that its filter selects."""
    from analysis.fitting import fit

    folder, result = study
    number = next(n for n in result["parts"]["sizes"]["numbers"] if n["name"] == "alpha_N_non_embedding")
    again = fit(folder / "store", "power:params", count="non_embedding", where=number["runs"], bootstrap=0)
    assert again.params["alpha"].value == pytest.approx(number["value"]["value"], rel=1e-9)
    assert again.n == number["n"]


@pytest.mark.slow
def test_smoke_is_too_little_for_a_critical_batch_and_says_so(study: tuple[Path, dict[str, Any]]) -> None:
    """One rate cannot be an interior best: no batch enters, no law is made, and C_min is not claimed."""
    parts = study[1]["parts"]
    batch = {n["name"]: n for n in parts["batch"]["numbers"]}
    assert batch["alpha_B"]["status"] == "too_few_points"
    assert batch["alpha_B"]["value"]["value"] is None
    assert not any(n["name"].startswith("adjusted") for n in parts["compute"]["numbers"])
    assert any("no C_min" in s for s in parts["compute"]["says"])
    shapes = parts["shape"]["numbers"]
    assert {n["status"] for n in shapes} == {"non_interior"}


@pytest.mark.slow
def test_the_page_has_every_part_number_and_figure(study: tuple[Path, dict[str, Any]]) -> None:
    check_page(*study, "# Kaplan's scaling laws, smoke scale")


@pytest.mark.slow
def test_a_part_alone_leaves_the_others_not_measured(calls: tuple[Path, Begun, dict[str, Any]]) -> None:
    _, begun, _ = calls
    states = {name: part["state"] for name, part in begun.result["parts"].items()}
    assert states.pop("schedules") == "measured"
    assert set(states.values()) == {"not_measured"}
    assert not begun.result["complete"]
    assert all(not begun.result["parts"][name]["numbers"] for name in states)
    assert begun.result["parts"]["lstm"]["reason"] == "missing: 3 of 4 runs of sweep-lstm.yaml"
    assert begun.page.count("**Not yet measured**") == len(states)
    assert len(begun.rows) == 3


@pytest.mark.slow
def test_a_resumed_study_does_nothing_twice(calls: tuple[Path, Begun, dict[str, Any]]) -> None:
    """Rows of the first call stand as they were, times and all, where other parts ask for the same runs too."""
    folder, begun, result = calls
    after = _rows(folder)
    assert {run: after[run] for run in begun.rows} == begun.rows
    assert result["parts"]["schedules"]["numbers"] == begun.result["parts"]["schedules"]["numbers"]
    assert sum(s["wanted"] for s in result["sweeps"].values()) > len(after)
    evals = Store.open(folder / "store").evals(metric="position_loss")
    assert not evals.duplicated(["run_id", "x"]).any()


def test_no_time_trains_nothing_and_says_so(tmp_path: Path) -> None:
    found = reproduce("kaplan", "smoke", tmp_path / "none", serial=True, quiet=True, seconds=0.0)
    assert not found["complete"]
    assert "time ran out" in found["reason"]
    assert not (tmp_path / "none" / "fits.json").exists()


def test_a_page_of_no_runs_says_so_part_by_part(tmp_path: Path) -> None:
    found = reproduce("kaplan", "smoke", tmp_path / "page", serial=True, quiet=True, train=False)
    assert {p["state"] for p in found["parts"].values()} == {"not_measured"}
    assert all("missing" in p["reason"] for p in found["parts"].values())
    assert (tmp_path / "page" / "README.md").exists()
    assert not found["complete"]
    with pytest.raises(InputError, match="hoffmann has no parts, so its page needs all its runs"):
        reproduce("hoffmann", "smoke", tmp_path, train=False)
    with pytest.raises(InputError, match="leave part and time out"):
        reproduce("kaplan", "smoke", tmp_path, parts=["sizes"], train=False)


def test_unknown_parts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no part of study kaplan 'shapes'; there are sizes, data"):
        reproduce("kaplan", "smoke", tmp_path, parts=["shapes"])
    with pytest.raises(InputError, match="study hoffmann has no parts"):
        reproduce("hoffmann", "smoke", tmp_path, parts=["sizes"])


@pytest.mark.parametrize("scale", get_study("kaplan").scales)
def test_sweep_files_of_every_scale_expand(scale: str) -> None:
    """Every sweep of every part is there, makes trials, and its name is its file's."""
    check_sweeps("kaplan", scale, PARTS)


@pytest.mark.parametrize("scale", ["toy", "full"])
def test_designs_can_answer_their_questions(scale: str) -> None:
    """Sizes span a decade and a half (two in full), several seeds, kept weights; unique text is passed over again."""
    trials = {n: [w.trial for w in expand(_load(n, scale))] for n in ("sizes", "seeds", "data", "batch", "lstm")}
    sizes = {t.architecture.params(256).non_embedding for t in trials["sizes"]}
    assert math.log10(max(sizes) / min(sizes)) >= (1.5 if scale == "toy" else 2.0)
    assert len(sizes) >= 7
    assert len({t.seed for t in trials["sizes"] + trials["seeds"]}) >= 3
    assert all(t.evaluation_ratio is not None for t in trials["sizes"] + trials["data"] + trials["batch"])
    assert {_load(n, scale).keep for n in ("sizes", "seeds", "lstm", "pydocs")} == {"final"}
    assert min(t.tokens / (t.corpus.unique_tokens or math.inf) for t in trials["data"]) > 4
    assert {t.architecture.type for t in trials["lstm"]} == {"decoder", "lstm"}
    assert {t.architecture.seq_len for t in trials["lstm"]} == {512}
    batches = {t.batch_tokens for t in trials["batch"]}
    assert max(batches) / min(batches) == 256
    assert all(len({t.optimizer.lr for t in trials["batch"] if t.batch_tokens == b}) >= 3 for b in batches)


def _load(name: str, scale: str) -> Any:
    return load_sweep(SWEEPS / f"kaplan-{name}-{scale}.yaml")
