"""Expansion: budgets met, order, duplicates, what the sweep gives against the recipe, and mistakes with their place."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from scaling.cost import trial_flops
from scaling.errors import InputError, SweepError
from scaling.tokenizers.bpe import Bpe
from scaling.tokenizers.byte import Byte
from scaling.trial import MIN_STEPS
from sweeps.definition import sweep_of
from sweeps.expand import Wanted, expand, vocab_size
from sweeps.yaml_source import parse_source

HEAD = """\
name: x
architecture: decoder
objective: causal
corpus: python-v1
"""

ISOFLOP = """\
design:
  type: isoflop
  budgets: [1e12, 2e12]
  sizes: {centre: {coefficient: 0.0714}, number: 5, ratio: 2}
"""

GRID = """\
design:
  type: grid
  axes:
    architecture: [{n_layer: 2, d_model: 32, n_head: 2}, {n_layer: 3, d_model: 64, n_head: 4}]
    optimizer.lr: [1e-3, 3e-3]
    batch_tokens: [256]
    steps: [1e3]
"""


def wanted(text: str, max_trials: int = 100_000) -> list[Wanted]:
    return expand(sweep_of(parse_source(text, "f.yaml")), max_trials)


def problems(text: str) -> list[str]:
    with pytest.raises(SweepError) as caught:
        wanted(text)
    return [str(p) for p in caught.value.problems]


def flops(item: Wanted) -> int:
    return sum(trial_flops(item.trial, 256).values())


def test_isoflop_meets_its_budgets() -> None:
    items = wanted(HEAD + ISOFLOP)
    assert [item.budget for item in items] == [1e12] * 5 + [2e12] * 5
    for item in items:
        assert flops(item) == pytest.approx(item.budget, rel=0.5 / MIN_STEPS)
        assert item.trial.steps >= MIN_STEPS


def test_isoflop_is_centred_on_its_rule() -> None:
    sizes = [item.trial.architecture.params(256).non_embedding for item in wanted(HEAD + ISOFLOP)][:5]
    assert sizes == sorted(set(sizes))
    for i, n in enumerate(sizes):
        assert n == pytest.approx(0.0714 * math.sqrt(1e12) * 2.0 ** (i - 2), rel=0.2)


def test_expansion_is_deterministic_and_ordered() -> None:
    text = HEAD + "seeds: [1, 0]\n" + ISOFLOP.replace("[1e12, 2e12]", "[2e12, 1e12]")
    first, second = wanted(text), wanted(text)
    assert first == second
    ranks = [(i.budget, i.trial.architecture.params(256).non_embedding, i.trial.seed) for i in first]
    assert ranks == sorted(ranks)


def test_duplicates_are_dropped() -> None:
    text = HEAD + ISOFLOP.replace("[1e12, 2e12]", "[1e12, 1e12]")
    assert len(wanted(text)) == 5
    assert len({item.trial for item in wanted(text)}) == 5


def test_tuning_factors() -> None:
    text = HEAD + ISOFLOP + "  learning_rate_factors: [0.5, 1, 2]\n  batch_factors: [1, 2]\n"
    items = wanted(text)
    assert len(items) == 2 * 5 * 3 * 2
    cell = [i for i in items if i.budget == 1e12 and i.labels["size_target"] == items[0].labels["size_target"]]
    by_factor = {(i.labels["learning_rate_factor"], i.labels["batch_factor"]): i.trial for i in cell}
    assert by_factor[2, 1].optimizer.lr == pytest.approx(4 * by_factor[0.5, 1].optimizer.lr, rel=1e-3)
    assert by_factor[1, 2].batch_tokens == 2 * by_factor[1, 1].batch_tokens
    assert by_factor[1, 2].optimizer.lr == pytest.approx(2**0.5 * by_factor[1, 1].optimizer.lr, rel=1e-3)


def test_what_the_sweep_gives_wins_over_the_recipe() -> None:
    head = (
        HEAD + "optimizer: {type: adamw, lr: 0.002}\nbatch_tokens: 512\nschedule: {type: wsd, warmup_fraction: 0.05}\n"
    )
    for item in wanted(head + ISOFLOP):
        trial = item.trial
        assert (trial.optimizer.lr, trial.batch_tokens, trial.schedule.warmup_fraction) == (0.002, 512, 0.05)
    own = HEAD + "recipe: {type: small-v1, warmup_fraction: 0.2, lr: 8e-3}\n" + ISOFLOP
    for item, plain in zip(wanted(own), wanted(HEAD + ISOFLOP), strict=True):
        assert item.trial.schedule.warmup_fraction == 0.2
        assert item.trial.optimizer.lr == pytest.approx(2 * plain.trial.optimizer.lr, rel=1e-3)


def test_heldout_is_one_choice_for_the_sweep() -> None:
    assert {i.trial.heldout for i in wanted(HEAD + ISOFLOP)} == {"full"}
    small = ISOFLOP.replace("[1e12, 2e12]", "[1e11, 5e11]")
    assert {i.trial.heldout for i in wanted(HEAD + small)} == {"nested"}
    assert {i.trial.heldout for i in wanted(HEAD + "heldout: full\n" + small)} == {"full"}


def test_ladder_tokens_follow_from_sizes() -> None:
    design = "design:\n  type: ladder\n  sizes: {widths: [32, 64]}\n  tokens_per_parameter: [50, 100]\n"
    items = wanted(HEAD + design)
    ratios = [i.trial.tokens / i.trial.architecture.params(256).non_embedding for i in items]
    assert ratios == pytest.approx([50, 100, 50, 100], rel=0.5 / MIN_STEPS)
    assert [i.budget for i in items] == [None] * 4


def test_grid_is_the_product_of_its_axes() -> None:
    items = wanted(HEAD + GRID)
    found = {(i.trial.architecture.d_model, i.trial.optimizer.lr) for i in items}  # type: ignore[attr-defined]
    assert found == {(32, 1e-3), (32, 3e-3), (64, 1e-3), (64, 3e-3)}
    assert {i.trial.steps for i in items} == {1000}


def test_grid_horizons_in_tokens_and_flops() -> None:
    assert {i.trial.tokens for i in wanted(HEAD + GRID.replace("steps: [1e3]", "tokens: [512e3]"))} == {512_000}
    for item in wanted(HEAD + GRID.replace("steps: [1e3]", "flops: [1e12]")):
        assert item.budget == 1e12
        assert flops(item) == pytest.approx(1e12, rel=0.5 / MIN_STEPS)


def test_grid_over_members_of_a_family() -> None:
    text = HEAD.replace("decoder", "encoder").replace("causal", "masked") + GRID
    text += "    objective.mask_rate: [0.15, 0.3]\n    schedule: [cosine, {type: wsd, decay_fraction: 0.1}]\n"
    items = wanted(text)
    assert len(items) == 16
    assert {i.trial.schedule.type for i in items} == {"cosine", "wsd"}
    assert {i.trial.objective.mask_rate for i in items} == {0.15, 0.3}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "[1e12, 2e12]",
            "[1e12, 1e9]",
            "f.yaml:7:19 design.budgets[1]: budget 1e+09 FLOPs at",
        ),
        ("architecture: decoder", "architecture: encoder", "f.yaml:3:12 objective: causal cannot train encoder: "),
        (
            "architecture: decoder",
            "architecture: {type: decoder, d_model: 32}",
            "f.yaml:2:31 architecture.d_model: is given by the design's sizes; remove it or use a grid",
        ),
        ("corpus: python-v1", "corpus: python-v1\nsteps: 500", "f.yaml:5:1 steps: is given by design isoflop"),
        (
            "corpus: python-v1",
            "corpus: python-v1\nbatch_tokens: 200",
            "f.yaml:5:15 batch_tokens: 200 is not a multiple of seq_len 128",
        ),
        (
            "{centre: {coefficient: 0.0714}, number: 5, ratio: 2}",
            "{widths: [32, 33]}",
            "f.yaml:8:24 design.sizes.widths[1]: width 33 cannot be split into heads of even width",
        ),
        (
            "{centre: {coefficient: 0.0714}, number: 5, ratio: 2}",
            "[1e4, 100]",
            "f.yaml:8:10 design.sizes.params[1]: no shape of recipe small-v1 is near 100 parameters",
        ),
        ("corpus: python-v1", "corpus: {type: local}", "f.yaml:4:9 corpus.path: is missing"),
    ],
)
def test_mistakes_of_a_recipe_design_have_their_place(old: str, new: str, expected: str) -> None:
    found = problems((HEAD + ISOFLOP).replace(old, new))
    assert found[0].startswith(expected)


def test_a_budget_too_small_names_the_smallest_that_works() -> None:
    design = "design:\n  type: isoflop\n  budgets: [1e10]\n  sizes: {widths: [64]}\n"
    (problem,) = problems(HEAD + design)
    assert "300 are needed" in problem
    least = float(problem.rsplit("is ", 1)[1].split(" ")[0])
    assert wanted(HEAD + design.replace("1e10", f"{least * 1.01:g}"))
    assert problems(HEAD + design.replace("1e10", f"{least * 0.98:g}"))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "{n_layer: 2, d_model: 32, n_head: 2}",
            "{n_layer: 2, d_model: 32, n_head: 3}",
            "f.yaml:8:20 design.axes.arch",
        ),
        (
            "d_model: 32",
            "d_modle: 32",
            "f.yaml:8:33 design.axes.architecture[0].d_modle: is no field (did you mean d_mo",
        ),
        ("optimizer.lr", "optimizer.lt", "f.yaml:9:20 design.axes.optimizer.lt[0]: is no field (did you mean lr?)"),
        (
            "steps: [1e3]",
            "objective: [masked]\n    steps: [1e3]",
            "f.yaml:11:17 design.axes.objective[0]: objective masked cannot train dec",
        ),
        ("[1e-3, 3e-3]", "[1e-3, -1]", "f.yaml:9:26 design.axes.optimizer.lr[1]: must be more than 0, not -1"),
        (
            "[256]",
            "[200]",
            "f.yaml:10:20 design.axes.batch_tokens[0]: batch_tokens 200 is not a multiple of seq_len 128",
        ),
        ("[1e3]", "[100]", "f.yaml:11:13 design.axes.steps[0]: 100 steps; at least 300 are needed"),
        ("steps: [1e3]", "tokens: [1e3]", "f.yaml:11:14 design.axes.tokens[0]: gives 4 steps of 256 tokens"),
        ("steps: [1e3]", "tokens: [x]", "f.yaml:11:14 design.axes.tokens[0]: must be a number above 0"),
        ("steps: [1e3]", "name.x: [1]", "f.yaml:11:14 design.axes.name.x[0]: is no field; known: arch"),
        (
            "steps: [1e3]",
            "batch_tokens.x: [1]",
            "f.yaml:11:22 design.axes.batch_tokens.x[0]: batch_tokens.x is no field",
        ),
    ],
)
def test_mistakes_of_a_grid_have_their_place(old: str, new: str, expected: str) -> None:
    assert any(p.startswith(expected) for p in problems(HEAD + GRID.replace(old, new)))


def test_a_grid_without_a_field_says_which() -> None:
    (problem,) = problems(HEAD + GRID.replace("    optimizer.lr: [1e-3, 3e-3]\n", ""))
    assert problem == "f.yaml:1:1 optimizer.lr: is missing: give it here or as an axis of the design"


def test_a_grid_refuses_two_horizons_and_seeds_as_an_axis() -> None:
    for line, message in (("tokens: [1e6]", "both set the horizon"), ("seed: [1]", "seed is not an axis")):
        with pytest.raises(SweepError, match=message):
            wanted(HEAD + GRID + f"    {line}\n")
    found = problems(HEAD + "steps: 500\n" + GRID)
    assert found == ["f.yaml:5:1 steps: is given here and as an axis of the design; keep one"]


def test_too_many_trials_are_refused_before_any_is_made() -> None:
    text = HEAD + f"seeds: [{', '.join(map(str, range(400)))}]\n" + ISOFLOP
    with pytest.raises(SweepError, match=r"f.yaml:7:3 design: asks for 4,000 trials; the most is 1,000"):
        wanted(text, max_trials=1000)


def test_vocabulary_sizes_come_from_the_description() -> None:
    assert vocab_size(Byte()) == 256
    assert vocab_size(Bpe(vocab_size=1024)) == 1024

    learned = SimpleNamespace(type="learned")
    with pytest.raises(InputError, match="tokenizer learned does not state its vocab_size"):
        vocab_size(learned)  # type: ignore[arg-type]
