"""The one place that says what a row, a curve and an evaluation hold: name, type, unit, meaning."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from scaling.accounting import COUNTS, FLOP_TERMS, PARAM_GROUPS

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Column:
    """A column of a stored table."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str


_text, _int, _real = pa.string(), pa.int64(), pa.float64()

ROW_COLUMNS: tuple[Column, ...] = (
    Column("run_id", _text, "", "hash of the trial, its data and the semantics version"),
    Column("lineage", _text, "", "hash of the trial without horizon and decay: rows of one trunk share it"),
    Column("sweep", _text, "", "name of the sweep that asked for the run first"),
    Column("status", _text, "", "finished, diverged or failed"),
    Column("reason", _text, "", "why a run diverged or failed; empty where it finished"),
    Column("seed", _int, "", "seed of initialisation and data order"),
    Column("architecture", _text, "", "type tag"),
    Column("objective", _text, "", "type tag"),
    Column("corpus", _text, "", "type tag"),
    Column("data_digest", _text, "", "digest of the tokenised training and held-out text"),
    Column("tokenizer", _text, "", "type tag"),
    Column("vocab_size", _int, "tokens", "size of the vocabulary"),
    Column("n_layer", _int, "", "layers"),
    Column("d_model", _int, "", "width"),
    Column("n_head", _int, "", "attention heads"),
    Column("d_ff", _int, "", "width of the feed-forward layer"),
    Column("seq_len", _int, "tokens", "window"),
    Column("batch_tokens", _int, "tokens", "tokens in an optimizer step"),
    Column("lr", _real, "", "peak learning rate"),
    Column("schedule", _text, "", "type tag"),
    Column("warmup_fraction", _real, "", "share of the run spent warming up"),
    Column("budget", _real, "FLOPs", "the design's nominal budget in exact FLOPs; null where it has none"),
    *(Column(f"params_{g}", _int, "parameters", f"trained parameters: {g.replace('_', ' ')}") for g in PARAM_GROUPS),
    Column("params_total", _int, "parameters", "all trained parameters"),
    Column("params_non_embedding", _int, "parameters", "block matrices: no embeddings, head or norms"),
    Column("params_non_embedding_head", _int, "parameters", "block matrices and the output head's matrix"),
    Column("flops_exact", _real, "FLOPs", "matrix products of the whole run, forward and backward"),
    *(Column(f"flops_exact_{t}", _real, "FLOPs", f"of which {t.replace('_', ' ')}") for t in FLOP_TERMS),
    *(Column(f"flops_6nd_{c}", _real, "FLOPs", f"6ND with N = params_{c}") for c in COUNTS),
    Column("flops_marginal", _real, "FLOPs", "what the row cost in its job; less than flops_exact on a shared trunk"),
    Column("tokens", _int, "tokens", "tokens seen in training"),
    Column("tokens_predicted", _int, "tokens", "loss-bearing tokens in training"),
    Column("tokens_unique", _int, "tokens", "distinct tokens of the training stream available to the run"),
    Column("epochs", _real, "", "tokens / tokens_unique"),
    Column("steps", _int, "steps", "optimizer steps"),
    Column("loss", _real, "nats per predicted token", "held-out loss at the end"),
    Column("loss_se", _real, "nats per predicted token", "its standard error, clustered by document"),
    Column("loss_best", _real, "nats per predicted token", "held-out loss at the step chosen on a development part"),
    Column("train_loss", _real, "nats per predicted token", "mean training loss over the last twentieth of the run"),
    Column("bits_per_byte", _real, "bits per byte", "of held-out text; null where the loss is no code length"),
    Column("wall_s", _real, "s", "training time, without compilation and evaluation"),
    Column("tokens_per_s", _real, "tokens/s", "tokens / wall_s"),
    Column("spec", _text, "JSON", "canonical trial"),
    Column("execution", _text, "JSON", "how it was run"),
    Column("provenance", _text, "JSON", "commit, versions, device, times"),
    Column("curve_sha256", _text, "", "sha256 of the curve file's bytes; empty where there is none"),
    Column("evals_sha256", _text, "", "sha256 of the evals file's bytes; empty where there is none"),
)

CURVE_COLUMNS: tuple[Column, ...] = (
    Column("run_id", _text, "", "the run"),
    Column("step", _int, "steps", "optimizer steps done"),
    Column("tokens", _int, "tokens", "tokens seen"),
    Column("flops", _real, "FLOPs", "exact FLOPs spent"),
    Column("lr", _real, "", "learning rate of that step"),
    Column("train_loss", _real, "nats per predicted token", "mean over the steps since the last point"),
    Column("grad_norm", _real, "", "norm of the gradient before clipping"),
    Column("elapsed_s", _real, "s", "training time so far"),
    Column("loss", _real, "nats per predicted token", "held-out loss where measured, else null"),
)

EVAL_COLUMNS: tuple[Column, ...] = (
    Column("run_id", _text, "", "the run"),
    Column("metric", _text, "", "what was measured"),
    Column("x", _real, "", "where: document index, position, …"),
    Column("value", _real, "", "the value"),
    Column("se", _real, "", "its standard error; null where it has none"),
    Column("n", _int, "", "items behind the value"),
    Column("eval_version", _int, "", "version of the measurement"),
    Column(
        "settings", _text, "JSON", "of an evaluation made after training, its type first; empty where the run made it"
    ),
)


def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """The Arrow schema of a table, with units and meanings as field metadata."""
    return pa.schema(
        [pa.field(c.name, c.type, metadata={"unit": c.unit, "meaning": c.meaning}) for c in columns],
        metadata={"format_version": str(FORMAT_VERSION)},
    )


ROW_SCHEMA = arrow_schema(ROW_COLUMNS)
CURVE_SCHEMA = arrow_schema(CURVE_COLUMNS)
EVAL_SCHEMA = arrow_schema(EVAL_COLUMNS)


def markdown() -> str:
    """The three tables as Markdown, for the documentation."""
    parts = []
    for title, columns in (("rows", ROW_COLUMNS), ("curves", CURVE_COLUMNS), ("evals", EVAL_COLUMNS)):
        lines = [f"### {title}", "", "| column | type | unit | meaning |", "|---|---|---|---|"]
        lines += [f"| `{c.name}` | {c.type} | {c.unit} | {c.meaning} |" for c in columns]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
