"""The parts of the study of objectives on simulated runs whose truth is known: what each says of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from objectives_world import CURVATURE, EFFECTS, SHARED_COST, world

from scaling.evaluations.measuring import settings_of
from scaling.store import Store
from sweeps.studies.objectives_parts import PARTS
from sweeps.studies.objectives_parts.arms import arms_of, at_budget, rate_of
from sweeps.studies.objectives_parts.causal_masked import PART as CAUSAL_MASKED
from sweeps.studies.objectives_parts.electra import PART as ELECTRA
from sweeps.studies.objectives_parts.mask_rate import PART as MASK_RATE
from sweeps.studies.objectives_parts.metrics import ADJACENT, DATA, ORDER, PLL, SUBJECTIVITY, effect, scores_of
from sweeps.studies.objectives_parts.pairs import PART as PAIRS
from sweeps.studies.objectives_parts.sharing import PART as SHARING
from sweeps.studies.part import Number, Scope


@pytest.fixture(scope="module")
def scope(tmp_path_factory: pytest.TempPathFactory) -> Scope:
    names = tuple(name for part in PARTS for name in part.sweeps)
    return world(tmp_path_factory.mktemp("objectives"), names)


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


def test_a_lucky_run_at_another_rate_is_not_the_best_and_a_clearly_better_one_is(scope: Scope) -> None:
    rows = at_budget(scope.rows("masked", "masked-seeds", "masked-rates"), 4e12)
    usual = next(a for a in arms_of(rows) if len(a.rates) == 3)
    for factor, moved in ((0.999, False), (0.9, True)):
        at = (rows.params_non_embedding == usual.params) & (rows.lr == usual.rates[0])
        lower = rows.assign(loss=rows.loss.where(~at, usual.rows.loss.mean() * factor))
        arm = next(a for a in arms_of(lower) if a.params == usual.params)
        assert arm.lr == (usual.rates[0] if moved else usual.lr)
        assert bool(arm.edge) is moved
        assert next(a for a in arms_of(lower, lowest=True) if a.params == usual.params).lr == usual.rates[0]


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
    assert sum(not p.reason for p in found.pictures) >= 2


def test_rates_at_an_edge_are_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.studies.objectives_parts.causal_masked.APPROACHES", ("isoflop",))
    low = world(tmp_path, CAUSAL_MASKED.needs, best_rate=0.1)
    numbers = by_name(CAUSAL_MASKED.measure(low).numbers)
    assert numbers["interior_rates_masked"].status == "non_interior"
    assert "the lowest tried" in numbers["interior_rates_masked"].reason
    lost = [n for name, n in numbers.items() if name.startswith("lost_masked")]
    # The recipe's rate is 10 times the best, the lowest tried 1.25 times.
    expected = 100 * CURVATURE * (math.log(10) ** 2 - math.log(1.25) ** 2)
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


def measured(scope: Scope, settings: str, version: int, rows: dict[str, list[dict[str, Any]]]) -> None:
    store = Store.open(scope.store, write=True)
    for run_id, points in rows.items():
        store.publish_measurement(run_id, settings, version, points)


def test_mask_rates_are_compared_on_what_they_share_and_the_rest_is_not_measured(
    scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DATA, raising=False)
    arms = arms_of(at_budget(scope.rows(*MASK_RATE.needs), 4e12))
    rng, hard = np.random.default_rng(1), np.random.default_rng(2).standard_normal(60)
    evaluation = PLL.make("toy", "")
    points: dict[str, list[dict[str, Any]]] = {}
    for arm in arms:
        # 30 % is worse by 3 % at every size; 40 % by 5 % at the smallest, less by 2 % for each factor e of N.
        rate, size = rate_of(arm.objective), math.log(arm.params / 57600)
        more = {0.15: 0.0, 0.3: 0.03, 0.4: 0.05 - 0.02 * size}[rate]
        for run in arm.ids:
            level = 1.5 * math.exp(more + 0.001 * rng.standard_normal())
            nats = 50 * level * np.exp(0.2 * hard + 0.001 * rng.standard_normal(60))
            common = {"se": None, "eval_version": 1}
            points[run] = [{"metric": PLL.stored, "x": None, "value": level, "n": 3000, **common}]
            points[run] += [{"metric": PLL.items, "x": float(k), "value": v, "n": 50, **common}
                            for k, v in enumerate(nats)]  # fmt: skip
    measured(scope, settings_of(evaluation), evaluation.version, points)
    found = MASK_RATE.measure(scope)
    numbers = by_name(found.numbers)
    assert numbers["pll_30_mean"].value.value == pytest.approx(3.0, abs=0.15)
    assert numbers["pll_30_mean"].status == "converged"
    assert numbers["pll_40_trend"].value.value == pytest.approx(-2.0 * math.log(10.0), abs=0.4)
    assert numbers["pll_40_trend"].status == "converged"
    assert len([n for n in numbers if n.startswith("pll_30_")]) == 6
    for name in ("blimp_30_mean", "subjectivity_30_mean"):
        assert numbers[name].status == "not_measured"
        assert f"{DATA} names no folder" in numbers[name].reason
    assert any("not measured, SCALING" in s for s in found.says)
    assert numbers["interior_rates_40"].status == "converged"


def test_a_metric_that_an_arm_lacks_is_not_measured_with_the_reason(scope: Scope) -> None:
    """Weights that were not kept: nothing is said of the arms that have theirs."""
    arms = arms_of(scope.rows("pairs"))
    evaluation = ORDER.make("toy", "")
    points = [{"metric": ORDER.stored, "x": None, "value": 0.6, "se": 0.01, "n": 10, "eval_version": 1}]
    points += [{"metric": ORDER.items, "x": float(k), "value": k % 2, "se": None, "n": 1, "eval_version": 1}
               for k in range(10)]  # fmt: skip
    measured(scope, settings_of(evaluation), evaluation.version, {i: points for a in arms[1:] for i in a.ids})
    scores = scores_of(scope, ORDER, arms)
    lacking = len(arms[0].ids)
    assert scores.reason.startswith(f"{lacking} of {sum(len(a.ids) for a in arms)} runs could not be: ")
    assert "weights" in scores.reason
    made, point = effect(scope, scores, "x", "label", [arms[0]], [arms[1]])
    assert (made.status, point.status) == ("not_measured", "not_measured")


def test_what_the_store_has_of_a_task_is_read_where_the_task_is_not_at_hand(
    scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DATA, raising=False)
    arms = arms_of(scope.rows("shared-wide"))
    version = SUBJECTIVITY.make("toy", "").version
    shares = {run: 0.5 + 0.1 * k for k, arm in enumerate(arms) for run in arm.ids}

    def points(share: float) -> list[dict[str, Any]]:
        right = np.arange(100) < 100 * share
        found = [(SUBJECTIVITY.stored, None, share, 0.01, 100)]
        found += [(f"{SUBJECTIVITY.stored}:over_{base}", None, 0.1, 0.01, 100) for base in ("random", "ngrams")]
        found += [(SUBJECTIVITY.items, float(k), float(v), None, 1) for k, v in enumerate(right)]
        names = ("metric", "x", "value", "se", "n")
        return [dict(zip(names, p, strict=True)) | {"eval_version": version} for p in found]

    first, *rest = shares
    measured(scope, '{"limit":7,"type":"linear_probe"}', version, {run: points(shares[run]) for run in rest})
    assert f"{DATA} names no folder" in scores_of(scope, SUBJECTIVITY, arms).reason
    measured(scope, '{"limit":7,"type":"linear_probe"}', version, {first: points(shares[first])})
    scores = scores_of(scope, SUBJECTIVITY, arms)
    assert (scores.reason, scores.below) == ("", {})
    assert {run: s.value for run, s in scores.by_run.items()} == pytest.approx(shares)
    # Two ways of measuring every run: which is meant is not known.
    measured(scope, '{"limit":8,"type":"linear_probe"}', version, {run: points(0.9) for run in shares})
    assert scores_of(scope, SUBJECTIVITY, arms).reason


def test_a_probe_below_its_baselines_does_not_count(scope: Scope, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA, raising=False)
    electra = arms_of(scope.rows("electra"))
    others = arms_of(scope.rows("electra-rates"), apart=True)
    rule = {a.params: a.lr for a in electra}
    masked = arms_of(at_budget(scope.rows("masked", "masked-seeds", "masked-rates"), 4e12))
    sizes = [a.params for a in electra]
    evaluation = ADJACENT.make("toy", "")
    rng, points = np.random.default_rng(3), {}
    ease = np.random.default_rng(4).random(2000)
    for arm in (*electra, *others, *(a for a in masked if a.params in sizes)):
        share = 0.7 + (0.05 if arm.objective["type"] == "replaced_token" else 0.0)
        share += 0.04 if arm in others and arm.lr < rule[arm.params] else 0.0
        for run in arm.ids:
            right = (ease < share + 0.002 * rng.standard_normal()).astype(float)
            weak = arm.params == sizes[0] and arm in electra
            stored = [(ADJACENT.stored, None, right.mean(), 0.01, 2000)]
            stored += [(f"{ADJACENT.stored}:over_random", None, 0.1, 0.01, 2000)]
            stored += [(f"{ADJACENT.stored}:over_ngrams", None, 0.01 if weak else 0.1, 0.01, 2000)]
            stored += [(ADJACENT.items, float(k), v, None, 1) for k, v in enumerate(right)]
            names = ("metric", "x", "value", "se", "n")
            points[run] = [dict(zip(names, p, strict=True)) | {"eval_version": 1} for p in stored]
    measured(scope, settings_of(evaluation), evaluation.version, points)
    found = ELECTRA.measure(scope)
    numbers = by_name(found.numbers)
    first, second = (numbers[f"adjacent_{n}"] for n in sizes[:2])
    assert (first.status, second.status) == ("below_baseline", "converged")
    assert "over ngrams" in first.reason
    lo, hi = second.value.ci
    assert lo < 5.0 < hi
    assert numbers["adjacent_mean"].status == "below_baseline"
    # Half the rate was made better and twice the rate equal; the smallest size is at both rates above its baselines.
    half, twice = numbers["adjacent_half_rate"].value, numbers["adjacent_twice_rate"].value
    assert half.ci[0] < 4.0 < half.ci[1]
    assert half.ci[0] > 0.0
    assert twice.ci[0] < 0.0 < twice.ci[1]
    assert {numbers[f"{m}_mean"].status for m in ("subjectivity", "sst2", "sts")} == {"not_measured"}


def test_pair_objectives_are_held_against_the_same_layout_without_them(
    scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DATA, raising=False)
    found = PAIRS.measure(scope)
    numbers = by_name(found.numbers)
    for kind in ("nsp", "sop"):
        truth = 100 * (EFFECTS[kind] - EFFECTS["none"])
        lo, hi = numbers[f"loss_{kind}_mean"].value.ci
        assert lo < truth < hi
        assert numbers[f"loss_{kind}_mean"].value.value == pytest.approx(truth, abs=0.4)
        own = [n.value.value for name, n in numbers.items() if name.startswith(f"own_{kind}_")]
        assert own == pytest.approx([0.2, 0.2], abs=0.02)
    assert numbers["adjacent_nsp_mean"].status == "not_measured"
    assert "not kept" in numbers["adjacent_nsp_mean"].reason
    assert [p.reason for p in found.pictures] == [""]
