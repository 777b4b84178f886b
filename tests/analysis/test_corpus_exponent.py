"""gamma, beta and gamma/(2 beta) from statistics of known exponents; when the answer is that there is none."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.corpus_exponent import foretell, register_exponent
from analysis.corpus_statistics import PROTOCOL
from analysis.corpus_windows import fit_floor, fit_line
from analysis.figures.corpus_exponent import plot_corpus_exponent
from analysis.types import Status
from scaling.errors import InputError
from tests.analysis.known_sources import memoriser, quanta_of_data, quanta_of_size

DRAWS = 100
LAGS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]


def statistics(
    gamma: float = 0.4,
    beta: float = 0.8,
    floor: float = 0.0,
    half: float = 0.0,
    noise: float = 1e-6,
    jitter: float = 0.002,
    **more: Any,
) -> dict[str, Any]:
    """Statistics whose entropies and correlations are exact powers; `more` replaces parts."""
    n, lag = np.arange(8.0), np.array(LAGS, dtype=float)
    h = floor + 2.0 * np.maximum(n, 0.5) ** -gamma
    c = 0.03 * lag**-beta
    rng = np.random.default_rng(0)
    return {
        "format": 1,
        "corpus": {"type": "made-up"},
        "tokenizer": {"type": "byte"},
        "digest": "0123456789abcdef",
        "tokens": 1_000_000,
        "entropies": [
            {"context": int(k), "plugin": v - half, "corrected": v, "upper": v + half}
            for k, v in zip(n, h, strict=True)
        ],
        "correlations": [
            {"lag": int(k), "operator": v, "noise": noise, "se": jitter * v} for k, v in zip(lag, c, strict=True)
        ],
        "composition": 1e-5,
        "draws": {
            "entropies": (h * np.exp(jitter * rng.standard_normal((DRAWS, len(h))))).tolist(),
            "correlations": (c * np.exp(jitter * rng.standard_normal((DRAWS, len(c))))).tolist(),
        },
    } | more


@pytest.mark.parametrize(("gamma", "beta"), [(0.325, 0.88), (0.265, 0.94)])
def test_the_published_exponents_give_the_published_predictions(gamma: float, beta: float) -> None:
    # Cagnetta et al. 2026 eqs. 11 to 16: TinyStories 0.185, WikiText 0.141.
    found = foretell(statistics(gamma, beta))
    assert found.status is Status.CONVERGED
    assert found.reason == ""
    assert found.gamma.value == pytest.approx(gamma, rel=1e-3)
    assert found.beta.value == pytest.approx(beta, rel=1e-3)
    assert found.alpha.value == pytest.approx({0.325: 0.185, 0.265: 0.141}[gamma], abs=5e-4)
    lo, hi = found.alpha.ci
    assert lo < gamma / (2 * beta) < hi
    assert hi - lo < 0.02
    assert found.spread < 0.05


def test_a_floor_is_seen_by_the_fit_that_has_one() -> None:
    found = foretell(statistics(0.7, 0.5, floor=0.8))
    assert found.foretold["free"].alpha.value == pytest.approx(0.7, rel=0.02)
    assert found.foretold["free"].compare_with == "power_floor"
    assert found.foretold["zero"].gamma.value < 0.6
    assert found.status is Status.NOT_RESOLVED
    assert "gamma" in found.reason


def test_exponential_decay_is_no_power_law() -> None:
    made = statistics()
    for row, drawn in zip(made["correlations"], np.array(made["draws"]["correlations"]).T, strict=True):
        factor = math.exp(-row["lag"] / 60) * row["lag"] ** 0.8
        row["operator"] *= factor
        drawn *= factor
    made["draws"]["correlations"] = np.array(made["draws"]["correlations"]).tolist()
    found = foretell(made)
    assert found.status is Status.NOT_RESOLVED
    assert "beta itself" in found.reason


def test_entropies_of_loose_bounds_do_not_count() -> None:
    made = statistics(half=0.0)
    for row in made["entropies"][4:]:
        row["plugin"] -= 0.2
        row["upper"] += 0.2
    found = foretell(made)
    assert found.entropies.x.tolist() == [1, 2, 3]
    assert "n = 4" in found.entropies.reason
    assert found.status is Status.NOT_RESOLVED
    assert "one window of contexts" in found.reason


def test_lags_end_where_the_noise_begins() -> None:
    found = foretell(statistics(noise=0.03 * 100**-0.8 / 3))
    assert found.correlations.x.tolist() == [lag for lag in LAGS if lag <= 96]
    assert "lag 128" in found.correlations.reason


def test_bounds_widen_the_interval() -> None:
    tight, loose = foretell(statistics(half=0.0)), foretell(statistics(half=0.02))
    width = [f.gamma.ci[1] - f.gamma.ci[0] for f in (tight, loose)]
    assert width[1] > 1.5 * width[0]


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = 0
    for seed in range(40):
        made = statistics(jitter=0.02)
        rng = np.random.default_rng([1, seed])
        shift = {part: np.exp(0.02 * rng.standard_normal(len(made[part]))) for part in ("entropies", "correlations")}
        for row, s in zip(made["entropies"], shift["entropies"], strict=True):
            row.update({k: row[k] * s for k in ("plugin", "corrected", "upper")})
        for row, s in zip(made["correlations"], shift["correlations"], strict=True):
            row["operator"] *= s
        for part in shift:
            made["draws"][part] = (np.array(made["draws"][part]) * shift[part]).tolist()
        lo, hi = foretell(made).alpha.ci
        held += lo <= 0.25 <= hi
    assert 31 <= held <= 40  # 90 % of 40 is 36, standard deviation 1.9


def test_fit_floor_recovers_an_exact_law() -> None:
    x = np.array([1.0, 2, 3, 4, 6, 8])
    y = np.vstack([0.7 + 1.5 * x**-0.9, 2.0 * x**-0.3])
    exponent, amplitude, floor = fit_floor(x, y, np.ones(6))
    assert exponent == pytest.approx([0.9, 0.3], abs=2e-3)
    assert floor == pytest.approx([0.7, 0.0], abs=0.02)
    assert amplitude[0] == pytest.approx(1.5, abs=0.02)
    assert fit_line(x, y[1:], np.ones(6))[0] == pytest.approx([0.3], abs=1e-12)


def test_a_prediction_is_registered_with_all_that_it_will_be_held_to(tmp_path: Path) -> None:
    made = register_exponent(foretell(statistics()), "2026-02-07")
    again = json.loads(json.dumps(made))
    assert again == made
    assert (made["registered"], made["digest"], made["status"]) == ("2026-02-07", "0123456789abcdef", "converged")
    assert made["protocol"]["spread"] == PROTOCOL.spread == 0.2
    assert {f["compare_with"] for f in made["foretold"].values()} == {"power", "power_floor"}
    assert len(made["windows"]) > 20
    with pytest.raises(InputError, match="not of the form"):
        register_exponent(foretell(statistics()), "today")


def test_bad_files_are_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    with pytest.raises(InputError, match=r"x\.json: cannot be read"):
        foretell(file)
    file.write_text("{")
    with pytest.raises(InputError, match="is no JSON"):
        foretell(file)
    file.write_text("{}")
    with pytest.raises(InputError, match="lacks 'corpus'"):
        foretell(file)
    with pytest.raises(InputError, match="format 2"):
        foretell(statistics(format=2))
    made = statistics()
    made["correlations"][3]["operator"] = None
    with pytest.raises(InputError, match=r"correlations\[3\]\.operator is None"):
        foretell(made)


def test_the_figure_draws_every_window_and_all_points() -> None:
    found = foretell(statistics(half=0.02))
    drawn = plot_corpus_exponent(found)
    lines = drawn.table[drawn.table["element"] == "line"].groupby(["panel", "floor", "first", "last"]).ngroups
    assert lines == sum(math.isfinite(w.exponent) for w in found.windows)
    marks = drawn.table[drawn.table["element"].isin(["used", "left out"])]
    assert len(marks) == 7 + len(LAGS)


def test_learning_curves_of_known_sources_have_the_exponents_of_theory() -> None:
    n = np.geomspace(1e2, 1e5, 7)
    assert memoriser(0.5, n).local_exponent() == pytest.approx(1 / 3, abs=0.003)
    assert memoriser(1.0, n).local_exponent() == pytest.approx(1 / 2, abs=0.003)
    size = quanta_of_size(0.5, np.array([1e6, 1e8]))
    assert -np.log((size.loss[1] - 0.5) / (size.loss[0] - 0.5)) / np.log(100) == pytest.approx(0.5, abs=1e-3)
    data = quanta_of_data(0.5, np.array([1e5, 1e7]))
    assert -np.log((data.loss[1] - 0.5) / (data.loss[0] - 0.5)) / np.log(100) == pytest.approx(1 / 3, abs=0.01)
