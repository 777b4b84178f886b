"""Run identity: golden ids, frozen defaults, and what does and does not change an id."""

import json

import pytest
from pydantic import ValidationError

from scaling.spec import canonical_json
from scaling.trial import Trial

DECODER = {
    "architecture": {"type": "decoder", "n_layer": 2, "d_model": 32, "n_head": 2},
    "objective": "causal",
    "corpus": "python-v1",
    "optimizer": {"type": "adamw", "lr": 0.01},
    "batch_tokens": 512,
    "steps": 1000,
}
ENCODER = {
    "architecture": {"type": "encoder", "n_layer": 3, "d_model": 64, "n_head": 4, "tied": True},
    "objective": {"type": "masked", "mask_rate": 0.3},
    "corpus": {"type": "pydocs-v1"},
    "tokenizer": {"type": "bpe", "vocab_size": 2048},
    "optimizer": {"type": "adamw", "lr": 0.003, "beta2": 0.95},
    "schedule": {"type": "wsd", "decay_fraction": 0.1},
    "batch_tokens": 2048,
    "steps": 4000,
    "seed": 7,
    "precision": "fp32",
}


def trial(**changes: object) -> Trial:
    return Trial.model_validate_json(json.dumps({**DECODER, **changes}))


def test_golden_ids() -> None:
    """These never change; a new field must come with a default that leaves them alone."""
    assert trial().run_id("0123456789abcdef") == "9e39c06b41a7f34c"
    encoder = Trial.model_validate_json(json.dumps(ENCODER))
    assert encoder.run_id("0123456789abcdef") == "0104f234b837a44a"
    assert encoder.lineage("0123456789abcdef") == "5dcd0c714728455d"


def test_defaults_are_frozen() -> None:
    """The full value behind the canonical JSON: a changed default would silently rename old runs."""
    full = trial().model_dump()
    assert full["architecture"] == {
        "seq_len": 128,
        "n_layer": 2,
        "d_model": 32,
        "n_head": 2,
        "d_ff": None,
        "positions": "rotary",
        "tied": False,
        "activation": "gelu",
        "init": "fan_in",
        "dropout": 0.0,
        "norm": "rms",
        "norm_placement": "pre",
        "bias": False,
        "embedding_norm": False,
        "embedding_size": None,
        "share": "none",
        "local_window": None,
        "relative_buckets": 32,
        "relative_distance": 128,
        "segments": 0,
        "head_transform": False,
        "parametrisation": "standard",
        "base_width": 64,
        "base_depth": 3,
        "base_head": 16,
        "type": "decoder",
    }
    assert full["optimizer"] == {
        "lr": 0.01,
        "clip": 1.0,
        "type": "adamw",
        "beta1": 0.9,
        "beta2": 0.99,
        "eps": 1e-8,
        "weight_decay": 0.1,
    }
    assert full["schedule"] == {"warmup_fraction": 0.1, "type": "cosine", "final_fraction": 0.1}
    assert full["tokenizer"] == {"type": "byte"}
    assert (full["seed"], full["precision"], full["heldout"], full["repeat"]) == (0, "bf16", "full", False)


def test_canonical_json_leaves_defaults_out_and_keeps_tags() -> None:
    assert json.loads(canonical_json(trial())) == {
        **DECODER,
        "objective": {"type": "causal"},
        "corpus": {"type": "python-v1"},
    }
    assert canonical_json(trial(seed=0, precision="bf16", tokenizer="byte")) == canonical_json(trial())


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"steps": 1001}, {"precision": "fp32"}, {"heldout": "nested"}, {"corpus": "pydocs-v1"}],
)
def test_every_field_counts(changes: dict[str, object]) -> None:
    assert trial(**changes).run_id("d") != trial().run_id("d")
    assert trial().run_id("d") != trial().run_id("e")


def test_numbers_are_normalised_by_type() -> None:
    assert trial(steps=1e3).run_id("d") == trial(steps=1000).run_id("d")
    one = {"type": "adamw", "lr": 1}
    assert trial(optimizer=one).run_id("d") == trial(optimizer={**one, "lr": 1.0}).run_id("d")


def test_lineage_joins_horizons_of_one_trunk_only() -> None:
    wsd = {"schedule": {"type": "wsd", "decay_fraction": 0.2}}
    short, long = trial(steps=1000, **wsd), trial(steps=2000, schedule={"type": "wsd", "decay_fraction": 0.1})
    assert short.lineage("d") == long.lineage("d") != trial(steps=1000, seed=1, **wsd).lineage("d")
    assert trial(steps=1000).lineage("d") != trial(steps=2000).lineage("d")


def test_round_trip_keeps_the_id() -> None:
    one = trial(**dict(ENCODER.items()))
    assert Trial.model_validate_json(canonical_json(one)) == one


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "masked"}, "bidirectional"),
        ({"batch_tokens": 500}, "not a multiple of seq_len"),
        ({"steps": -3}, "greater than 0"),
        ({"steps": 1.5}, "integer"),
        ({"steps": "300"}, "integer"),
        ({"learning_rate": 1.0}, "Extra inputs"),
        ({"corpus": "nowhere"}, "does not match any"),
    ],
)
def test_wrong_fields_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        trial(**changes)
