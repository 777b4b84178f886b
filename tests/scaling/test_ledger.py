"""The ledger: predictions only before training, in one unbroken chain, matched with what was then observed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from store_rows import make_failure, make_row, run_id

from scaling import ledger
from scaling.errors import InputError, StoreError
from scaling.store import Store, verify

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def make_prediction(number: int, **changes: Any) -> dict[str, Any]:
    estimate = {"value": 3.0 + number, "ci": [2.9, None], "level": 0.9}
    return {
        "sweep": "toy",
        "objective": "causal",
        "target": {"flops": 1.2e13, "params": 250000, "tokens": 8e6, "run_ids": [run_id(number)]},
        "predicted": {"loss": estimate, "params": estimate, "tokens": estimate},
        "baselines": {"power_law": 3.2, "last_two_budgets": None},
        "fitted_on": ledger.FittedOn.of([run_id(2), run_id(1)]).model_dump(),
        "approach": "parametric",
        "law": "chinchilla",
        "command": "scaling register store",
        "version": "0.1.0",
        **changes,
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def fill(store: Store, count: int = 4) -> list[str]:
    return [ledger.register(store, make_prediction(10 + k), now=NOW + timedelta(minutes=k)) for k in range(count)]


def test_predictions_come_back_in_order_with_their_chain(store: Store) -> None:
    ids = fill(store)
    entries = ledger.predictions(Store.open(store.root))
    assert [e.id for e in entries] == ids
    assert [e.previous for e in entries] == ["", *(e.sha256 for e in entries[:-1])]
    assert entries[0].registered_at == "2026-01-01T12:00:00.000000+00:00"
    assert entries[2].predicted.loss.value == 15.0
    assert entries[0].predicted.loss.ci == (2.9, None)
    assert entries[0].fitted_on.run_ids == (run_id(1), run_id(2))
    assert ledger.check(store) == []
    assert verify(store) == []


def test_a_clock_set_back_does_not_change_the_order(store: Store) -> None:
    ids = [ledger.register(store, make_prediction(k), now=NOW - timedelta(days=k)) for k in range(3)]
    assert [e.id for e in ledger.predictions(store)] == ids


def test_a_prediction_of_a_run_that_is_there_is_refused(store: Store) -> None:
    store.publish(make_row(1))
    store.publish_failure(make_failure(2, "out of memory"))
    for number in (1, 2):
        with pytest.raises(InputError, match=f"{run_id(number)}: made after training"):
            ledger.register(store, make_prediction(number))
    (store.root / f"rows/{run_id(1)}.parquet").write_bytes(b"damaged")
    with pytest.raises(InputError, match="made after training"):
        ledger.register(store, make_prediction(1))
    assert ledger.predictions(store) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, "prediction: colour"),
        ({"predicted": {"loss": {"value": "3", "ci": [1, 2], "level": 0.9}}}, "predicted.loss.value"),
        ({"predicted": {"loss": {"value": 3.0, "ci": [1, 2], "level": 90}}}, "predicted.loss.level"),
        ({"target": {"flops": 1e12, "params": 1e5, "tokens": 1e6, "run_ids": []}}, "target.run_ids"),
        ({"target": {"flops": 1e12, "params": 1e5, "tokens": 1e6, "run_ids": ["../x"]}}, "not 16 hex digits"),
        ({"target": {"flops": -1, "params": 1e5, "tokens": 1e6, "run_ids": [run_id(1)]}}, "target.flops"),
        ({"fitted_on": {"run_ids": [run_id(1)], "sha256": "0"}}, "fitted_on"),
    ],
)
def test_a_wrong_prediction_is_refused_by_field(store: Store, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match="prediction: ") as caught:
        ledger.register(store, make_prediction(1, **changes))
    assert words in str(caught.value)


def test_a_reader_cannot_register(store: Store) -> None:
    with pytest.raises(StoreError, match="write=True"):
        ledger.register(Store.open(store.root), make_prediction(1))


@pytest.mark.parametrize("which", range(4))
def test_removing_any_entry_is_noticed(store: Store, which: int) -> None:
    (store.root / f"predictions/{fill(store)[which]}.json").unlink()
    assert any("is gone" in b.reason for b in ledger.check(store))
    with pytest.raises(InputError, match="restore it"):
        ledger.register(store, make_prediction(99))


@pytest.mark.parametrize("which", range(4))
def test_editing_any_entry_is_noticed(store: Store, which: int) -> None:
    path = store.root / f"predictions/{fill(store)[which]}.json"
    content = json.loads(path.read_text())
    content["predicted"]["loss"]["value"] += 0.001
    path.write_text(json.dumps(content))
    assert path.name in {Path(b.file).name for b in ledger.check(store)}
    # Nor does giving the edited entry its right name help.
    edited = ledger.Prediction.model_validate_json(json.dumps(content))
    path.rename(path.with_name(f"{edited.id}.json"))
    assert ledger.check(store)


def test_a_slipped_in_entry_is_noticed(store: Store) -> None:
    fill(store)
    first = ledger.predictions(store)[0]
    forged = first.model_copy(update={"law": "kaplan"})
    (store.root / f"predictions/{forged.id}.json").write_text(forged.model_dump_json())
    assert any("a second entry" in b.reason for b in ledger.check(store))


def test_matching_says_which_fitted_runs_are_not_those_that_were_fitted(store: Store) -> None:
    """A run keeps its name when it is lost and trained again."""
    kept, again, lost = (make_row(n, provenance=f'{{"started_at":"2026-01-01T{hour}:00:00+00:00"}}')
                         for n, hour in ((7, 11), (8, 13), (9, 11)))  # fmt: skip
    for wanted in ([kept], [kept, again], [kept, again, lost]):
        prediction = {**make_prediction(len(wanted)), "fitted_on": ledger.FittedOn.of(r["run_id"] for r in wanted)}
        ledger.register(store, prediction, now=NOW)
    store.publish(kept)
    store.publish(again)
    assert [m.fitted_runs for m in ledger.match(Store.open(store.root))] == [
        "",
        "1 of the 2 runs it was fitted on were trained again after it was registered",
        "1 of the 3 runs it was fitted on were trained again after it was registered;"
        " 1 of the 3 runs it was fitted on are not in the store",
    ]


def test_matching_flags_what_began_before_the_prediction(store: Store) -> None:
    for number in (1, 2, 3, 4):
        ledger.register(store, make_prediction(number), now=NOW)
    store.publish(make_row(1, provenance='{"started_at":"2026-01-01T12:00:01+00:00"}'))
    store.publish(make_row(2, provenance='{"started_at":"2026-01-01T13:59:59+02:00"}'))
    store.publish(make_row(3, provenance="{}"))
    found = ledger.match(Store.open(store.root))
    assert [m.made_after_training for m in found] == [False, True, True, False]
    assert [len(m.observed) for m in found] == [1, 1, 1, 0]
    assert found[0].observed["loss"].tolist() == [make_row(1)["loss"]]
    assert "began 2026-01-01T13:59:59+02:00" in found[1].reasons[0]
    assert "does not say when it began" in found[2].reasons[0]
