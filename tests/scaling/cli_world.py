"""A little world for tests of the command line: a text, a sweep on it, and a store filled from a known loss surface."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from scaling.cli.main import app
from scaling.job import Planned
from scaling.row import row_of
from scaling.store import Store
from sweeps.run import Prepared, prepare_sweep

E, A, ALPHA, B, BETA = 1.2, 60.0, 0.4, 300.0, 0.45
NOISE = 0.002

SWEEP = """\
name: little
description: a known surface
architecture: {{type: decoder, seq_len: 32}}
objective: causal
corpus: {{type: local, path: {text}}}
repeat: true
design:
  type: isoflop
  budgets: [2e11, 4e11, 8e11]
  sizes: {{centre: {{coefficient: 0.12, exponent: 0.5}}, number: 5, ratio: 2}}
"""

TINY = """\
name: tiny
architecture: {{type: decoder, seq_len: 16}}
objective: causal
corpus: {{type: local, path: {text}}}
heldout: nested
precision: fp32
design:
  type: grid
  axes:
    architecture: [{{n_layer: 1, d_model: 16, n_head: 2}}]
    optimizer.lr: [3e-3]
    batch_tokens: [32]
    steps: [300]
"""


@dataclass(frozen=True)
class Result:
    """What a command printed and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def call(*arguments: object) -> Result:
    """Runs `scaling` in this process."""
    found = CliRunner().invoke(app, [str(a) for a in arguments], prog_name="scaling")
    return Result(found.exit_code, found.stdout, found.stderr)


def loss(params: float, tokens: float) -> float:
    return E + A * params**-ALPHA + B * tokens**-BETA


def write_text(path: Path) -> None:
    chooser = random.Random(0)
    words = [
        "the",
        "law",
        "of",
        "scale",
        "says",
        "that",
        "loss",
        "falls",
        "as",
        "data",
        "and",
        "model",
        "grow",
        "along",
        "a",
        "line",
        "in",
        "logs",
    ]
    lines = (" ".join(chooser.choices(words, k=12)) + f" {chooser.randrange(10**6)}" for _ in range(6000))
    path.write_text("\n".join(lines))


def planned(ready: Prepared, number: int) -> Planned:
    item = ready.wanted[number]
    return Planned(
        trial=item.trial,
        run_id=item.trial.run_id(ready.digest),
        lineage=item.trial.lineage(ready.digest),
        data_digest=ready.digest,
        sweep=ready.sweep.name,
        budget=item.budget,
        vocab_size=ready.vocab_size,
    )


def row(ready: Prepared, number: int, noise: float = 0.0, **changes: Any) -> dict[str, Any]:
    """A finished run's row, its loss on the surface."""
    run = planned(ready, number)
    size = run.trial.architecture.params(run.vocab_size).non_embedding
    found = row_of(run, "finished", "", tokens_unique=run.trial.tokens)
    value = loss(size, run.trial.tokens) * math.exp(noise)
    found |= {"loss": value, "loss_se": 0.01, "loss_best": value, "train_loss": value, "wall_s": 2.0}
    found |= {"tokens_per_s": run.trial.tokens / 2.0}
    return found | changes


def fill(sweep: Path, store: Path) -> Store:
    """A store with every run of a sweep but no curves."""
    ready = prepare_sweep(sweep)
    filled = Store.create(store, sweep_file=sweep)
    chooser = random.Random(1)
    for number in range(len(ready.wanted)):
        filled.publish(row(ready, number, chooser.gauss(0, NOISE)))
    return filled
