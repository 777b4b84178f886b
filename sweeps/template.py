"""The commented sweep definition that `scaling init` writes."""

from __future__ import annotations

import re
from pathlib import Path

from scaling.errors import InputError

_TEXT = """\
# A sweep: which models to train, on what, and for how long.
#   scaling plan {file}     every trial with its size, tokens, FLOPs, time and memory
#   scaling run {file}      trains what its store does not have yet
# Numbers may be written 1e12. A mistake is reported as file:line:column, and `scaling schema` helps editors.

name: {name}
description: Compute-optimal size and tokens of a decoder on Python source

# --- what is trained: the same for every trial ---
architecture:
  type: decoder            # or encoder; `scaling list architectures`. The design below gives its shape
  seq_len: 128             # window, tokens
  positions: rotary        # or learned, alibi, t5, none; docs/sweeps.md lists every option
  activation: gelu         # or swiglu
  tied: false              # whether the head shares the embedding's matrix
objective: causal          # encoder: masked, or {{type: masked, mask_rate: 0.3}}
corpus: python-v1          # or pydocs-v1; your own text: {{type: local, path: my-texts/}}
tokenizer: byte            # or {{type: bpe, vocab_size: 4096}}
schedule: cosine           # matched to each run's length; or wsd, linear, constant
optimizer:
  type: adamw
  weight_decay: 0.1        # a learning rate given here (lr: 1e-3) replaces the recipe's
precision: bf16            # or fp32
heldout: auto              # nested (2^18 bytes) while every trial costs under 1e12 FLOPs, else full (2^20)
repeat: false              # true: runs may see their training text more than once
seeds: [0]                 # every trial once for each

# --- the recipe: size and budget -> depth, heads, batch, learning rate, warmup ---
recipe:
  type: small-v1
  warmup_fraction: 0.1     # of the run
  # lr: 3e-3               # at width 64 and a batch of 256 tokens

# --- which trials ---
design:
  type: isoflop
  budgets: [1e12, 2e12, 4e12]   # exact training FLOPs; a trial's tokens follow from its size
  sizes:
    # centred on N = coefficient * C^exponent parameters, each `ratio` times the one before
    centre: {{coefficient: 0.0714, exponent: 0.5}}
    number: 5
    ratio: 2
    count: non_embedding   # which parameters are counted: non_embedding, non_embedding_head, total
    # instead of centre:  params: [25e3, 50e3, 100e3]   or   widths: [32, 48, 64]
  # every trial again at these multiples of the recipe's learning rate and batch, to tune it:
  learning_rate_factors: [1]    # [0.5, 1, 2]
  batch_factors: [1]

# Other designs:
#   design:                     # sizes x tokens per parameter (with bytes, 88 is about 20 of BPE tokens)
#     type: ladder
#     sizes: {{widths: [32, 48, 64, 96]}}
#     tokens_per_parameter: [22, 44, 88]
#
#   design:                     # the product of lists over any fields; no recipe, so every field is given
#     type: grid
#     axes:
#       architecture: [{{n_layer: 2, d_model: 32, n_head: 2}}, {{n_layer: 3, d_model: 64, n_head: 4}}]
#       optimizer.lr: [1e-3, 3e-3]
#       batch_tokens: [256]
#       tokens: [1e6]           # or steps, or flops
#
# and trunk (horizons on one warmup-stable-decay trunk), repetition, batch, tuning, zip, sample: docs/sweeps.md.
# include: base.yaml starts from another file; trainer: package.module:function runs your own training code.
"""


def template(file: str = "sweep.yaml") -> str:
    """The text of a commented sweep definition, named after its file."""
    stem = re.sub(r"[^a-z0-9._-]+", "-", Path(file).stem.lower()).lstrip("._-")
    return _TEXT.format(name=stem[:100] or "sweep", file=Path(file).name)


def write_template(path: str | Path) -> Path:
    """Writes a commented sweep definition to a new file, and returns its path.

    Raises:
        InputError: the file exists, is not named .yaml or .yml, or cannot be written.
    """
    target = Path(path)
    if target.suffix not in (".yaml", ".yml"):
        raise InputError(f"{target}: a sweep definition is named .yaml, as in {target.name or 'sweep'}.yaml")
    try:
        with target.open("x", encoding="utf-8") as stream:
            stream.write(template(str(target)))
    except FileExistsError:
        raise InputError(f"{target}: exists already; choose another name") from None
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror}") from None
    return target
