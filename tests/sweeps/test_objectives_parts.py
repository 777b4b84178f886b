"""The parts of the study of objectives on simulated runs whose truth is known: what each says of it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from objectives_world import SHARED_COST, world

from sweeps.studies.kaplan_parts.base import Number, Scope
from sweeps.studies.objectives_parts.arms import arms_of, at_budget
from sweeps.studies.objectives_parts.causal_masked import PART as CAUSAL_MASKED
from sweeps.studies.objectives_parts.sharing import PART as SHARING


@pytest.fixture(scope="module")
def scope(tmp_path_factory: pytest.TempPathFactory) -> Scope:
    return world(tmp_path_factory.mktemp("objectives"), tuple(dict.fromkeys((*CAUSAL_MASKED.needs, *SHARING.needs))))


def by_name(numbers: tuple[Number, ...]) -> dict[str, Number]:
    found = {n.name: n for n in numbers}
    assert len(found) == len(numbers)
    return found


def test_arms_are_seeds_of_one_recipe_at_its_best_rate(scope: Scope) -> None:
    rows = scope.rows("masked", "masked-seeds", "masked-rates")
    arms = arms_of(at_budget(rows, 4e12))
    assert [len(a.rows) for a in arms] == [1, 3, 3, 3, 3]
    assert [len(a.rates) for a in arms] == [1, 3, 1, 3, 1]
    assert all(a.edge == "" for a in arms)
    assert [a.params for a in arms] == sorted(a.params for a in arms)


def test_exponents_and_ratios_of_the_two_objectives_are_the_true_ones(scope: Scope) -> None:
    found = CAUSAL_MASKED.measure(scope)
    numbers = by_name(found.numbers)
    assert numbers["N_causal_vpnls"].value.value == pytest.approx(0.5, abs=0.05)
    assert numbers["N_masked_vpnls"].value.value == pytest.approx(0.6, abs=0.05)
    lo, hi = numbers["N_difference_isoflop"].value.ci
    assert lo < 0.1 < hi
    seen, predicted = numbers["ratio_seen"].value.value, numbers["ratio_predicted"].value.value
    assert predicted / seen == pytest.approx(round(0.15 * 128) / 128, rel=1e-6)
    assert numbers["N_masked_isoflop"].published == 0.776
    for side in ("causal", "masked"):
        rates = numbers[f"interior_rates_{side}"]
        assert (rates.value.value, rates.status) == (2, "converged")
        low, high = numbers[f"tilt_{side}"].value.ci
        assert low < 1.0 < high
    assert any("masked less causal" in s for s in found.says)
    assert all((scope.figures / f"{p.name}.png").is_file() for p in found.pictures if not p.reason)
    assert sum(not p.reason for p in found.pictures) >= 2


def test_rates_at_an_edge_are_said_to_be(tmp_path: Path) -> None:
    low = world(tmp_path, CAUSAL_MASKED.needs, best_rate=0.2)
    numbers = by_name(CAUSAL_MASKED.measure(low).numbers)
    assert numbers["interior_rates_masked"].status == "non_interior"
    assert "the lowest tried" in numbers["interior_rates_masked"].reason
    lost = [n for name, n in numbers.items() if name.startswith("lost_masked")]
    # The recipe's rate is 5 times the best, the lowest tried 1.25 times.
    expected = 100 * 0.01 * (math.log(5) ** 2 - math.log(1.25) ** 2)
    assert [n.value.value for n in lost] == pytest.approx([expected, expected], abs=0.7)
    assert {n.status for n in lost} == {"non_interior"}


def test_sharing_costs_what_it_costs(scope: Scope) -> None:
    found = SHARING.measure(scope)
    numbers = by_name(found.numbers)
    shape = numbers["shape_mean"]
    assert shape.value.ci[0] < 100 * SHARED_COST < shape.value.ci[1]
    assert shape.value.value == pytest.approx(100 * SHARED_COST, abs=0.4)
    assert shape.status == "converged"
    assert sum(name.startswith("flops_") for name in numbers) == 4
    assert sum(name.startswith("tokens_") for name in numbers) == 4
    assert numbers["tokens_mean"].value.value < numbers["shape_mean"].value.value < numbers["flops_mean"].value.value
    assert numbers["multiplier"].value.value > 1.1
    assert [p.reason for p in found.pictures] == [""]
    assert any("equal shape and FLOPs" in s for s in found.says)
