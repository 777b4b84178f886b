"""Tokens per second of our training step against a plain eager float32 GPT of the same shape, one thread each.

The baseline is the usual small-GPT code: nn.Linear layers, fused scaled-dot-product attention, LayerNorm, GELU, tied
nothing, torch's default AdamW (foreach), clipping at 1. Both sides run in a process of their own, in alternation.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

SHAPES = ((32, 2, 2), (64, 3, 4), (128, 4, 8))
BATCH_TOKENS = (512, 2048)
ROUNDS, SECONDS = 3, 4.0
SEQ_LEN, VOCAB = 128, 256


def baseline_rate(width: int, layers: int, heads: int, batch_tokens: int) -> float:
    """Tokens per second of the plain model."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.set_num_threads(1)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
            self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            b, t, d = x.shape
            q, k, v = (y.view(b, t, heads, -1).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(d, dim=2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class Gpt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = nn.Embedding(VOCAB, width), nn.Embedding(SEQ_LEN, width)
            self.blocks = nn.Sequential(*(Block() for _ in range(layers)))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCAB, bias=False)

        def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            x = self.blocks(self.tokens(inputs) + self.positions.weight)
            return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())

    model = Gpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    inputs = torch.randint(VOCAB, (batch_tokens // SEQ_LEN, SEQ_LEN))

    def one_step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(inputs, inputs).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return _rate(one_step, batch_tokens)


def our_rate(width: int, layers: int, heads: int, batch_tokens: int, compiled: bool) -> float:
    """Tokens per second of the harness's own training loop: data, step, clipping, optimizer, curve."""
    import tempfile

    from scaling.corpora.markov import Markov
    from scaling.corpora.prepare import prepare
    from scaling.job import Job, Planned
    from scaling.store import Store
    from scaling.train import JobRunner
    from scaling.trial import Trial

    trial = Trial.model_validate(
        {
            "architecture": {"type": "decoder", "n_layer": layers, "d_model": width, "n_head": heads},
            "objective": "causal",
            "corpus": Markov(n_documents=4096).model_dump(),
            "optimizer": {"type": "adamw", "lr": 1e-3},
            "batch_tokens": batch_tokens,
            "steps": 1_000_000,
            "repeat": True,
        }
    )
    from scaling.execution import choose_execution

    corpus = prepare(trial.corpus, trial.tokenizer)
    planned = Planned(
        trial=trial,
        run_id=trial.run_id(corpus.digest),
        lineage=trial.lineage(corpus.digest),
        data_digest=corpus.digest,
        sweep="benchmark",
        execution=choose_execution(trial, VOCAB, compile_trials=compiled),
        vocab_size=VOCAB,
    )
    with tempfile.TemporaryDirectory() as folder:
        runner = JobRunner(Job(planned=(planned,)), Store.create(Path(folder) / "store"), checkpoint_seconds=1e9)
        runner.advance(1.0)
        run = runner.run
        assert run is not None
        before, started = run.step, run.elapsed_s
        runner.advance(SECONDS)
        return (run.step - before) * batch_tokens / (run.elapsed_s - started)


def _rate(one_step: object, batch_tokens: int) -> float:
    for _ in range(5):
        one_step()  # type: ignore[operator]
    times = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        started = time.perf_counter()
        one_step()  # type: ignore[operator]
        times.append(time.perf_counter() - started)
    return batch_tokens / statistics.mean(times)


def _in_process(side: str, shape: tuple[int, int, int], batch_tokens: int) -> float:
    call = {
        "baseline": f"baseline_rate(*{shape}, {batch_tokens})",
        "eager": f"our_rate(*{shape}, {batch_tokens}, False)",
        "compiled": f"our_rate(*{shape}, {batch_tokens}, True)",
    }[side]
    code = f"import json; from tests.benchmarks.step import *; print(json.dumps({call}))"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    return float(json.loads(done.stdout.splitlines()[-1]))


def table() -> str:
    """The table, as Markdown."""
    lines = [
        "# Training step: tokens per second against a plain eager float32 GPT",
        "",
        f"One thread a process, sides in alternation, {ROUNDS} rounds of {SECONDS:g} s; median [lowest, highest].",
        "Command: `make benchmarks`.",
        "",
        "| width × layers | batch, tokens | plain | ours, eager | ours, compiled | eager ratio | compiled ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for shape in SHAPES:
        for batch_tokens in BATCH_TOKENS:
            rates: dict[str, list[float]] = {"baseline": [], "eager": [], "compiled": []}
            for _ in range(ROUNDS):
                for side, found in rates.items():
                    found.append(_in_process(side, shape, batch_tokens))
            cells = [f"{statistics.median(r) / 1e3:.1f}k" for r in rates.values()]
            ratios = []
            for side in ("eager", "compiled"):
                pairs = [a / b for a, b in zip(rates[side], rates["baseline"], strict=True)]
                ratios.append(f"{statistics.median(pairs):.2f} [{min(pairs):.2f}, {max(pairs):.2f}]")
            lines.append(f"| {shape[0]} × {shape[1]} | {batch_tokens} | {' | '.join([*cells, *ratios])} |")
    return "\n".join(lines) + "\n"
