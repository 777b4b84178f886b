"""A sweep definition: the settings its trials share, and the design that says which trials there are.

name: my-sweep
architecture: {type: decoder, seq_len: 128}
objective: causal
corpus: python-v1
design:
  type: isoflop
  budgets: [1e12, 2e12, 4e12]
  sizes: {centre: {coefficient: 0.0714, exponent: 0.5}, number: 5, ratio: 2}
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, create_model

from scaling.architectures import Architecture
from scaling.corpora import Corpus
from scaling.errors import Problem, SweepError
from scaling.objectives import Objective
from scaling.optimizers import Optimizer
from scaling.schedules import Schedule
from scaling.spec import Count, Frozen, Member, NonNegativeCount, canonical, members
from scaling.tokenizers import Tokenizer
from scaling.trainer import Trainer, from_target
from sweeps.designs import Design
from sweeps.problems import report_errors
from sweeps.recipes import Recipe
from sweeps.shorthand import Shorthand
from sweeps.yaml_source import Place, Route, Source, read_source

NESTED_HELDOUT_BELOW = 1e12
"""FLOPs. `heldout: auto` scores the nested part where no trial of the sweep costs as much as this."""


def settings_of(package: str, base: type[Member], complete: bool = False) -> Any:
    """The pydantic type 'any member of this family' as a sweep writes it; a bare string is a member's tag.

    Unless `complete`, fields may be left out even where the member needs them, because the design or the recipe gives
    them; rules between fields are then checked when the trial is made.
    """
    found = members(package, base)
    classes = list(found.values()) if complete else [_partial(cls) for cls in found.values()]
    union: Any = reduce(or_, classes)
    if len(classes) > 1:
        union = Annotated[union, Field(discriminator="type")]
    bare = list(found) if not complete else [t for t, c in found.items() if not _needs(c)]
    return Annotated[union, Shorthand(_from_tag, {"type": "string", "enum": bare})]


def _partial(cls: type[Member]) -> type[Frozen]:
    fields: dict[str, Any] = {}
    for name, info in cls.model_fields.items():
        field = copy(info)
        if field.is_required():
            field.default = None
        fields[name] = (info.annotation, field)
    return create_model(cls.__name__, __base__=Frozen, __doc__=cls.__doc__, **fields)


def _needs(cls: type[Member]) -> bool:
    return any(info.is_required() for info in cls.model_fields.values())


def _from_tag(value: Any) -> Any:
    if isinstance(value, Member):
        return canonical(value)
    return {"type": value} if isinstance(value, str) else value


if TYPE_CHECKING:

    class _Settings(Frozen):
        type: str

    ArchitectureSettings = _Settings
    ObjectiveSettings = _Settings
    CorpusSettings = _Settings
    TokenizerSettings = _Settings
    OptimizerSettings = _Settings
    ScheduleSettings = _Settings
    RecipeSettings = Recipe
    DesignSettings = Design
else:
    ArchitectureSettings = settings_of("scaling.architectures", Architecture)
    ObjectiveSettings = settings_of("scaling.objectives", Objective)
    CorpusSettings = settings_of("scaling.corpora", Corpus)
    TokenizerSettings = settings_of("scaling.tokenizers", Tokenizer)
    OptimizerSettings = settings_of("scaling.optimizers", Optimizer)
    ScheduleSettings = settings_of("scaling.schedules", Schedule)
    RecipeSettings = settings_of("sweeps.recipes", Recipe, complete=True)
    DesignSettings = settings_of("sweeps.designs", Design, complete=True)

TrainerSettings = Annotated[Trainer, Shorthand(from_target, {"type": "string"})]

SHARED = (
    "architecture",
    "objective",
    "corpus",
    "tokenizer",
    "optimizer",
    "schedule",
    "batch_tokens",
    "steps",
    "precision",
    "repeat",
    "trainer",
    "evaluation_ratio",
    "averaging_width",
)
"""Fields of a sweep that are fields of each of its trials, under the same name."""


class Sweep(Frozen):
    """A sweep definition. What it gives itself (a batch, a learning rate, a warmup) wins over the recipe."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)
    """Small letters, digits, dots, hyphens and underscores."""
    description: str = ""
    architecture: ArchitectureSettings
    """Without its shape, which the design gives."""
    objective: ObjectiveSettings
    corpus: CorpusSettings
    tokenizer: TokenizerSettings = Field(default="byte", validate_default=True)  # type: ignore[assignment]
    optimizer: OptimizerSettings = Field(default="adamw", validate_default=True)  # type: ignore[assignment]
    schedule: ScheduleSettings = Field(default="cosine", validate_default=True)  # type: ignore[assignment]
    batch_tokens: Count | None = None
    """Tokens of an optimizer step; left out, the recipe's."""
    steps: Count | None = None
    """Optimizer steps, for a grid without an axis that sets the horizon."""
    precision: Literal["bf16", "fp32", "fp64"] = "bf16"
    heldout: Literal["auto", "full", "nested"] = "auto"
    """One choice for all trials, so that they stay comparable; `auto`: nested while all cost under 1e12 FLOPs.

    Set it outright where a sweep will be extended to larger budgets.
    """
    repeat: bool = False
    """Whether runs may pass over their training text more than once."""
    trainer: TrainerSettings | None = None
    """The user's own training function, `package.module:function`; left out, ours."""
    evaluation_ratio: float | None = Field(default=None, ge=1.01, le=100.0)
    """Held-out loss is also measured along the run, each time the steps have grown by this factor."""
    averaging_width: float | None = Field(default=None, gt=0.0, lt=0.28)
    """Relative width of a power-function average of the weights, scored in their place (Karras et al. 2024)."""
    keep: Literal["none", "final"] = "none"
    """`final`: the scored weights stay in the store, for `scaling evaluate`."""
    seeds: Annotated[tuple[NonNegativeCount, ...], Field(strict=False, min_length=1)] = (0,)
    recipe: RecipeSettings = Field(default="small-v1", validate_default=True)  # type: ignore[assignment]
    """Maps size and budget to depth, heads, batch, learning rate and warmup; unused by a grid."""
    design: DesignSettings

    _source: Source | None = PrivateAttr(default=None)

    @property
    def settings(self) -> dict[str, Any]:
        """What the sweep itself gives its trials: plain data, only what was written, and the defaults' type tags."""
        out: dict[str, Any] = {}
        for name in SHARED:
            value = getattr(self, name)
            if isinstance(value, Frozen):
                tag = {"type": value.type} if hasattr(value, "type") else {}
                out[name] = {**tag, **value.model_dump(exclude_unset=True)}
            elif value is not None:
                out[name] = value
        return out

    @property
    def file(self) -> Path | None:
        """The file it was read from; None for a sweep made in Python."""
        return Path(self._source.file) if self._source is not None else None

    @property
    def files(self) -> tuple[Path, ...]:
        """The file it was read from and those that it includes; none for a sweep made in Python."""
        return tuple(Path(name) for name in self._source.files) if self._source is not None else ()

    def has(self, route: Route) -> bool:
        """Whether the sweep's file wrote a value at `route`; False for a sweep made in Python."""
        return self._source is not None and route in self._source.values

    def problem(self, route: Route, message: str, key: bool = False) -> Problem:
        """A problem at `route`, with its place where the sweep came from a file."""
        if self._source is not None:
            return self._source.problem(route, message, key)
        return Source(f"<sweep {self.name}>", {}, {(): Place(f"<sweep {self.name}>", 1, 1)}, {}).problem(route, message)


def load_sweep(path: str | Path, overrides: Sequence[str] = ()) -> Sweep:
    """Reads a sweep definition; `overrides` of the form `a.b=c` win over the file (`c` is YAML).

    Raises:
        SweepError: every problem found, as `file:line:column field: what is wrong`.
    """
    return sweep_of(read_source(path, overrides))


def sweep_of(source: Source) -> Sweep:
    """The sweep that a source defines; see `load_sweep`."""
    problems: list[Problem] = []
    try:
        sweep = Sweep.model_validate(source.data)
    except ValidationError as error:
        report_errors(error, Sweep, source.data, lambda r, m, key: problems.append(source.problem(r, m, key)))
        raise SweepError(list(dict.fromkeys(problems))) from None
    sweep._source = source
    return sweep
