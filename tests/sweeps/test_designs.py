"""Designs beyond the grid and the isoFLOP: what each asks for, what stays when it grows, and its mistakes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scaling.errors import SweepError
from scaling.job import Execution, Planned
from scaling.trial import MIN_STEPS
from sweeps.definition import sweep_of
from sweeps.designs.sample import Range, Sample
from sweeps.expand import Wanted, expand
from sweeps.plan import jobs, plan, to_planned
from sweeps.plan_checks import edges_of
from sweeps.yaml_source import parse_source

DIGEST = "d" * 16
HEAD = """\
name: x
architecture: decoder
objective: causal
corpus: python-v1
"""
TRUNK = """\
schedule: {type: wsd, decay_fraction: 0.2}
design:
  type: trunk
  sizes: {widths: [32, 64]}
  horizons: [1e6, 2e6, 4e6]
"""
SAMPLE = """\
design:
  type: sample
  number: 12
  ranges: {optimizer.lr: {low: 1e-4, high: 1e-2}, batch_tokens: {low: 128, high: 1024, multiple_of: 128}}
  axes: {architecture: [{n_layer: 2, d_model: 32, n_head: 2}], tokens: [1e6]}
"""


def wanted(text: str) -> list[Wanted]:
    return expand(sweep_of(parse_source(HEAD + text, "f.yaml")))


def problems(text: str) -> list[str]:
    with pytest.raises(SweepError) as caught:
        wanted(text)
    return [str(p) for p in caught.value.problems]


def ids(text: str) -> set[str]:
    return {item.trial.run_id(DIGEST) for item in wanted(text)}


def planned(text: str) -> list[Planned]:
    return to_planned(wanted(text), DIGEST, 256, "x", lambda trial, vocabulary: Execution())


def test_horizons_of_a_size_share_a_trunk() -> None:
    items = planned(TRUNK)
    assert len(items) == 6
    by_lineage: dict[str, list[Planned]] = {}
    for item in items:
        by_lineage.setdefault(item.lineage, []).append(item)
    assert sorted(len(g) for g in by_lineage.values()) == [3, 3]
    for group in by_lineage.values():
        trials = sorted((p.trial for p in group), key=lambda t: t.steps)
        assert [t.tokens for t in trials] == pytest.approx([1e6, 2e6, 4e6], rel=1e-3)
        assert len({(t.batch_tokens, t.optimizer.lr, t.schedule.warmup_of(t.steps)) for t in trials}) == 1
        # The rate of every step before the first branch is the same in all three runs, and not one step later.
        branch = trials[0].schedule.branch_step(trials[0].steps)
        assert branch is not None
        rates = np.array([[t.schedule.factor(s, t.steps) for s in range(branch + 1)] for t in trials])
        assert (rates[:, :branch] == rates[0, :branch]).all()
        assert rates[0, branch] < rates[1, branch] == 1.0


def test_a_job_holds_a_trunk_with_its_branches_and_counts_it_once() -> None:
    items = planned(TRUNK)
    together = jobs(items)
    assert [len(job.planned) for job in together] == [3, 3]
    for job in together:
        steps = [p.trial.steps for p in job.planned]
        assert steps == sorted(steps)
        per_step = job.planned[0].flops // steps[0]
        branches = [p.trial.schedule.branch_step(n) for p, n in zip(job.planned, steps, strict=True)]
        expected = [steps[0], steps[1] - branches[0], steps[2] - branches[1]]
        assert [f // per_step for f in job.flops_marginal.values()] == expected
        # The trunk up to its last branch, and three cooldowns.
        cooldowns = sum(n - b for n, b in zip(steps, branches, strict=True))
        assert sum(job.flops_marginal.values()) == (branches[2] + cooldowns) * per_step
    rows = plan(sweep_of(parse_source(HEAD + TRUNK, "f.yaml"))).rows
    assert sum(r.flops_marginal for r in rows) < 0.75 * sum(r.flops for r in rows)


def test_a_run_without_a_trunk_stands_alone() -> None:
    cosine = "design: {type: ladder, sizes: {widths: [32, 64]}, tokens_per_parameter: [50, 100]}\n"
    assert [len(j.planned) for j in jobs(planned(cosine))] == [1] * 4
    # The same share of warmup is another number of steps at another horizon: no common trunk.
    assert [len(j.planned) for j in jobs(planned("schedule: wsd\n" + cosine))] == [1] * 4


def test_a_later_horizon_keeps_the_runs_there_are() -> None:
    assert ids(TRUNK) < ids(TRUNK.replace("4e6]", "4e6, 8e6]"))
    based = TRUNK + "  base: 1e6\n"
    assert ids(based) == ids(TRUNK)
    assert ids(based) < ids(based.replace("[1e6,", "[5e5, 1e6,"))
    assert not ids(TRUNK) & ids(TRUNK.replace("[1e6,", "[2.5e5, 1e6,"))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "type: wsd, decay_fraction: 0.2",
            "type: cosine",
            "f.yaml:5:11 schedule: is cosine, and horizons on one trunk",
        ),
        (
            "decay_fraction: 0.2",
            "warmup_fraction: 0.5, decay_fraction: 0.5",
            "f.yaml:5:11 schedule: warmup 0.5 and cooldown 0.5 leave no trunk",
        ),
        ("horizons: [1e6, 2e6, 4e6]", "horizons: []", "f.yaml:9:13 design.horizons: is empty"),
        ("horizons: [1e6, 2e6, 4e6]", "base: 1e6", "f.yaml:7:3 design: needs exactly one of horizons, tokens_per"),
        ("[1e6, 2e6", "[1e3, 2e6", "f.yaml:9:14 design.horizons[0]: 1,000 tokens at "),
        ("4e6]", "4e6]\n  base: 5e7", "f.yaml:9:14 design.horizons[0]: "),
    ],
)
def test_mistakes_of_a_trunk_have_their_place(old: str, new: str, expected: str) -> None:
    assert old in TRUNK
    assert problems(TRUNK.replace(old, new))[0].startswith(expected)


def test_repetition_is_unique_tokens_times_epochs() -> None:
    items = wanted("design: {type: repetition, sizes: {widths: [32]}, unique_tokens: [5e5, 1e6], epochs: [1, 2, 4]}\n")
    found = {
        (i.trial.corpus.unique_tokens, round(i.trial.tokens / (i.trial.corpus.unique_tokens or 1), 2)) for i in items
    }
    assert found == {(u, e) for u in (500_000, 1_000_000) for e in (1.0, 2.0, 4.0)}
    assert all(i.trial.repeat for i in items)
    sweep = sweep_of(
        parse_source(
            HEAD + "design: {type: repetition, sizes: {widths: [32, 48, 64]}, unique_tokens: [5e5], epochs: [8]}", "f"
        )
    )
    (warning,) = plan(sweep, tokens_available=10**8).warnings
    assert warning.startswith("3 trials see their training text more than once (up to 8.0 epochs), which repeat: true")
    assert "beyond 4 epochs" in warning


def test_a_batch_grid_has_its_batches_and_the_rate_follows() -> None:
    text = "design: {type: batch, sizes: {widths: [32]}, tokens: [2e6], batch_tokens: [128, 512, 2048]}\n"
    items = wanted(text)
    assert [i.trial.batch_tokens for i in sorted(items, key=lambda i: i.trial.batch_tokens)] == [128, 512, 2048]
    rates = {i.trial.batch_tokens: i.trial.optimizer.lr for i in items}
    assert rates[2048] == pytest.approx(4 * rates[128], rel=1e-3)
    assert {round(i.trial.tokens / 2e6, 2) for i in items} == {1.0}
    assert problems("batch_tokens: 256\n" + text) == [
        "f.yaml:5:15 batch_tokens: is given here and by the design; keep one"
    ]
    (problem,) = problems(text.replace("2048", "200"))
    assert "200 is not a multiple of seq_len 128" in problem
    (problem,) = problems(text.replace("[128, 512, 2048]", "[128], batch_factors: [2]"))
    assert "are not used where batch_tokens lists the batches" in problem


def test_tuning_has_five_rates_and_tells_an_edge() -> None:
    text = "seeds: [0, 1]\ndesign: {type: tuning, sizes: {widths: [32, 64]}, tokens_per_parameter: [60]}\n"
    items = wanted(text)
    assert len(items) == 2 * 5 * 2
    (problem,) = problems(text.replace("[60]", "[60], learning_rate_factors: [1, 2]"))
    assert "2 rates cannot show an interior best; give 3 or more" in problem
    (problem,) = problems(text.replace(", tokens_per_parameter: [60]", ""))
    assert "needs exactly one of budgets, tokens, tokens_per_parameter; none given" in problem

    def bowl(item: Wanted, best: float) -> float:
        return 2.0 + math.log(item.labels["learning_rate_factor"] / best) ** 2 + 0.01 * item.trial.seed

    inside = {i.trial.run_id(DIGEST): bowl(i, 1.0) for i in items}
    assert edges_of(items, DIGEST, inside) == []
    at_edge = {i.trial.run_id(DIGEST): bowl(i, 0.1 if i.trial.architecture.d_model == 32 else 1.0) for i in items}
    (line,) = edges_of(items, DIGEST, at_edge)
    assert line.startswith("decoder 3x32, ")
    assert "the best learning rate is the lowest of 5 tried" in line
    assert line.endswith("add smaller ones")
    some = dict([*list(at_edge.items())[:-1], ("0" * 16, 1.0)])
    assert len(edges_of(items, DIGEST, some)) <= 1
    assert edges_of(items, DIGEST, {}) == []


def test_a_sample_fills_its_ranges_evenly() -> None:
    points = Sample(
        number=64, ranges={"a": Range(low=1, high=2), "b": Range(low=0, high=1, scale="linear")}, seed=3
    ).points()
    for column in points.T:
        assert np.bincount((column * 16).astype(int), minlength=16).tolist() == [4] * 16
    random = Sample(number=64, ranges={"a": Range(low=1, high=2)}, method="random").points()
    assert np.bincount((random[:, 0] * 16).astype(int), minlength=16).tolist() != [4] * 16
    assert Range(low=1, high=100).at(0.5) == pytest.approx(10)
    assert Range(low=1, high=100, scale="linear").at(0.5) == pytest.approx(50.5)
    assert Range(low=100, high=1000, multiple_of=128).at(0.0) == 128


def test_a_sample_grows_by_new_points_alone() -> None:
    items = wanted(SAMPLE)
    assert len(items) == 12
    for item in items:
        assert 1e-4 <= item.trial.optimizer.lr <= 1e-2
        assert item.trial.batch_tokens in range(128, 1025, 128)
        assert item.trial.tokens == pytest.approx(1e6, rel=0.5 / MIN_STEPS)
    assert ids(SAMPLE) < ids(SAMPLE.replace("r: 12", "r: 13")) < ids(SAMPLE.replace("r: 12", "r: 40"))
    random = SAMPLE.replace("number", "method: random\n  number")
    assert ids(random) < ids(random.replace("r: 12", "r: 20"))
    assert ids(SAMPLE) != ids(SAMPLE.replace("number", "seed: 1\n  number"))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("high: 1e-2", "high: 1e-5", "design.ranges.optimizer.lr: low 0.0001 is not below high 1e-05"),
        ("low: 1e-4", "low: 0", "design.ranges.optimizer.lr: a logarithmic range needs low above 0, not 0"),
        ("tokens: [1e6]", "optimizer.lr: [1]", "design: optimizer.lr is given as a range and as an axis; keep one"),
        (
            "tokens: [1e6]",
            "tokens: [1e6], steps: [400]",
            "design.axes: steps and tokens both set the horizon; keep one",
        ),
        ("optimizer.lr:", "optimizer.lt:", "design.ranges.optimizer.lt: is no field (did you mean lr?)"),
        ("number: 12", "number: 1e9", "design.number: must be at most 100000, not 1e+09"),
        ("multiple_of: 128", "multiple_of: 100", "is not a multiple of seq_len 128"),
        ("low: 1e-4", "lo: 1e-4", "design.ranges.optimizer.lr.lo: is no field (did you mean low?)"),
    ],
)
def test_mistakes_of_a_sample_have_their_place(old: str, new: str, expected: str) -> None:
    assert old in SAMPLE
    found = problems(SAMPLE.replace(old, new))
    assert any(expected in p and p.startswith("f.yaml:") for p in found), found


ZIP = """\
design:
  type: zip
  axes:
    architecture: [{n_layer: 2, d_model: 32, n_head: 2}, {n_layer: 3, d_model: 64, n_head: 4}]
    optimizer.lr: [1e-3, 3e-3]
    batch_tokens: [256]
    steps: [400, 500]
"""


def test_a_zip_walks_its_lists_side_by_side() -> None:
    found = {(i.trial.architecture.d_model, i.trial.optimizer.lr, i.trial.steps) for i in wanted(ZIP)}
    assert found == {(32, 1e-3, 400), (64, 3e-3, 500)}
    (problem,) = problems(ZIP.replace("[400, 500]", "[400, 500, 600]"))
    assert problem == (
        "f.yaml:6:3 design: axes of a zip are equally long, or hold one value: architecture has 2,"
        " optimizer.lr has 2, steps has 3"
    )
    assert "f.yaml:11:13 design.axes.steps[0]: 100 steps" in problems(ZIP.replace("400", "100"))[0]
