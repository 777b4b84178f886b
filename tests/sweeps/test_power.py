"""Power: the simulated interval is the one that the committed study got, and narrows with the noise."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from analysis import frontier, read_table
from scaling.errors import InputError, TableError
from sweeps.definition import Sweep, load_sweep
from sweeps.plan import plan
from sweeps.power import EFFECTS, Surface, _smallest, power, published

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / "results/hoffmann-toy/store"
TOY = plan(load_sweep(ROOT / "results/hoffmann-toy/sweep-decoder.yaml"))


def test_the_simulated_interval_is_what_the_study_got() -> None:
    """Widths within a factor 1.5 of those of the actual fit, by isoFLOP and by the parametric surface."""
    found = power(TOY, surface=STORE, approaches=("isoflop", "parametric"), simulations=12)
    rows = read_table(STORE, where="sweep == 'hoffmann-decoder-toy'")
    actual = frontier(rows, ["isoflop", "parametric"], counts="non_embedding")
    assert found.surface.source.startswith(f"fitted to 15 runs of {STORE}")
    assert found.noise_from == f"residuals about the fits to {STORE}"
    for name in ("isoflop", "parametric"):
        (simulated,) = [r for r in found.exponents if r.approach == name]
        lo, hi = actual[name].N_exponent.ci
        ratio = 2 * simulated.half_width / (hi - lo)
        assert 1 / 1.5 < ratio < 1.5, (name, ratio)
    verdicts = {e.effect: e.resolved for e in found.effects}
    assert set(verdicts) == set(EFFECTS)
    assert not any(e.resolved for e in found.effects if e.size == 0.05)
    assert any("CANNOT be resolved" in line for line in found.lines)
    json.dumps(found.to_json())


def test_less_noise_resolves_more() -> None:
    surface = Surface(1.0, 20.0, 0.35, 600.0, 0.5, "made up")
    loud = power(TOY, surface=surface, noise=0.01, approaches=("vpnls",), simulations=6)
    quiet = power(TOY, surface=surface, noise=0.0005, approaches=("vpnls",), simulations=6)
    assert quiet.exponents[0].half_width == pytest.approx(loud.exponents[0].half_width / 20, rel=0.6)
    assert all(e.resolved for e in quiet.effects)
    assert not any(e.resolved for e in loud.effects if e.size == 0.05)


def test_the_published_surface_has_its_optimum_in_the_middle() -> None:
    """At N and D moved to the geometric means both terms of the loss balance as at the paper's optimum."""
    surface = published(TOY, "non_embedding")
    n = math.exp(sum(math.log(r.params["non_embedding"]) for r in TOY.rows) / 15)
    d = math.exp(sum(math.log(r.tokens) for r in TOY.rows) / 15)
    assert surface.alpha * surface.A * n**-surface.alpha == pytest.approx(surface.beta * surface.B * d**-surface.beta)
    assert (surface.E, surface.alpha, surface.beta) == pytest.approx((1.8172, 0.3478, 0.3658), abs=1e-3)
    assert "Besiroglu" in surface.source


def test_a_ladder_has_no_isoflop_and_says_so() -> None:
    sweep = Sweep.model_validate(
        {
            "name": "p",
            "architecture": "decoder",
            "objective": "causal",
            "corpus": "python-v1",
            "design": {"type": "ladder", "sizes": {"widths": [32, 48, 64]}, "tokens_per_parameter": [30, 90, 200]},
        }
    )
    found = power(plan(sweep), simulations=2, approaches=("isoflop", "vpnls"))
    assert "share a budget" in found.exponents[0].reason
    assert found.exponents[1].reason == ""
    assert any(line.startswith("isoflop: no exponent: ") for line in found.lines)


def test_the_least_difference_has_a_power_of_eighty_percent() -> None:
    """Normal theory: an effect of 2.4865 standard errors passes a two-sided test at 10 % eight times in ten."""
    assert _smallest(1.6448536, 0.9) == pytest.approx(2.4864749, rel=1e-6)


def test_what_cannot_be_simulated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no count 'all'"):
        power(TOY, count="all")
    with pytest.raises(InputError, match="--noise 0"):
        power(TOY, noise=0.0)
    with pytest.raises(InputError, match="1 simulated sweeps tell nothing"):
        power(TOY, simulations=1)
    few = tmp_path / "few.csv"
    few.write_text("params,tokens,loss\n1e4,1e6,2\n2e4,1e6,1.9\n")
    with pytest.raises(InputError, match=r"few.csv: no surface to simulate on: the fit is too_few_points"):
        power(TOY, surface=few)
    with pytest.raises(TableError, match="no such file or store"):
        power(TOY, surface=tmp_path / "none.csv")
