"""An append-only ledger of predictions made before training: each entry names the sha256 of the one before it.

An entry is `STORE/predictions/<id>.json`, published once; its id is a hash of its content. Editing an entry breaks its
id, removing one breaks the chain; `head.json` notices when the last one is removed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field, ValidationError, field_validator, model_validator

from scaling.errors import InputError, StoreError
from scaling.spec import Frozen
from scaling.store import files
from scaling.store.files import Damaged

if TYPE_CHECKING:
    import pandas as pd

    from scaling.store.store import Store

FOLDER = "predictions"
_HEAD = f"{FOLDER}/head.json"


class Estimate(Frozen):
    """A value with its interval at a confidence level; an end of the interval that is not known is null."""

    value: float
    ci: tuple[float | None, float | None]
    level: float = Field(gt=0, lt=1)

    @field_validator("ci", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class Target(Frozen):
    """What is predicted: the budget (FLOPs), the shape trained there (parameters, tokens) and the planned runs."""

    flops: float = Field(gt=0)
    params: float = Field(gt=0)
    tokens: float = Field(gt=0)
    run_ids: tuple[str, ...] = Field(min_length=1)

    @field_validator("run_ids", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("run_ids")
    @classmethod
    def _ids(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        bad = [run_id for run_id in value if not files.is_run_id(run_id)]
        if bad or len(set(value)) < len(value):
            raise ValueError(f"{bad[0]!r} is not 16 hex digits" if bad else "a run is named twice")
        return value


class Predicted(Frozen):
    """Loss (nats per predicted token) at the target; best parameters and tokens of its budget where fitted."""

    loss: Estimate
    params: Estimate | None = None
    tokens: Estimate | None = None


class FittedOn(Frozen):
    """The runs behind a prediction, sorted, and the sha256 of their ids."""

    run_ids: tuple[str, ...]
    sha256: str

    @classmethod
    def of(cls, run_ids: Iterable[str]) -> FittedOn:
        """From run ids in any order."""
        ids = tuple(sorted(set(run_ids)))
        return cls(run_ids=ids, sha256=files.json_digest(list(ids)))

    @field_validator("run_ids", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _agree(self) -> FittedOn:
        if self.run_ids != tuple(sorted(set(self.run_ids))) or self.sha256 != files.json_digest(list(self.run_ids)):
            raise ValueError("sha256 is not that of the sorted run ids; use FittedOn.of")
        return self


class Prediction(Frozen):
    """A prediction and how it was made. `registered_at` (UTC, ISO 8601) and `previous` are set by `register`."""

    sweep: str
    objective: str
    target: Target
    predicted: Predicted
    baselines: dict[str, float | None]
    """Losses by simpler rules, nats per predicted token; null where a rule could not be fitted."""
    fitted_on: FittedOn
    approach: str
    law: str
    command: str
    version: str
    registered_at: str = ""
    previous: str = ""
    """The sha256 of the entry before; empty in the first."""

    @property
    def sha256(self) -> str:
        """The digest of the whole content."""
        return files.json_digest(self.model_dump(mode="json"))

    @property
    def id(self) -> str:
        """16 hex digits of the digest: the entry's name."""
        return self.sha256[:16]


class Break(NamedTuple):
    """A place where the ledger is not what was written."""

    file: str
    reason: str


class Match(NamedTuple):
    """A prediction, the rows observed at its target, and whether any of them was begun before it was registered."""

    prediction: Prediction
    observed: pd.DataFrame
    made_after_training: bool
    reasons: tuple[str, ...]
    fitted_runs: str
    """What of the runs it was fitted on is no longer there as it was; empty where all are."""


def register(store: Store, prediction: Prediction | Mapping[str, Any], *, now: datetime | None = None) -> str:
    """Appends a prediction and returns its id; `now` defaults to the present.

    Raises InputError where a field is wrong, where a target run has a row already (or had one, now in quarantine), or
    where the ledger is broken; StoreError where the store cannot be written.
    """
    if not store.writable:
        raise StoreError(f"{store.root}: opened for reading only; open it with write=True")
    entry = prediction if isinstance(prediction, Prediction) else _validated(prediction)
    trained = {*store.done(), *store.failed()}
    trained |= {run_id for q in store.quarantined() for run_id in entry.target.run_ids if run_id in q["file"]}
    late = sorted(trained & set(entry.target.run_ids))
    if late:
        raise InputError(f"prediction for run {late[0]}: made after training; its row is in the store, predict another")
    with files.lock(store.root, "ledger"):
        entries, breaks = _chain(store)
        if breaks:
            raise InputError(f"{store.root / breaks[0].file}: {breaks[0].reason}; restore it before registering more")
        moment = (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="microseconds")
        previous = entries[-1].sha256 if entries else ""
        entry = entry.model_copy(update={"registered_at": moment, "previous": previous})
        data = (json.dumps(entry.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()
        files.publish(store.root, f"{FOLDER}/{entry.id}.json", data, "prediction")
        head = files.signed_json({"last": entry.sha256, "count": len(entries) + 1})
        files.replace(store.root, _HEAD, head, "prediction-head")
    return entry.id


def _validated(content: Mapping[str, Any]) -> Prediction:
    try:
        return Prediction.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "prediction"
        raise InputError(f"prediction: {place}: {first['msg']}") from error


def predictions(store: Store) -> list[Prediction]:
    """The ledger's entries in the order they were made; damaged ones are left to `check`. Raises StoreError."""
    return _chain(store)[0]


def check(store: Store) -> list[Break]:
    """Every place where an entry was edited, removed or slipped in; empty where the ledger is whole."""
    return _chain(store)[1]


def _chain(store: Store) -> tuple[list[Prediction], list[Break]]:
    entries: dict[str, Prediction] = {}
    breaks: list[Break] = []
    for name in files.names(store.root, FOLDER, ".json"):
        if name == _HEAD:
            continue
        try:
            entry = Prediction.model_validate(json.loads(files.read(store.root, name)))
        except (Damaged, ValueError) as error:
            breaks.append(Break(name, f"not a prediction: {str(error).splitlines()[0]}"))
            continue
        if name != f"{FOLDER}/{entry.id}.json":
            breaks.append(Break(name, "edited: its content is not what its name is the hash of"))
            continue
        entries[entry.sha256] = entry
    followers: dict[str, list[Prediction]] = {}
    for entry in entries.values():
        followers.setdefault(entry.previous, []).append(entry)
        if entry.previous and entry.previous not in entries:
            breaks.append(Break(f"{FOLDER}/{entry.id}.json", f"the entry before it, {entry.previous[:16]}, is gone"))
    for previous, rivals in followers.items():
        breaks += [
            Break(f"{FOLDER}/{r.id}.json", f"a second entry follows {previous[:16] or 'the beginning'}")
            for r in _by_time(rivals)[1:]
        ]
    breaks += _check_head(store, entries)
    ordered: list[Prediction] = []
    todo = _by_time([e for e in entries.values() if e.previous not in entries])
    while todo:
        ordered.append(todo.pop(0))
        todo = _by_time(followers.get(ordered[-1].sha256, [])) + todo
    return ordered, breaks


def _by_time(entries: list[Prediction]) -> list[Prediction]:
    return sorted(entries, key=lambda e: (e.registered_at, e.id))


def _check_head(store: Store, entries: Mapping[str, Prediction]) -> list[Break]:
    try:
        head = files.read_signed_json(store.root, _HEAD)
    except FileNotFoundError:
        # A crash between the first entry and its head leaves one entry and no head.
        return [] if len(entries) <= 1 else [Break(_HEAD, "gone, so a removed last entry would not be noticed")]
    except Damaged as error:
        return [Break(_HEAD, str(error))]
    if head.get("last") not in entries:
        return [Break(_HEAD, f"the last entry, {str(head.get('last'))[:16]}, is gone")]
    return []


def match(store: Store) -> list[Match]:
    """Each prediction with the finished or diverged rows of its target runs; early starts are flagged with the reason.

    A run counts as begun before the prediction also where its provenance does not say when it began.
    """
    rows = store.rows()
    rows = rows[rows["status"] != "failed"]
    out = []
    for prediction in predictions(store):
        observed = rows[rows["run_id"].isin(prediction.target.run_ids)].reset_index(drop=True)
        registered = datetime.fromisoformat(prediction.registered_at)
        reasons = []
        for run_id, provenance in zip(observed["run_id"], observed["provenance"], strict=True):
            started = _started(provenance)
            if started is None:
                reasons.append(f"run {run_id}: its provenance does not say when it began (started_at, UTC)")
            elif started <= registered:
                reasons.append(f"run {run_id}: began {started.isoformat()}, before {prediction.registered_at}")
        out.append(Match(prediction, observed, bool(reasons), tuple(reasons), _changed(rows, prediction, registered)))
    return out


def _changed(rows: pd.DataFrame, prediction: Prediction, registered: datetime) -> str:
    """Runs are named by what was asked for, so one that was lost and trained again has its name and another loss."""
    ids = prediction.fitted_on.run_ids
    mine = rows[rows["run_id"].isin(ids)]
    begun = [_started(p) for p in mine["provenance"]]
    again = sum(b is not None and b > registered for b in begun)
    parts = []
    if again:
        parts.append(f"{again} of the {len(ids)} runs it was fitted on were trained again after it was registered")
    if len(ids) > len(mine):
        parts.append(f"{len(ids) - len(mine)} of the {len(ids)} runs it was fitted on are not in the store")
    return "; ".join(parts)


def _started(provenance: str) -> datetime | None:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        started = datetime.fromisoformat(json.loads(provenance)["started_at"])
        return started if started.tzinfo else started.replace(tzinfo=UTC)
    return None
