"""From a sweep definition to its trials: each validated, none twice, ascending by budget and then by size."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import ValidationError

from scaling.architectures.base import Architecture
from scaling.cost import step_flops, trial_flops
from scaling.errors import InputError, Problem, SweepError
from scaling.objectives.base import Objective
from scaling.spec import Frozen, canonical, members
from scaling.tokenizers import Tokenizer, TokenizerSpec
from scaling.tokenizers.byte import Byte, ByteEncoder
from scaling.trial import MIN_STEPS, ArchitectureSpec, ObjectiveSpec, Trial
from sweeps.definition import NESTED_HELDOUT_BELOW, SHARED, Sweep
from sweeps.designs import Cell, Context
from sweeps.problems import report_errors
from sweeps.yaml_source import Route

MAX_TRIALS = 100_000
"""A sweep of more trials is taken for a mistake."""

MAX_PROBLEMS = 50
"""Distinct problems reported of one expansion."""


@dataclass(frozen=True)
class Wanted:
    """A trial that a sweep asks for, its nominal budget in exact FLOPs, and the design's labels (neither is hashed)."""

    trial: Trial
    budget: float | None = None
    labels: Mapping[str, float] = field(default_factory=dict, compare=False)


class _Parts(Frozen):
    """The parts of a trial that its cost depends on, as one value, so that their errors are all found at once."""

    architecture: ArchitectureSpec | None = None
    objective: ObjectiveSpec | None = None
    tokenizer: TokenizerSpec | None = None


class _TooMany(Exception):
    """Enough problems were found."""


def vocab_size(tokenizer: Tokenizer) -> int:
    """Size of the vocabulary, from the tokenizer's description alone.

    Raises:
        InputError: the size is known only after learning.
    """
    if isinstance(tokenizer, Byte):
        return ByteEncoder.vocabulary.size
    size = getattr(tokenizer, "vocab_size", None)
    if not isinstance(size, int):
        raise InputError(f"tokenizer {tokenizer.type} does not state its vocab_size, which sizes and FLOPs need")
    return size


def expand(sweep: Sweep, max_trials: int = MAX_TRIALS) -> list[Wanted]:
    """The trials of a sweep, without duplicates, ascending by budget, then size, tokens, rate, batch and seed.

    Raises:
        SweepError: every problem found (at most MAX_PROBLEMS): shapes that do not fit, small budgets, too many trials.
    """
    return _Expansion(sweep, max_trials).wanted()


class _Expansion:
    """One expansion: the sweep, its settings, and the problems found so far."""

    def __init__(self, sweep: Sweep, max_trials: int) -> None:
        self.sweep, self.max_trials = sweep, max_trials
        self.settings = sweep.settings
        self.problems: dict[Problem, None] = {}
        if sweep.design.uses_recipe:
            self.settings["schedule"].setdefault("warmup_fraction", sweep.recipe.warmup_fraction)

    def wanted(self) -> list[Wanted]:
        self._check_count()
        self._check_settings()
        found: dict[Trial, tuple[Wanted, bool]] = {}
        try:
            for cell, seed in itertools.product(self._cells(), self.sweep.seeds):
                trial = self._trial(cell, seed)
                if trial is not None and trial not in found:
                    found[trial] = (Wanted(trial, cell.budget, cell.labels), "heldout" in cell.fields)
        except _TooMany:
            pass
        self._raise_if_any()
        return self._ordered(list(found.values()))

    def report(self, route: Route, message: str, key: bool = False) -> None:
        self.problems[self.sweep.problem(route, message, key)] = None
        if len(self.problems) >= MAX_PROBLEMS:
            raise _TooMany

    def _raise_if_any(self) -> None:
        if self.problems:
            raise SweepError(list(self.problems))

    def _check_count(self) -> None:
        trials = self.sweep.design.trials() * len(self.sweep.seeds)
        if trials > self.max_trials:
            self.report(("design",), f"asks for {trials:,} trials; the most is {self.max_trials:,}")
            self._raise_if_any()

    def _check_settings(self) -> None:
        """Refuses what the design gives, and what only a recipe reads."""
        sweep = self.sweep
        if not sweep.design.uses_recipe:
            for name in sorted(getattr(sweep.design, "axes", {})):
                if name in self.settings and not isinstance(self.settings[name], dict) and sweep.has((name,)):
                    self.report((name,), "is given here and as an axis of the design; keep one", key=True)
            return
        for name in self._recipe_gives():
            if self.settings["architecture"].get(name) is not None:
                self.report(("architecture", name), "is given by the design's sizes; remove it or use a grid", key=True)
        if sweep.steps is not None:
            self.report(("steps",), f"is given by design {sweep.design.type}; remove it or use a grid", key=True)

    def _recipe_gives(self) -> tuple[str, ...]:
        """Fields of the architecture that the recipe sets."""
        known = members("scaling.architectures", Architecture)
        architecture = known.get(self.settings["architecture"].get("type"), Architecture)
        return self.sweep.recipe.given_to(architecture.model_fields)

    def _cells(self) -> Iterator[Cell]:
        if not self.sweep.design.uses_recipe:
            yield from self.sweep.design.cells(self._context(None, None, None))
            return
        # the shape is not known yet: any that fits stands in for it while the rest is checked
        stand_in = {name: {"n_layer": 2, "d_model": 16, "n_head": 1}.get(name, 1) for name in self._recipe_gives()}
        parts = self._parts({**self.settings, "architecture": {**self.settings["architecture"], **stand_in}}, None)
        if parts is None:
            return
        architecture, objective, tokenizer = parts
        refusal = objective.serves(architecture)
        if refusal is not None:
            self.report(("objective",), f"{objective.type} cannot train {architecture.type}: {refusal}")
            return
        fixed = self.settings.get("batch_tokens")
        if fixed is not None and fixed % architecture.seq_len:
            self.report(("batch_tokens",), f"{fixed} is not a multiple of seq_len {architecture.seq_len}")
            return
        yield from self.sweep.design.cells(self._context(architecture, objective, tokenizer))

    def _context(self, like: Architecture | None, objective: Objective | None, tokenizer: Tokenizer | None) -> Context:
        vocabulary = 0
        if tokenizer is not None:
            try:
                vocabulary = vocab_size(tokenizer)
            except InputError as error:
                self.report(("tokenizer",), str(error))
        given = {k: v for k, v in self.settings["architecture"].items() if v is not None}

        @cache
        def build(shape: tuple[tuple[str, int], ...]) -> Architecture:
            fields = {name: n for name, n in shape if name in type(like).model_fields}  # type: ignore[union-attr]
            return type(like).model_validate({**given, **fields})  # type: ignore[union-attr, return-value]

        def per_token(architecture: Architecture) -> float:
            window = architecture.seq_len
            return sum(step_flops(architecture, objective, vocabulary, window).values()) / window  # type: ignore[arg-type]

        return Context(
            recipe=self.sweep.recipe,
            objective=objective,  # type: ignore[arg-type]
            vocab_size=vocabulary,
            build=lambda shape: build(tuple(shape.items())),
            flops_per_token=per_token,
            fixed_batch=self.settings.get("batch_tokens"),
            fixed_lr=self.settings["optimizer"].get("lr"),
            report=self.report,
            schedule=self.sweep.settings["schedule"] if "schedule" in self.sweep.model_fields_set else None,
        )

    def _parts(self, data: Mapping[str, Any], cell: Cell | None) -> tuple[Architecture, Objective, Tokenizer] | None:
        chosen = {name: data.get(name) for name in _Parts.model_fields}
        try:
            parts = _Parts.model_validate(chosen)
        except ValidationError as error:
            report_errors(error, _Parts, chosen, lambda r, m, key: self._at_origin(cell, r, m, key))
            return None
        if parts.architecture is None or parts.objective is None or parts.tokenizer is None:
            return None
        return parts.architecture, parts.objective, parts.tokenizer

    def _trial(self, cell: Cell, seed: int) -> Trial | None:
        data = {**self.settings, "seed": seed}
        for name, value in cell.fields.items():
            problem = _put(data, name.split("."), canonical(value))
            if problem:
                self.report(cell.origins[name], problem)
                return None
        if not self._find_steps(data, cell):
            return None
        try:
            trial = Trial.model_validate(data)
        except ValidationError as error:
            whole = self._rule_field(data)
            report_errors(error, Trial, data, lambda r, m, key: self._at_origin(cell, r or whole, m, key))
            return None
        if trial.steps < MIN_STEPS:
            self._at_origin(cell, ("steps",), f"{trial.steps} steps; at least {MIN_STEPS} are needed", False)
            return None
        return trial

    def _rule_field(self, data: Mapping[str, Any]) -> Route:
        """Where a broken rule between a trial's parts is shown: pydantic places such at the trial as a whole."""
        try:
            parts = _Parts.model_validate({name: data.get(name) for name in _Parts.model_fields})
        except ValidationError:
            return ()
        if (
            parts.objective is not None
            and parts.architecture is not None
            and parts.objective.serves(parts.architecture)
        ):
            return ("objective",)
        return ("batch_tokens",)

    def _find_steps(self, data: dict[str, Any], cell: Cell) -> bool:
        """Whole steps for a horizon in tokens or FLOPs; False where a part is wrong (and reported)."""
        if cell.tokens is None and cell.flops is None:
            return True
        axis = "tokens" if cell.tokens is not None else "flops"
        batch = data.get("batch_tokens")
        if isinstance(batch, bool) or not isinstance(batch, (int, float)) or not batch > 0 or batch % 1:
            self._at_origin(cell, ("batch_tokens",), f"is needed, as a whole number, to turn {axis} into steps", False)
            return False
        tokens = cell.tokens
        if tokens is None:
            parts = self._parts(data, cell)
            if parts is None:
                return False
            architecture, objective, tokenizer = parts
            window = sum(step_flops(architecture, objective, vocab_size(tokenizer), architecture.seq_len).values())
            tokens = (cell.flops or 0.0) * architecture.seq_len / window
        steps = round(tokens / batch)
        if steps < MIN_STEPS:
            route = cell.origins[axis]
            self.report(route, f"gives {steps} steps of {batch:g} tokens; at least {MIN_STEPS} are needed")
            return False
        data["steps"] = steps
        return True

    def _at_origin(self, cell: Cell | None, route: Route, message: str, key: bool) -> None:
        """Reports a problem of a trial's field at the part of the sweep that gave it."""
        names = [str(step) for step in route]
        origins = cell.origins if cell is not None else {}
        for n in range(len(names), 0, -1):
            origin = origins.get(".".join(names[:n]))
            if origin is not None:
                inner = (*origin, *route[n:])
                within = self.sweep.has(inner)
                text = message if n == len(names) or within else f"{'.'.join(names[n:])} {message}"
                self.report(inner if within else origin, text, key and within)
                return
        below = [name for name in origins if name.startswith(".".join(names) + ".")]
        if below and not (route[0] in SHARED and self.sweep.has(route)):
            route = origins[below[0]]
        if message == "is missing":
            message = "is missing: give it here or as an axis of the design"
        self.report(route, message, key)

    def _ordered(self, found: list[tuple[Wanted, bool]]) -> list[Wanted]:
        costs = {w.trial: _cost(w.trial) for w, _ in found}
        if self.sweep.heldout != "auto":
            choice = self.sweep.heldout
        else:
            choice = "nested" if all(flops < NESTED_HELDOUT_BELOW for _, flops in costs.values()) else "full"

        def rank(wanted: Wanted) -> tuple[float, ...]:
            trial = wanted.trial
            size, _ = costs[trial]
            return (wanted.budget or 0.0, size, trial.tokens, trial.optimizer.lr, trial.batch_tokens, trial.seed)

        ordered = sorted(found, key=lambda item: rank(item[0]))
        return [
            w if own else Wanted(w.trial.model_copy(update={"heldout": choice}), w.budget, w.labels)
            for w, own in ordered
        ]


def _cost(trial: Trial) -> tuple[int, int]:
    """Non-embedding parameters and exact FLOPs."""
    vocabulary = vocab_size(trial.tokenizer)
    return trial.objective.params(trial.architecture, vocabulary).non_embedding, sum(
        trial_flops(trial, vocabulary).values()
    )


def _put(data: dict[str, Any], path: list[str], value: Any) -> str | None:
    """Sets a dotted field, copying what it changes; mappings are merged unless they are of another type."""
    *outer, last = path
    for step in outer:
        inner = data.get(step, {})
        if isinstance(inner, str):
            inner = {"type": inner}
        if not isinstance(inner, dict):
            return f"{'.'.join(path)} is no field: {step} holds a single value"
        data[step] = dict(inner)
        data = data[step]
    old = data.get(last)
    if isinstance(old, dict) and isinstance(value, str):
        value = {"type": value}
    if isinstance(old, dict) and isinstance(value, dict) and value.get("type", old.get("type")) == old.get("type"):
        value = {**old, **value}
    data[last] = value
    return None
