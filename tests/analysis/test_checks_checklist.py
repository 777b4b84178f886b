"""The checklist of a fit: what the table knows is answered, and what it does not is not made up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from sweeps_by_law import SURFACES, isoflop

from analysis import fit, get_law, read_table
from analysis.checks.checklist import NOT_STATED, checklist, open_questions

STORE = Path(__file__).resolve().parents[2] / "results" / "hoffmann-toy" / "store"
PARTS = {"hypothesis", "training", "data", "fit"}


def test_a_plain_table_leaves_most_questions_open():
    table = isoflop(SURFACES["chinchilla"], np.geomspace(1e17, 1e19, 3))
    answers = checklist(read_table(table), get_law("chinchilla"))
    assert set(answers) == PARTS
    assert answers["hypothesis"]["form"] == get_law("chinchilla").formula
    assert answers["hypothesis"]["params_counted"] == "as in the table"
    assert answers["training"]["rows"] == 21
    assert answers["training"]["params_range"] == [table["params"].min(), table["params"].max()]
    assert {"training.learning_rates", "training.seeds", "data.corpora", "data.tokenizers", "fit.validation"} <= set(
        open_questions(answers)
    )
    assert answers["fit"]["exclusions"] == "none"


def test_a_store_answers_and_its_fit_carries_the_list():
    found = fit(STORE, where="objective == 'causal'", bootstrap=40)
    answers = found.diagnostics["checklist"]
    assert answers["data"]["tokenizers"] == ["byte"]
    assert answers["data"]["held_out_part"] == ["nested"]
    assert answers["training"]["optimizers"] == ["adamw"]
    assert answers["training"]["settings_chosen_by"] == "one rate at each size and budget"
    assert answers["hypothesis"]["held_fixed"]["corpus"] == "python-v1"
    assert "40 draws" in answers["fit"]["intervals"]
    assert "Huber" in answers["fit"]["loss"]
    assert answers["fit"]["validation"] == NOT_STATED
    json.dumps(found.to_json(), allow_nan=False)


def test_grids_and_exclusions_are_said():
    grids = checklist(read_table(STORE.parents[1] / "tuning-decoder" / "store"), get_law("power:params"))
    assert grids["training"]["settings_chosen_by"] == "grids of up to 6 rates at 3 of 3 sizes and budgets"
    one = isoflop(SURFACES["chinchilla"], np.geomspace(1e17, 1e19, 3))
    frame = one.assign(status=["diverged"] + ["finished"] * 20, reason="", params_total=one["params"])
    for name in ("non_embedding", "non_embedding_head"):
        frame[f"params_{name}"] = frame["params"]
    flops = {f"flops_6nd_{n}": frame["flops"] for n in ("total", "non_embedding", "non_embedding_head")}
    stored = frame.drop(columns="params").assign(flops_exact=frame["flops"], **flops)
    answers = checklist(read_table(stored), get_law("chinchilla"), validation="highest decade held out")
    assert answers["fit"]["exclusions"] == ["row 0: diverged"]
    assert answers["data"]["left_out_when_read"] == 1
    assert "fit.validation" not in open_questions(answers)
