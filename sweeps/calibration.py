"""How long a trial takes here: seconds of a step from what the step moves and multiplies, coefficients by measurement.

seconds = c0 + c1·micro-batches·n_layer + c2·GFLOP + c3·GB of activations + c4·10⁹ logits + c5·10⁶ parameters, every
c ≥ 0 and fitted to relative errors (Lawson and Hanson 1974, ch. 23), once for eager and once for compiled graphs. The
activations are those of Korthikanti et al. 2022 (arXiv 2205.05198) eq. 1. `sweeps.measure` measures; what it found is
kept in the cache folder by processor, cores, torch version, precision and trials at once.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scaling.cost import step_flops
from scaling.execution import COMPILE_SECONDS, MICRO_BATCH_TOKENS
from scaling.paths import cache_folder
from scaling.provenance import cores, environment
from scaling.trial import Trial

VERSION = 2
FOLDER = "calibration"

TERMS = ("step", "launch", "flops", "activations", "logits", "parameters")

SHIPPED_EAGER = (0.0, 7.9e-4, 2.2e-3, 0.29, 1.2, 1.2e-3)
SHIPPED_COMPILED = (1.0e-5, 2.5e-4, 1.9e-3, 0.25, 0.1, 6.2e-4)
"""Of two trials at once on cores with AVX-512 bf16: eager from the step benchmark (5 % off, rms), compiled from the
runs of the committed toy study (12 %, the worst 23 %)."""

SHIPPED_WEIGHT = 0.015
"""Weight of a coefficient's relative departure from the shipped one beside a measured point's relative error."""

START_SECONDS = 0.5
"""What a trial costs beside training, evaluation and compilation: building the model, opening the text, publishing."""

CACHED_COMPILE_SECONDS = 2.0
"""Loading a shape's compiled graphs that this machine has compiled before."""

HELDOUT_BYTES = {"full": 1 << 20, "nested": 1 << 18}
BYTES_PER_LEARNED_TOKEN = 4.0


@dataclass(frozen=True)
class Shape:
    """What one optimizer step does: the inputs of the model of its time."""

    micro_batches: float
    n_layer: int
    flops: float
    activation_bytes: float
    logits: float
    params: int

    @classmethod
    def of(cls, trial: Trial, vocab_size: int, micro_batch_tokens: int, batch_tokens: int | None = None) -> Shape:
        """The shape of a trial's step of `batch_tokens` (None: its own)."""
        batch = batch_tokens or trial.batch_tokens
        a = trial.architecture
        layers, width, heads = (int(getattr(a, name, 1)) for name in ("depth", "d_model", "n_head"))
        return cls(
            micro_batches=batch / micro_batch_tokens,
            n_layer=layers,
            flops=float(sum(step_flops(a, trial.objective, vocab_size, batch).values())),
            activation_bytes=float(batch * layers * (34 * width + 5 * heads * a.seq_len)),
            logits=float(batch // a.seq_len * trial.objective.predicted_per_window(a.seq_len) * vocab_size),
            params=trial.objective.params(a, vocab_size).total,
        )

    @property
    def features(self) -> tuple[float, ...]:
        """In the order of TERMS."""
        return (
            1.0,
            self.micro_batches * self.n_layer,
            self.flops / 1e9,
            self.activation_bytes / 1e9,
            self.logits / 1e9,
            self.params / 1e6,
        )


@dataclass(frozen=True)
class Measured:
    """One measured shape: seconds of an optimizer step, the median over the trials that ran at once."""

    shape: Shape
    compiled: bool
    seconds: float


@dataclass(frozen=True)
class Calibration:
    """Coefficients (s, by TERMS) of eager and compiled steps; rates (FLOP/s) of one worker's matrix products.

    `measured` is False for the shipped table, which is of another machine; `compiled_measured` says whether compiled
    graphs were measured or follow from the eager ones by the shipped ratio. `compile_s`: one shape, cold.
    """

    eager: tuple[float, ...] = SHIPPED_EAGER
    compiled: tuple[float, ...] = SHIPPED_COMPILED
    compile_s: float = COMPILE_SECONDS
    measured: bool = False
    compiled_measured: bool = False
    matmul_flops_per_s: float | None = None
    """Largest rate of a matrix product in the trial's precision, by one worker with all at work."""
    concurrency: int = 1
    precision: str = "bf16"
    machine: Mapping[str, Any] = field(default_factory=dict)

    def step_seconds(self, shape: Shape, compiled: bool) -> float:
        """Estimated seconds of one optimizer step."""
        chosen = self.compiled if compiled else self.eager
        return sum(c * f for c, f in zip(chosen, shape.features, strict=True))

    def training_seconds(self, trial: Trial, vocab_size: int, compiled: bool, micro_batch_tokens: int) -> float:
        """Estimated seconds of training alone: a row's `wall_s`."""
        return trial.steps * self.step_seconds(Shape.of(trial, vocab_size, micro_batch_tokens), compiled)

    def evaluation_seconds(self, trial: Trial, vocab_size: int, compiled: bool) -> float:
        """Estimated seconds of scoring the held-out text: a third of a training step's time for each token.

        An objective that predicts some positions of a window passes over it until every one was predicted.
        """
        seq_len = trial.architecture.seq_len
        at_once = max(1, MICRO_BATCH_TOKENS // seq_len) * seq_len
        shape = Shape.of(trial, vocab_size, at_once, at_once)
        tokens = HELDOUT_BYTES[trial.heldout] / (1.0 if trial.tokenizer.type == "byte" else BYTES_PER_LEARNED_TOKEN)
        passes = trial.objective.heldout_passes(seq_len)
        return passes * tokens / at_once * self.step_seconds(shape, compiled) / 3.0

    def to_json(self) -> dict[str, Any]:
        """The calibration as plain data; `from_json` reads it."""
        return {"version": VERSION, **asdict(self), "machine": dict(self.machine)}

    @classmethod
    def from_json(cls, value: Any) -> Calibration | None:
        """The calibration that `to_json` wrote, None where it is of another version or damaged."""
        if not isinstance(value, dict) or value.get("version") != VERSION:
            return None
        try:
            data = {k: v for k, v in value.items() if k != "version"}
            for name in ("eager", "compiled"):
                data[name] = tuple(float(c) for c in data[name])
                if len(data[name]) != len(TERMS) or min(data[name]) < 0 or not sum(data[name]) > 0:
                    return None
            return cls(**data)
        except (TypeError, ValueError, KeyError):
            return None


def fitted(
    points: Sequence[Measured],
    *,
    matmul_flops_per_s: float | None,
    compile_s: float | None = None,
    concurrency: int = 1,
    precision: str = "bf16",
    machine: Mapping[str, Any] | None = None,
) -> Calibration:
    """The calibration that measured points give.

    Few points say little about some terms; those keep the shipped proportions, scaled to this machine's speed.
    """
    of_eager, of_compiled = ([p for p in points if p.compiled is kind] for kind in (False, True))
    if not points:
        raise ValueError("no step was measured")
    eager, scale = _coefficients(of_eager, SHIPPED_EAGER) if of_eager else (SHIPPED_EAGER, math.nan)
    if of_compiled:
        compiled, ratio = _coefficients(of_compiled, SHIPPED_COMPILED)
        if not of_eager:
            scale, eager = ratio, tuple(ratio * c for c in SHIPPED_EAGER)
    else:
        compiled = tuple(scale * c for c in SHIPPED_COMPILED)
    return Calibration(
        eager=eager,
        compiled=compiled,
        compile_s=compile_s if compile_s is not None else COMPILE_SECONDS * scale,
        measured=True,
        compiled_measured=bool(of_compiled),
        matmul_flops_per_s=matmul_flops_per_s,
        concurrency=concurrency,
        precision=precision,
        machine=dict(machine or {}),
    )


def _coefficients(points: Sequence[Measured], shipped: tuple[float, ...]) -> tuple[tuple[float, ...], float]:
    """Coefficients by non-negative least squares on relative errors, and this machine's seconds over the shipped."""
    import numpy as np
    from scipy.optimize import nnls

    seconds = np.array([p.seconds for p in points])
    features = np.array([p.shape.features for p in points])
    prior = np.array(shipped)
    scale = float(np.exp(np.median(np.log(seconds / (features @ prior)))))
    expected = scale * np.maximum(prior, 1e-3 * prior.max())
    rows = np.vstack([features / seconds[:, None], np.sqrt(SHIPPED_WEIGHT) * np.diag(1.0 / expected)])
    target = np.concatenate([np.ones(seconds.size), np.sqrt(SHIPPED_WEIGHT) * (prior > 0)])
    # In units of the expected coefficients, whose sizes differ by orders of magnitude.
    solution, _ = nnls(rows * expected, target)
    return tuple(float(c) for c in solution * expected), scale


def machine_facts() -> dict[str, Any]:
    """What a measurement holds for: processor, cores, torch version."""
    known = environment()
    return {"processor": known["processor"], "cores": cores(), "torch": known["torch"]}


def at_once(workers: int) -> int:
    """Trials that compute at the same time on this machine: more workers than cores share the cores."""
    return max(1, min(workers, cores()))


def calibration_file(workers: int, precision: str = "bf16") -> Path:
    """Where the measurement for so many trials at once is kept."""
    key = json.dumps([VERSION, machine_facts(), at_once(workers), precision], sort_keys=True)
    return cache_folder() / FOLDER / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def load(workers: int, precision: str = "bf16") -> Calibration | None:
    """The cached calibration of this machine, None where it was not measured."""
    try:
        return Calibration.from_json(json.loads(calibration_file(workers, precision).read_text()))
    except (OSError, ValueError):
        return None


def save(calibration: Calibration) -> None:
    """Keeps a calibration in the cache; a cache that cannot be written is none."""
    path = calibration_file(calibration.concurrency, calibration.precision)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(calibration.to_json(), indent=1))
        os.replace(partial, path)
    except OSError:
        return
