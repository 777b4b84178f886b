"""Plans: rows against the accounting, what is done, jobs longest first, warnings, and the examples that ship."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import scaling.trial
import sweeps
from scaling.job import Execution
from scaling.store.schema import ROW_COLUMNS
from scaling.trial import MIN_STEPS
from sweeps.calibration import Calibration
from sweeps.definition import Sweep, load_sweep
from sweeps.expand import expand
from sweeps.plan import jobs, memory_bytes, plan, to_planned

EXAMPLES = sorted(Path(sweeps.__file__).parent.glob("hoffmann-*.yaml"))
DIGEST = "d" * 16


def make(**changes: object) -> Sweep:
    base: dict[str, object] = {
        "name": "p",
        "architecture": "decoder",
        "objective": "causal",
        "corpus": "python-v1",
        "design": {
            "type": "isoflop",
            "budgets": [1e12, 2e12, 4e12],
            "sizes": {"centre": {"coefficient": 0.0714}, "number": 5},
        },
    }
    return Sweep.model_validate({**base, **changes})


class Ledger:
    def __init__(self, done: dict[str, str], failed: dict[str, str]) -> None:
        self._done, self._failed = done, failed

    def done(self) -> dict[str, str]:
        return self._done

    def failed(self) -> dict[str, str]:
        return self._failed

    def execution(self, run_id: str) -> Execution | None:
        return None


def test_rows_state_size_and_cost() -> None:
    found = plan(make(), digest=DIGEST)
    assert len(found.rows) == 15
    for row in found.rows:
        assert row.n_layer is not None
        assert row.d_model is not None
        assert row.params["non_embedding"] == 12 * row.n_layer * row.d_model**2
        assert row.params["non_embedding_head"] == row.params["non_embedding"] + 256 * row.d_model
        assert row.tokens == row.steps * row.batch_tokens
        per_token = 6 * row.params["non_embedding_head"] + 12 * row.n_layer * row.d_model * 128
        assert row.flops == per_token * row.tokens
        assert row.budget == pytest.approx(row.flops, rel=0.01)
        assert row.status == "to_run"
    assert found.heldout == "full"
    assert found.warnings == ()


def test_the_store_decides_what_is_left() -> None:
    sweep = make()
    ids = [item.trial.run_id(DIGEST) for item in expand(sweep)]
    store = Ledger({ids[0]: "finished", ids[1]: "diverged"}, {ids[2]: "out of memory"})
    found = plan(sweep, store, digest=DIGEST)
    assert found.counts == {"diverged": 1, "failed": 1, "finished": 1, "to_run": 12}
    assert [row.run_id for row in found.left] == ids[2:]
    assert found.warnings == ("1 trials failed before and will be tried again",)
    assert {row.status for row in plan(sweep, store).rows} == {"unknown"}


def test_jobs_are_what_is_left_longest_first() -> None:
    sweep = make()
    planned = to_planned(expand(sweep), DIGEST, 256, sweep.name, lambda trial, vocabulary: Execution(threads=2))
    assert {(p.sweep, p.execution.threads, p.vocab_size, p.data_digest) for p in planned} == {("p", 2, 256, DIGEST)}
    assert planned[0].budget == 1e12
    left = jobs(planned, {planned[0].run_id})
    assert len(left) == 14
    costs = [job.flops for job in left]
    assert costs == sorted(costs, reverse=True)
    assert planned[0].run_id not in {job.planned[0].run_id for job in left}


def test_time_is_flops_over_the_rate_and_workers_share_it() -> None:
    per_gflop = (0.0, 0.0, 0.1, 0.0, 0.0, 0.0)
    found = plan(make(), calibration=Calibration(per_gflop, per_gflop, measured=True), compile_trials=False)
    training = sum(row.seconds_training for row in found.rows)
    assert training == pytest.approx(5 * 7e12 / 1e10, rel=1e-3)
    # 5 of 400 s, 5 of 200 s, 5 of 100 s on two workers, longest first, and what evaluation and starts add
    beside = sum(row.seconds - row.seconds_training for row in found.rows)
    assert found.wall_seconds(1) == pytest.approx(training + beside)
    assert 1800 * 0.999 < found.wall_seconds(2) < 1800 + beside
    assert found.wall_seconds(100) == pytest.approx(max(row.seconds for row in found.rows))
    assert found.measured


def test_a_shape_is_compiled_once_and_only_where_it_pays() -> None:
    cheap = plan(make(design={"type": "isoflop", "budgets": [2e11], "sizes": {"widths": [32, 48, 64]}}))
    assert not any(row.compiled for row in cheap.rows)
    forced = plan(make(seeds=[0, 1]), compile_trials=True).rows
    by_shape: dict[object, list[float]] = {}
    for row in forced:
        by_shape.setdefault((row.n_layer, row.d_model, row.batch_tokens), []).append(row.seconds_compilation)
    for seconds in by_shape.values():
        assert seconds[0] > seconds[1] == pytest.approx(2.0)


def test_a_semantics_bump_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = make()
    old = {item.trial.run_id(DIGEST): "finished" for item in expand(sweep)}
    assert plan(sweep, Ledger(old, {}), digest=DIGEST).notices == ()
    monkeypatch.setattr(scaling.trial, "SEMANTICS_VERSION", 2)
    monkeypatch.setattr("sweeps.plan_checks.SEMANTICS_VERSION", 2)
    found = plan(sweep, Ledger(old, {}), digest=DIGEST)
    (notice,) = found.notices
    assert notice.startswith("15 of these trials were run under semantics 1; this version's is 2")
    assert found.counts == {"to_run": 15}


def test_disk_holds_rows_and_the_checkpoints_at_work() -> None:
    found = plan(make(), digest=DIGEST)
    largest = sorted(row.params["total"] for row in found.rows)[-2:]
    assert found.peak_disk_bytes(2) - found.disk_bytes == 24 * sum(largest)
    ids = {item.trial.run_id(DIGEST): "finished" for item in expand(make())}
    assert plan(make(), Ledger(ids, {}), digest=DIGEST).peak_disk_bytes(2) == 0


def test_batches_and_rates_off_the_recipe_are_warned_of() -> None:
    def warnings(**changes: object) -> str:
        return "\n".join(plan(make(**changes)).warnings)

    assert "batch" not in warnings()
    assert "8 trials have batches above the critical size" in warnings(batch_tokens=1024)
    assert "learning rate more than 2 times off recipe small-v1" in warnings(optimizer={"type": "adamw", "lr": 1e-4})
    tuned = {**make().design.model_dump(), "learning_rate_factors": [0.1, 0.3, 1, 3]}
    assert "learning rate" not in warnings(design=tuned)
    assert "learning rate" in warnings(design={**tuned, "learning_rate_factors": [0.1, 0.3]})


def test_memory_holds_parameters_moments_and_activations() -> None:
    small, large = (expand(make())[i].trial for i in (0, -1))
    assert memory_bytes(large, 256) > memory_bytes(small, 256) > 18 * small.architecture.params(256).total
    assert memory_bytes(small.model_copy(update={"precision": "fp32"}), 256) > memory_bytes(small, 256)


def test_warnings() -> None:
    def warnings(tokens: int | None = None, **changes: object) -> str:
        return "\n".join(plan(make(**changes), tokens_available=tokens).warnings)

    def isoflop(**sizes: object) -> dict[str, object]:
        return {"type": "isoflop", "budgets": [1e12, 2e12], "sizes": sizes}

    assert "2 distinct sizes: a law in N needs at least 3" in warnings(design=isoflop(widths=[32, 64]))
    assert "a parabola needs at least 3" in warnings(design=isoflop(widths=[32, 64]))
    assert "2 budgets: an exponent with an interval needs at least 3" in warnings(design=isoflop(widths=[32, 64]))
    assert "1 sizes below and" in warnings(design=isoflop(centre={"coefficient": 0.0714}, number=3))
    assert "6 sizes asked for gave only 5" in warnings(design=isoflop(params=[25e3, 25.1e3, 50e3, 1e5, 2e5, 4e5]))
    assert "which is refused unless repeat: true" in warnings(tokens=3_000_000)
    assert "which repeat: true allows" in warnings(tokens=3_000_000, repeat=True)
    limited = {"type": "python-v1", "unique_tokens": 3_000_000}
    assert "more than once (up to 3.2 epochs)" in warnings(corpus=limited)


def test_json_is_plain_and_complete() -> None:
    found = plan(make(), digest=DIGEST).to_json(workers=2)
    text = json.loads(json.dumps(found, allow_nan=False))
    assert set(text) == {
        *("sweep", "description", "design", "heldout", "data_digest", "vocab_size", "semantics_version", "counts"),
        *("flops", "flops_left", "workers", "seconds_left", "rates_measured", "disk_bytes", "peak_disk_bytes"),
        *("matmul_flops_per_s", "warnings", "notices", "trials"),
    }
    assert text["counts"] == {"to_run": 15}
    assert text["trials"][0]["params"].keys() == {"total", "non_embedding", "non_embedding_head"}
    shared = {
        "run_id",
        "status",
        "n_layer",
        "d_model",
        "n_head",
        "budget",
        "tokens",
        "steps",
        "batch_tokens",
        "lr",
        "seed",
    }
    assert shared <= {c.name for c in ROW_COLUMNS} & set(text["trials"][0])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_expand(path: Path) -> None:
    found = plan(load_sweep(path))
    assert found.sweep == path.stem
    assert found.warnings == ()
    for row in found.rows:
        assert row.steps >= MIN_STEPS
        assert row.budget == pytest.approx(row.flops, rel=0.01)


def test_the_examples_are_the_studies() -> None:
    assert [path.stem for path in EXAMPLES] == [
        f"hoffmann-{which}-{scale}" for which in ("decoder", "encoder") for scale in ("full", "smoke", "toy")
    ]
    toy = {path.stem: load_sweep(path).design.model_dump() for path in EXAMPLES if path.stem.endswith("toy")}
    assert toy["hoffmann-decoder-toy"]["budgets"] == (1e12, 2e12, 4e12)
    assert toy["hoffmann-encoder-toy"]["budgets"] == (2e12, 4e12, 8e12)
    assert toy["hoffmann-decoder-toy"]["sizes"]["centre"]["coefficient"] == pytest.approx(1 / 14, rel=1e-3)
    assert toy["hoffmann-encoder-toy"]["sizes"]["centre"]["coefficient"] == pytest.approx(1 / 28, rel=1e-3)
