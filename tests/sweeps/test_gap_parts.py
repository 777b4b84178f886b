"""The parts of the study of the gap on simulated runs whose chain is known: what each says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import fit
from analysis.types import FitResult
from sweeps.studies.gap_parts.arms import CHAIN
from sweeps.studies.gap_parts.chain import PART as CHAIN_PART
from sweeps.studies.gap_parts.counting import PART as COUNTING
from sweeps.studies.gap_parts.interactions import PART as INTERACTIONS
from sweeps.studies.part import Measured, Number, Scope

VOCABULARY = 4096
WIDTHS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
BUDGETS = (1.25e12, 2.5e12, 5e12, 1e13)
LOST = {"kaplan": 4e5, "warmup": 2e5, "decay": 1.5e5, "batch": 5e4, "fixed": 1e5, "tuned": 0.0}
"""Tokens that every run of a protocol loses: it costs large models most at small budgets, and steepens the exponent."""


def per_token(d: float) -> float:
    return 3.0 * (2.0 * (36 * d**2 + VOCABULARY * d) + 1536.0 * d)


def loss_of(d: float, tokens: Any, lost: float) -> Any:
    return 1.5 + 60.0 * (36.0 * d**2 + VOCABULARY * d) ** -0.35 + 400.0 * np.maximum(tokens - lost, 1.0) ** -0.42


def row(name: str, d: int, tokens: float, loss: float, lr: float, **more: Any) -> dict[str, Any]:
    n = 36 * d**2
    counts = {"total": n + 2 * VOCABULARY * d, "non_embedding": n, "non_embedding_head": n + VOCABULARY * d}
    found = {
        "run_id": f"{name}-{d}-{tokens:.0f}-{lr}", "sweep": name, "status": "finished", "reason": "", "seed": 0,
        "architecture": "decoder", "objective": "causal", "tokenizer": "bpe", "schedule": "cosine", "lr": lr,
        "batch_tokens": 2048, "tokens": tokens, "tokens_unique": 1e8, "steps": tokens / 2048, "loss": loss,
        "loss_se": 0.02, "flops_exact": per_token(d) * tokens, "warmup_fraction": 0.05, "lineage": f"{name}-{d}-{lr}",
    }  # fmt: skip
    found |= {f"params_{c}": v for c, v in counts.items()} | {
        f"flops_6nd_{c}": 6.0 * v * tokens for c, v in counts.items()
    }
    return found | more


class Simulated(Scope):
    """A scope whose rows and curves are simulated."""

    def rows(self, *sweeps: str, extra: str = "", **_: Any) -> pd.DataFrame:
        """The rows of some sweeps."""
        return pd.concat([self.handed_on["rows"][s] for s in sweeps], ignore_index=True)

    def curves(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The curves of some rows."""
        curves = self.handed_on["curves"]
        return curves[curves.run_id.isin(rows.run_id)]

    def fit(self, law: str, where: str, **options: Any) -> FitResult:
        """The law fitted to the tuned rows."""
        from sweeps.studies.gap_parts.arms import tuned

        return fit(tuned(self, "tuned").rows, law, bootstrap=self.bootstrap, level=self.level, **options)


@pytest.fixture(scope="module")
def scope(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    rng = np.random.default_rng(2)
    rows: dict[str, pd.DataFrame] = {}
    curves = []
    for name in ("kaplan", "warmup"):
        made = []
        for d in WIDTHS:
            shake = np.exp(0.001 * rng.standard_normal())
            at = np.geomspace(6e5, 3e7, 40)
            seen = loss_of(d, at, LOST[name]) * shake
            made.append(row(name, d, float(at[-1]), float(seen[-1]), 0.002))
            part = {"run_id": made[-1]["run_id"], "step": (at / 2048).round(), "tokens": at, "loss": seen}
            curves.append(pd.DataFrame({**part, "flops": per_token(d) * at}))
        rows[name] = pd.DataFrame(made)
    rates = {"decay": (("decay", 0.002),), "batch": (("batch", 0.002),)}
    rates |= {"rates": (("tuned", 0.01), ("batch", 0.02)), "fixed-rates": (("fixed", 0.01), ("decay", 0.02))}
    for name, kinds in rates.items():
        made = []
        for c in BUDGETS:
            best = int(np.argmin([loss_of(d, c / per_token(d), 0.0) for d in WIDTHS]))
            for d in WIDTHS[max(best - 3, 0) : best + 4]:
                for protocol, lr in kinds:
                    tokens = c / per_token(d)
                    loss = float(loss_of(d, tokens, LOST[protocol]) * np.exp(0.001 * rng.standard_normal()))
                    made.append(row(name, d, tokens, loss, lr, budget=c))
        rows[name] = pd.DataFrame(made)
    measured = {n: Measured(f"sweep == '{n}'", len(r)) for n, r in rows.items()}
    found = Simulated("toy", Path("none"), tmp_path_factory.mktemp("figures"), measured, bootstrap=60)
    found.handed_on |= {"rows": rows, "curves": pd.concat(curves, ignore_index=True)}
    return found


def by_name(numbers: tuple[Number, ...]) -> dict[str, Number]:
    return {n.name: n for n in numbers}


def test_the_chain_falls_and_says_so(scope: Simulated) -> None:
    found = CHAIN_PART.measure(scope)
    numbers = by_name(found.numbers)
    exponents = [numbers[f"a_{name}_isoflop"].value.value for name in CHAIN]
    assert all(np.isfinite(exponents))
    whole = numbers["whole_isoflop"]
    assert whole.status == "converged"
    assert whole.value.value == pytest.approx(exponents[-1] - exponents[0], abs=1e-9)
    assert whole.value.ci[1] < 0
    assert numbers["group_tuned_porian"].published == pytest.approx(0.497 - 0.571)
    # Kaplan's runs lose 4e5 tokens where those of the next arm lose 2e5.
    assert numbers["step_warmup_isoflop"].value.value < 0
    assert any(s.startswith("The whole difference: a changes by") for s in found.says)
    training = numbers["training_isoflop"]
    assert training.value.value == pytest.approx(exponents[-1] - exponents[2], abs=1e-9)
    assert any("published chain" in s for s in found.says)
    rates = numbers["interior_rates"]
    assert rates.value.value > 0.5 * rates.n  # where a run is long the protocols differ by less than the noise
    assert (rates.status == "converged") == (rates.value.value == rates.n)
    assert [p.reason for p in found.pictures] == [""]
    assert (scope.figures / "gap-chain.png").stat().st_size > 0


def test_counting_alone_steepens_without_embeddings(scope: Simulated) -> None:
    numbers = by_name(COUNTING.measure(scope).numbers)
    assert numbers["surface_change"].value.value > 0.1
    assert numbers["surface_non_embedding"].published == 0.774
    assert numbers["conventions_isoflop"].value.ci[0] > 0
    order = [numbers[f"a_{n}_isoflop"].value.value for n in ("tuned_total", "tuned", "tuned_blocks")]
    assert order == sorted(order)


def test_interactions_are_changes_of_changes(scope: Simulated) -> None:
    numbers = by_name(INTERACTIONS.measure(scope).numbers)
    for approach in ("porian", "isoflop"):
        here, there, both = (
            numbers[f"{n}_{approach}"].value.value
            for n in ("rate_at_fixed_batch", "rate_at_recipe_batch", "batch_by_rate")
        )
        assert both == pytest.approx(there - here, abs=1e-9)
        fixed, tuned = (numbers[f"{n}_{approach}"].value.value for n in ("batch_untuned", "batch_tuned"))
        assert both == pytest.approx(tuned - fixed, abs=1e-9)
