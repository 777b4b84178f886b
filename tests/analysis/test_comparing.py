"""Comparing: two known surfaces give their known differences, and what has no common axis is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sweeps_by_law import LAW, SURFACES, exponent, isoflop

from analysis import axes, read_table
from analysis.axes import scored
from analysis.comparing import compare, verdict_of
from analysis.types import Estimate
from scaling.errors import InputError
from scaling.store import Store
from scaling.store.schema import ROW_COLUMNS

BUDGETS = np.geomspace(1e17, 1e19, 5)
A, B = SURFACES["chinchilla"], SURFACES["asymmetric"]
RESULTS = Path(__file__).resolve().parents[2] / "results"
STORE = RESULTS / "hoffmann-toy" / "store"


def table(surface, seed=0, sigma=0.001, **columns):
    return isoflop(surface, BUDGETS, sigma=sigma, seed=seed).assign(**columns)


@pytest.mark.parametrize("approach", ["isoflop", "vpnls"])
def test_two_known_surfaces_give_their_known_differences(approach):
    found = compare(
        table(A), table(B, seed=1), approach=approach, count="total", bootstrap=200, level=0.99, same_axis=True
    )
    n = found.exponents["N"]
    truth = exponent(B) - exponent(A)
    assert n.change.ci[0] < truth < n.change.ci[1]
    assert n.change.value == pytest.approx(n.b.value - n.a.value)
    assert (n.verdict, found.exponents["D"].verdict) == ("higher", "lower")
    assert found.pairing.startswith("independent")
    assert len(found.tokens_per_param) == 3
    for p in found.tokens_per_param:
        sides = [LAW.frontier(s, p.flops) for s in (A, B)]
        ratios = [float(o.tokens / o.params) for o in sides]
        assert p.seen.a.value == pytest.approx(ratios[0], rel=0.05)
        # Where alpha and beta differ a parabola over ±8× shifts its vertex: the ratio is biased, not the exponent.
        close = 0.2 if approach == "isoflop" else 0.03
        assert p.seen.change.value == pytest.approx(ratios[1] / ratios[0], rel=close)
        assert p.seen.verdict == "lower"
    assert found.multiplier_status == "converged"
    grid = np.geomspace(1e16, 1e21, 4000)
    for m in found.multipliers:
        spent = [float(np.exp(np.interp(-m.loss, -LAW.frontier(s, grid).loss, np.log(grid)))) for s in (A, B)]
        # isoFLOP minima of a parabola lie a little above the surface's: the same on both sides, nearly.
        assert m.multiplier.value == pytest.approx(spent[1] / spent[0], rel=0.1)
        assert m.verdict == "higher"


def test_twins_are_equal_and_noisy_twins_are_not_resolved():
    quiet = compare(table(A, 0, 1e-4), table(A, 1, 1e-4), count="total", bootstrap=200, same_axis=True)
    assert quiet.exponents["N"].verdict == "equal"
    assert {p.seen.verdict for p in quiet.tokens_per_param} == {"equal"}
    assert {m.verdict for m in quiet.multipliers} == {"equal"}
    noisy = compare(table(A, 0, 0.03), table(A, 1, 0.03), count="total", bootstrap=200, same_axis=True)
    assert noisy.exponents["N"].verdict == "not_resolved"


def test_runs_that_both_hold_are_drawn_once():
    whole = table(A, sigma=0.01)
    same = compare(whole, whole, count="total", bootstrap=200, same_axis=True)
    assert same.pairing == "paired: the two share 35 runs"
    assert same.exponents["N"].change.ci == (0.0, 0.0)
    assert same.exponents["N"].verdict == "equal"
    part = compare(whole, whole, where_b="flops < 5e18", count="total", bootstrap=200, same_axis=True)
    apart = compare(whole, whole[whole["flops"] < 5e18].copy(), count="total", bootstrap=200, same_axis=True)
    assert part.pairing == "paired: the two share 28 runs"
    assert apart.pairing.startswith("independent")
    widths = [c.exponents["N"].change.ci[1] - c.exponents["N"].change.ci[0] for c in (part, apart)]
    assert widths[0] < 0.8 * widths[1]


def test_coverage_of_the_difference():
    """Nominal 90 % intervals of the difference of two independent sweeps."""
    truth, inside = exponent(B) - exponent(A), 0
    for k in range(20):
        found = compare(
            table(A, 2 * k, 0.003), table(B, 2 * k + 1, 0.003), count="total", bootstrap=100, same_axis=True
        )
        lo, hi = found.exponents["N"].change.ci
        inside += lo < truth < hi
    assert inside >= 14  # 18 expected; fewer than 14 twice in a thousand


@pytest.mark.parametrize(
    ("ci", "ratio", "verdict"),
    [
        ((-0.01, 0.02), False, "equal"), ((0.01, 0.2), False, "higher"), ((-0.2, -0.01), False, "lower"),
        ((-0.2, 0.2), False, "not_resolved"), ((np.nan, np.nan), False, "not_resolved"),
        ((0.98, 1.03), True, "equal"), ((1.01, 2.0), True, "higher"), ((0.1, 0.9), True, "lower"),
    ],
)  # fmt: skip
def test_verdicts(ci, ratio, verdict):
    assert verdict_of(Estimate(float(np.mean(ci)), ci, 0.9), 1.05 if ratio else 0.05, ratio=ratio) == verdict


def test_losses_without_a_common_axis_have_no_multiplier():
    plain = compare(table(A), table(B, 1), count="total", bootstrap=50)
    assert plain.multiplier_status == "not_resolved"
    assert "do not say" in plain.multiplier_reason
    said = {"objective": "causal", "tokenizer": "byte", "data_digest": "d"}
    one = compare(table(A, **said), table(A, 1, **said), count="total", bootstrap=50)
    assert one.multiplier_status == "converged"
    two = compare(table(A, **said), table(B, 1, **{**said, "tokenizer": "bpe"}), count="total", bootstrap=50)
    assert two.multiplier_status == "not_resolved"
    assert "tokenizer" in two.multiplier_reason
    assert two.exponents["N"].change.known


def test_ranges_that_do_not_meet():
    low, high = isoflop(A, BUDGETS[:3], sigma=0.001), isoflop(A, BUDGETS[2:] * 100, sigma=0.001, seed=1)
    found = compare(low, high, count="total", bootstrap=50, same_axis=True)
    assert found.tokens_per_param == ()
    assert any("no common budget" in w for w in found.warnings)
    assert found.multiplier_status == "not_resolved"
    assert "no loss that both reach" in found.multiplier_reason
    none = compare(isoflop(A, BUDGETS[:1]), low, count="total", bootstrap=50, same_axis=True)
    assert none.status == "not_resolved"
    assert none.exponents["N"].verdict == "not_resolved"
    json.dumps(none.to_json(), allow_nan=False)


def test_objectives_of_a_committed_store():
    """Decoder against encoder at toy scale: two axes of loss, tokens per parameter by both counts."""
    found = compare(f"{STORE}::objective == 'causal'", STORE, where_b="objective == 'masked'", bootstrap=200)
    assert found.runs == (16, 16)
    assert found.pairing.startswith("independent")
    assert found.multiplier_status == "not_resolved"
    assert "objective" in found.multiplier_reason
    for p in found.tokens_per_param:
        assert p.predicted.a.value == pytest.approx(p.seen.a.value)
        assert p.predicted.b.value == pytest.approx(0.1484 * p.seen.b.value, rel=0.01)
    text = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert set(text) == {
        "a", "b", "approach", "count", "cost", "metric", "pairing", "exponents", "tokens_per_param", "multiplier",
        "status", "reason", "warnings",
    }  # fmt: skip
    assert set(text["exponents"]["N"]) == {"a", "b", "difference", "verdict", "margin"}
    assert set(text["tokens_per_param"][0]) == {"flops", "seen", "predicted"}
    assert "exponent of N*" in repr(found)


def test_stores_that_share_runs_are_paired_and_depths_cost_compute():
    other = RESULTS / "uneven-depth" / "store"
    found = compare(f"{STORE}::objective=='causal'", f"{other}::objective=='causal'", bootstrap=200)
    assert found.pairing == "paired: the two share 9 runs"
    assert found.multiplier_status == "converged"
    assert all(0.9 < m.multiplier.value < 1.4 for m in found.multipliers)


def probe_store(path, values):
    """A store of runs whose loss falls from one to the next, each with an evaluation `probe` of these values."""
    blank = {c.name: "{}" if c.unit == "JSON" else "" if c.type == pa.string() else 1 for c in ROW_COLUMNS}
    blank |= {c.name: 1.0 for c in ROW_COLUMNS if c.type == pa.float64()}
    del blank["curve_sha256"], blank["evals_sha256"]
    store = Store.create(path)
    for i, value in enumerate(values):
        evals = [
            {"metric": "probe", "x": float(k), "value": v, "se": None, "n": n, "eval_version": 1}
            for k, (v, n) in enumerate(((value, 3), (value - 0.04, 1)))
        ]
        row = {"run_id": f"{i:016x}", "lineage": f"{i:016x}", "status": "finished", "loss": 3.0 - 0.1 * i}
        store.publish({**blank, **row, "objective": "causal", "data_digest": "d"}, [], evals)
    return read_table(path)


def test_a_share_that_rises_becomes_an_error_and_other_scores_are_refused(tmp_path):
    rising = probe_store(tmp_path / "rising", [0.5, 0.6, 0.7, 0.8])
    np.testing.assert_allclose(scored(rising, "probe").loss, [0.51, 0.41, 0.31, 0.21])  # weighted by n, 3 to 1
    falling = probe_store(tmp_path / "falling", [1.5, 1.4, 1.3, 1.2])
    np.testing.assert_allclose(scored(falling, "probe").loss, [1.49, 1.39, 1.29, 1.19])
    with pytest.raises(InputError, match="no share below 1"):
        scored(probe_store(tmp_path / "odd", [1.1, 1.2, 1.3, 1.4]), "probe")


def isoflop_store(path, surface, score_of, over=0.2):
    """A store of an isoFLOP sweep whose runs have a probe of accuracy `score_of(loss)`, `over` above its baselines."""
    blank = {c.name: "{}" if c.unit == "JSON" else "" if c.type == pa.string() else 1 for c in ROW_COLUMNS}
    blank |= {c.name: 1.0 for c in ROW_COLUMNS if c.type == pa.float64()}
    del blank["curve_sha256"], blank["evals_sha256"]
    store = Store.create(path)
    for i, run in enumerate(isoflop(surface, BUDGETS[:3], sigma=1e-4).itertuples()):
        run_id = f"{i:016x}"
        row = {"run_id": run_id, "lineage": run_id, "status": "finished", "loss": run.loss, "budget": run.flops}
        row |= {"params_total": int(run.params), "tokens": int(run.tokens), "flops_exact": run.flops}
        store.publish({**blank, **row, "objective": "masked", "data_digest": "d"}, [], [])
        score = score_of(run.loss)
        points = [("probe:t", score), ("probe:t:over_ngrams", over), ("probe:t:over_random", over)]
        common = {"x": None, "se": 0.01, "n": 100, "eval_version": 1}
        store.publish_measurement(
            run_id, '{"type":"linear_probe"}', 1, [{"metric": m, "value": v, **common} for m, v in points]
        )
    return str(path)


def test_compute_to_reach_a_score_is_that_of_the_loss_behind_it(tmp_path):
    """Accuracy is one less a multiple of the loss, the same on both sides, so both ask for the same compute."""
    a, b = (isoflop_store(tmp_path / n, s, lambda loss: 1.0 - loss / 10) for n, s in (("a", A), ("b", B)))
    found = compare(a, b, count="total", bootstrap=100, metric="probe:t")
    loss = compare(a, b, count="total", bootstrap=100, same_axis=True)
    assert found.multiplier_status == "converged"
    for m, same in zip(found.multipliers, loss.multipliers, strict=True):
        assert m.score == pytest.approx(1.0 - m.loss)
        assert m.loss == pytest.approx(same.loss / 10, rel=1e-3)
        assert m.multiplier.value == pytest.approx(same.multiplier.value, rel=0.02)
        assert m.multiplier.ci[0] < m.multiplier.value < m.multiplier.ci[1]
        assert same.score == same.loss
    assert not any("below_baseline" in w for w in found.warnings)
    weak = isoflop_store(tmp_path / "weak", B, lambda loss: 1.0 - loss / 10, over=0.02)
    warned = compare(a, weak, count="total", bootstrap=20, metric="probe:t").warnings
    assert any(w.startswith("below_baseline: probe:t of 0 of 21 runs of a and 21 of 21 runs of b") for w in warned)


def test_a_metric_of_several_settings_is_named_by_a_part_of_them(tmp_path):
    path = isoflop_store(tmp_path / "s", A, lambda loss: 1.0 - loss / 10)
    store = Store.open(tmp_path / "s", write=True)
    for run_id in store.rows().run_id:
        again = [{"metric": "probe:t", "x": None, "value": 0.5, "se": 0.01, "n": 9, "eval_version": 1}]
        store.publish_measurement(run_id, '{"limit":9,"type":"linear_probe"}', 1, again)
    runs = read_table(path)
    with pytest.raises(InputError, match="measured with 2 settings"):
        scored(runs, "probe:t")
    np.testing.assert_allclose(scored(runs, "probe:t", True, '"limit":9').loss, 0.5)
    with pytest.raises(InputError, match="no such settings"):
        scored(runs, "probe:t", settings="limit:7")


def test_both_sides_read_a_metric_in_one_direction(tmp_path):
    rising = probe_store(tmp_path / "rising", [0.5, 0.6, 0.7, 0.8, 0.82, 0.85])
    flat = probe_store(tmp_path / "flat", [0.61, 0.6, 0.605])
    assert axes.rising([rising], "probe")
    assert not axes.rising([flat], "probe")
    assert axes.rising([rising, flat], "probe")


def test_a_metric_is_read_from_evaluations():
    decoder = f"{STORE}::objective == 'causal'"
    found = compare(decoder, decoder, metric="heldout_nats_by_document", bootstrap=50)
    assert found.metric == "heldout_nats_by_document"
    assert found.multiplier_status == "converged"
    with pytest.raises(InputError, match="no evaluation 'probe'; there are heldout_nats_by_document"):
        compare(decoder, decoder, metric="probe")
    with pytest.raises(InputError, match="this is no store"):
        compare(read_table(table(A)), read_table(table(B)), metric="probe")
