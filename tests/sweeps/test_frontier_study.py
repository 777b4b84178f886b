"""The study of the frontier at smoke scale, its sweep files, and what its parts ask for."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from study_checks import check_page, check_result

from scaling import ledger
from scaling.accounting import COUNTS
from scaling.store import Store
from sweeps.definition import load_sweep
from sweeps.expand import expand
from sweeps.studies import get_study, reproduce
from sweeps.studies.base import Options
from sweeps.studies.frontier_parts import PARTS
from sweeps.studies.frontier_parts.decoder import ARM as DECODER
from sweeps.studies.frontier_parts.predictions import ARMS, _parted
from sweeps.studies.parts import SWEEPS, _sweep


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("study") / "frontier-smoke"
    return folder, reproduce("frontier", "smoke", folder, serial=True, quiet=True)


@pytest.mark.slow
def test_every_part_is_measured_and_every_number_states_its_worth(study: tuple[Path, dict[str, Any]]) -> None:
    check_result(*study, PARTS)
    result = study[1]
    approaches = {f["approach"] for f in result["parts"]["decoder"]["detail"]["decoder"]["frontier"]["frontiers"]}
    assert approaches == {"envelope", "isoflop", "parametric", "porian", "vpnls"}
    counts = {f["count"] for f in result["parts"]["encoder-bytes"]["detail"]["bytes"]["frontier"]["frontiers"]}
    assert counts == set(COUNTS)


@pytest.mark.slow
def test_forecasts_stand_before_their_runs_and_misses_are_told(study: tuple[Path, dict[str, Any]]) -> None:
    """Each budget above the first two is scored, from runs that began after it was registered, or has a reason."""
    folder, result = study
    store = Store.open(folder / "store")
    rows, part = store.rows().set_index("run_id"), result["parts"]["predictions"]
    lines = part["detail"]["targets"]
    assert [(t["family"], t["flops"]) for t in lines] == [
        ("decoder", 2.1e9), ("decoder", 3.15e9), ("decoder-one-depth", 3.15e9), ("encoder", 3.15e9),
    ]  # fmt: skip
    entries = ledger.predictions(store)
    assert len(entries) == sum(t["state"] == "scored" for t in lines)
    for entry in entries:
        begun = [json.loads(rows.provenance[i])["started_at"] for i in entry.target.run_ids]
        assert all(datetime.fromisoformat(b) > datetime.fromisoformat(entry.registered_at) for b in begun)
        assert not set(entry.fitted_on.run_ids) & set(entry.target.run_ids)
        assert rows.budget[list(entry.fitted_on.run_ids)].max() < entry.target.flops
    text = " ".join(part["says"])
    for t in lines:
        assert t["state"] in ("scored", "not predicted")
        if t["state"] == "not predicted":
            assert t["reason"] in text
        else:
            score = t["outcome"]["score"]
            assert score["runs"] == 2
            assert score["inside"] == (score["predicted"]["ci"][0] <= score["observed"] <= score["predicted"]["ci"][1])
    misses = [t for t in lines if t["state"] == "scored" and not t["outcome"]["score"]["inside"]]
    assert text.count("a miss at") == len(misses)


@pytest.mark.slow
def test_the_page_has_every_part_number_and_target(study: tuple[Path, dict[str, Any]]) -> None:
    check_page(*study, "# The compute-optimal frontier, and what it predicts, smoke scale")


@pytest.mark.slow
def test_a_second_call_trains_and_registers_nothing(study: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = study
    before = Store.open(folder / "store")
    runs, entries = set(before.rows().run_id), ledger.predictions(before)
    again = reproduce("frontier", "smoke", folder, serial=True, quiet=True, parts=["predictions"])
    after = Store.open(folder / "store")
    assert set(after.rows().run_id) == runs
    assert ledger.predictions(after) == entries
    assert again["parts"]["predictions"]["detail"] == study[1]["parts"]["predictions"]["detail"]


def test_forecasts_that_hang_on_the_form_are_counted_apart() -> None:
    """By whether the pure power law's guess lies in the law's interval, whatever came; without a guess, in neither."""

    def line(flops: float, guess: float | None, inside: bool | None) -> Any:
        baselines = {} if guess is None else {"power_law": guess}
        entry = SimpleNamespace(baselines=baselines, predicted=SimpleNamespace(loss=SimpleNamespace(ci=(1.0, 1.2))))
        score = None if inside is None else SimpleNamespace(inside=inside)
        return SimpleNamespace(target=SimpleNamespace(flops=flops, outcome=SimpleNamespace(entry=entry, score=score)))

    lines = [line(1e12, 1.1, True), line(2e12, 0.9, False), line(4e12, 0.8, True)]
    unknown = SimpleNamespace(target=SimpleNamespace(flops=1.6e13, outcome=None))
    (text,) = _parted(DECODER, [*lines, line(8e12, None, False), unknown])
    assert text.startswith("Decoder: at 2e12, 4e12 FLOPs")
    assert "Of these forecasts 1 of 2 missed; of the others 0 of 1 missed." in text
    assert _parted(DECODER, lines[:1]) == []
    assert (
        "Of these forecasts none is trained yet; of the others 0 of 1 missed."
        in _parted(DECODER, [lines[0], line(8e12, 0.9, None)])[0]
    )


@pytest.mark.parametrize("scale", get_study("frontier").scales)
def test_sweep_files_of_every_scale_expand_from_a_folder_of_their_own(scale: str, tmp_path: Path) -> None:
    """What a sweep includes goes with it, under the name it has there, and its trials stay the same."""
    for name in (n for part in PARTS for n in part.sweeps):
        shipped = load_sweep(SWEEPS / f"frontier-{name}-{scale}.yaml")
        assert shipped.name == f"frontier-{name}-{scale}"
        copied = _sweep("frontier", name, Options(scale, tmp_path, quiet=True))
        assert {f.parent for f in copied.files} == {tmp_path}
        assert [w.trial for w in expand(copied)] == [w.trial for w in expand(shipped)]


def test_a_changed_file_in_the_folder_is_what_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also for the sweeps that include it; and the study says so."""
    _sweep("frontier", "decoder-seeds", Options("smoke", tmp_path))
    mine = tmp_path / "sweep-decoder.yaml"
    mine.write_text(mine.read_text().replace("n_documents: 512", "n_documents: 256"))
    seeds = _sweep("frontier", "decoder-seeds", Options("smoke", tmp_path))
    assert seeds.corpus.n_documents == 256  # type: ignore[attr-defined]
    assert "sweep-decoder.yaml is not frontier-decoder-smoke.yaml as it is shipped" in capsys.readouterr().out


@pytest.mark.parametrize("scale", ["toy", "full"])
def test_designs_can_answer_their_questions(scale: str) -> None:
    """Seeds repeat cells of the frontier, grids hold the recipe's own runs, trunks and separate runs share theirs."""
    trials = {n: [w.trial for w in expand(load_sweep(SWEEPS / f"frontier-{n}-{scale}.yaml"))]
              for part in PARTS for n in part.sweeps}  # fmt: skip
    for arm in ARMS:
        cells = {t.model_copy(update={"seed": 0}) for t in trials[arm.main]}
        assert arm.repeats
        for name in arm.repeats:
            assert {t.model_copy(update={"seed": 0}) for t in trials[name]} <= cells
            assert all(t.seed > 0 for t in trials[name])
    assert {t.architecture.n_layer for t in trials["decoder-one-depth"]} == {3}
    rungs = set(trials["decoder"])
    assert len(rungs & set(trials["tuning"])) == 5
    assert len(rungs & set(trials["tuning-confirm"])) == 2
    shapes = {(t.architecture, round(t.tokens, -5)) for t in trials["encoder"]}
    assert len({(t.architecture, round(t.tokens, -5)) for t in trials["encoder-tuning"]} & shapes) == 2
    lineages: dict[Any, set[float]] = {}
    separate = {(t.architecture, t.steps): t for t in trials["matched"]}
    for t in trials["trunks"]:
        twin = separate[t.architecture, t.steps]
        assert (t.batch_tokens, t.optimizer.lr) == (twin.batch_tokens, twin.optimizer.lr)
        lineages.setdefault(t.lineage("digest"), set()).add(t.steps)
    assert len(separate) == len(trials["trunks"])
    assert len(lineages) == len({t.architecture for t in trials["trunks"]})
    assert all(len(steps) >= 6 for steps in lineages.values())
