"""Scores on tasks count only where they beat every baseline by three standard errors."""

from __future__ import annotations

import pandas as pd

from analysis.probes import ABOVE, BELOW, judge


def evals(run: str, over_random: float, over_ngrams: float, se: float = 0.01) -> list[dict[str, object]]:
    rows = [("probe:t", 0.8), ("probe:t:random", 0.8 - over_random), ("probe:t:over_random", over_random)]
    rows += [("probe:t:ngrams", 0.8 - over_ngrams), ("probe:t:over_ngrams", over_ngrams), ("position_loss", 2.0)]
    more = {"run_id": run, "settings": '{"type":"linear_probe"}', "eval_version": 1, "se": se, "n": 50}
    return [{"metric": m, "value": v, **more} for m, v in rows]


def test_a_score_must_beat_both_baselines_by_three_errors() -> None:
    cases = {"a": (0.2, 0.1), "b": (0.2, 0.029), "c": (-0.1, 0.2), "d": (0.0, 0.0)}
    frame = pd.DataFrame([row for run, (r, n) in cases.items() for row in evals(run, r, n)])
    found = {s.run_id: s for s in judge(frame)}
    assert {run: s.status for run, s in found.items()} == {"a": ABOVE, "b": BELOW, "c": BELOW, "d": BELOW}
    assert found["a"].reason == ""
    assert "over ngrams" in found["b"].reason
    assert "random" not in found["b"].reason
    assert found["d"].reason.count("not 3 standard errors above") == 2
    assert (found["a"].metric, found["a"].value, found["a"].n) == ("probe:t", 0.8, 50)
    assert found["a"].to_json()["status"] == "above_baseline"


def test_what_has_no_baseline_is_not_judged() -> None:
    frame = pd.DataFrame([row for row in evals("a", 0.2, 0.2) if "over" not in str(row["metric"])])
    assert judge(frame) == []
