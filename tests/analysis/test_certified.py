"""The solver against certified minima (tests/analysis/certified): correct digits from its own starts, unaided."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from certified.problems import LAWS, problems

from analysis.estimation import estimate_law
from analysis.laws import get_law

ROWS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "certified" / "certified.json").read_text())
CASES = [(row, objective) for row in ROWS for objective in row["minima"]]
DIGITS = {"easy": 8.0, "average": 7.0, "hard": 6.0}
"""Correct digits that every parameter has at least, by difficulty."""


def test_the_data_are_those_of_the_problems() -> None:
    made = {p["name"]: p for p in problems()}
    assert [r["name"] for r in ROWS] == list(made)
    for row in ROWS:
        assert row["columns"] == made[row["name"]]["columns"]
        assert set(row["minima"]["ls_log"]["params"]) == set(LAWS[row["law"]][0].split())
    assert {r["difficulty"] for r in ROWS} == set(DIGITS)


def digits(value: float, certified: str) -> float:
    """−log10 of the relative error: the number of correct digits; 15 where none is wrong."""
    error = abs(value / float(certified) - 1.0)
    return 15.0 if error == 0 else min(15.0, -math.log10(error))


@pytest.mark.parametrize(("row", "objective"), CASES, ids=[f"{r['name']}-{o}" for r, o in CASES])
def test_the_minimum_is_the_certified_one(row: dict[str, Any], objective: Any) -> None:
    columns = {name: np.array(values) for name, values in row["columns"].items()}
    law = get_law(row["law"])
    found = estimate_law(law, {v: columns[v] for v in law.variables}, columns["loss"], objective, None)
    truth = row["minima"][objective]
    assert found.usable
    assert digits(found.objective_value, truth["objective"]) >= 10
    right = {name: digits(found.values[name], value) for name, value in truth["params"].items()}
    assert min(right.values()) >= DIGITS[row["difficulty"]], right
