"""How a trial is run on this machine: chosen once from the trial's own cost, recorded, reused; and put into force.

Nothing here changes what a trial is. Compiled graphs are kept on disk by shape, so compiling is paid once a machine.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from scaling.cost import trial_flops
from scaling.job import Attention, Execution
from scaling.paths import cache_folder
from scaling.trial import Trial

if TYPE_CHECKING:
    import torch

MICRO_BATCH_TOKENS = 2048
"""Largest micro-batch on a CPU: activations of 2–4 thousand tokens still fit the cache."""

MANUAL_ATTENTION_UP_TO = 256
"""On a CPU the plain softmax product beats torch's fused kernel for windows up to this many tokens."""

NATIVE_ATTENTION_UP_TO = 1024
"""Windows whose keys and values stay in a core's own cache, for which this project's kernel is made."""

COMPILE_SECONDS = 12.0
"""Cold compilation of one shape on one core, training and evaluation graphs: 6 to 11 s, 19 at worst, in a toy study."""

OWN_BF16_RATIO = 1.2
"""Seconds of a bf16 product over those of a float32 one up to which bf16 counts as the processor's own."""
EMULATED_RATIO = 2.5
"""The ratio from which it is emulated beyond doubt, so that what another machine chose is chosen anew."""

MEDIUM_TOLERANCE = 1e-5
"""Largest relative error at which 'medium' matrix products still count as float32."""


class Rates(NamedTuple):
    """Speed of one core, eager or compiled: seconds a layer and micro-batch whatever its size, and FLOP/s by width.

    From steps of 512 and 2,048 tokens at widths 32, 64 and 128, both cores at work (results/benchmarks/step.md, AVX-512
    bf16); 16 and 256 are continued. They decide what is compiled; `sweeps.calibration` knows a trial's time better.
    """

    layer_seconds: float
    flops_per_s: tuple[float, ...]
    widths: tuple[int, ...] = (16, 32, 64, 128, 256)

    def seconds(self, trial: Trial, vocab_size: int) -> float:
        """Estimated training seconds of a trial; rates are log–log interpolated and constant beyond the ends."""
        import numpy as np

        width, layers = (getattr(trial.architecture, name, 1) for name in ("d_model", "depth"))
        rate = float(np.exp(np.interp(np.log(width), np.log(self.widths), np.log(self.flops_per_s))))
        launches = trial.steps * max(1.0, trial.batch_tokens / MICRO_BATCH_TOKENS) * layers
        return launches * self.layer_seconds + sum(trial_flops(trial, vocab_size).values()) / rate


EAGER = Rates(8e-4, (6.0e10, 1.1e11, 1.6e11, 2.5e11, 3.2e11))
COMPILED = Rates(3e-4, (1.3e11, 2.0e11, 2.7e11, 3.4e11, 4.0e11))


@functools.cache
def can_compile() -> str | None:
    """None where a C++ compiler and the Python headers are here, else what is missing."""
    if not (shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")):
        return "no C++ compiler (g++ or clang++): everything runs eager, slower"
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        return "no Python headers (Python.h): everything runs eager, slower"
    return None


def compiling_pays(trial: Trial, vocab_size: int, share: float = 1.0) -> bool:
    """Whether compiling repays itself over `share` times this trial's cost; needs no torch."""
    gain = EAGER.seconds(trial, vocab_size) - COMPILED.seconds(trial, vocab_size)
    return trial.architecture.compiles and share * gain > COMPILE_SECONDS


def choose_execution(
    trial: Trial, vocab_size: int, *, compile_trials: bool | None = None, share: float = 1.0
) -> Execution:
    """The execution of a trial planned for the first time on this machine.

    Compiled where compiling repays itself (`compile_trials` True or False overrides): over this trial, or over
    `share` times its cost where other trials of the same shape are launched with it.
    """
    import torch

    cuda = torch.cuda.is_available()
    earns = compiling_pays(trial, vocab_size, share)
    compiled = (earns if compile_trials is None else compile_trials) and can_compile() is None
    compiled = compiled and trial.architecture.compiles
    return Execution(
        device="cuda" if cuda else "cpu",
        compiled=compiled and trial.precision != "fp64",
        micro_batch_tokens=micro_batch(trial, 64 * MICRO_BATCH_TOKENS if cuda else MICRO_BATCH_TOKENS),
        attention="sdpa" if cuda else _cpu_attention(trial),
        matmul_precision="highest" if cuda else _cpu_matmul_precision(),
        threads=1,
        compute=substitute(trial.precision, cuda),
        dropout="ahead" if getattr(trial.architecture, "dropout", 0.0) > 0 and not cuda else None,
        loss=None if cuda else _cpu_loss(trial),
    )


def _cpu_attention(trial: Trial) -> Attention:
    """This project's kernel where it can be built and serves the trial; else torch's operations."""
    shape = trial.architecture
    if trial.precision != "fp64" and shape.native():
        return "native"
    heads, width = getattr(shape, "n_head", 0), getattr(shape, "d_model", 0)
    if heads and trial.precision != "fp64" and shape.seq_len <= NATIVE_ATTENTION_UP_TO:
        from scaling.models.attention import available

        if available(width // heads):
            return "native"
    return "manual" if shape.seq_len <= MANUAL_ATTENTION_UP_TO else "sdpa"


def _cpu_loss(trial: Trial) -> Literal["native"] | None:
    """This project's kernel where it can be built and serves the trial."""
    from scaling.models.cross_entropy import available

    return "native" if trial.precision != "fp64" and available() else None


def micro_batch(trial: Trial, largest: int) -> int:
    """The largest divisor of the batch, in whole units of windows, of at most `largest` tokens, or one unit."""
    windows, unit = trial.batch_windows, trial.objective.scored_together
    limit = max(unit, largest // trial.architecture.seq_len)
    best = max(w for w in range(unit, min(windows, limit) + 1, unit) if windows % w == 0)
    return best * trial.architecture.seq_len


@functools.cache
def _cpu_matmul_precision() -> Literal["medium", "highest"]:
    """'medium' where it is a faster float32 product here (it picks oneDNN), 'highest' where it would lose digits."""
    import torch

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=generator) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        exact = a.double() @ b.double()
        error = ((a @ b).double() - exact).abs().max() / exact.abs().max()
    finally:
        torch.set_float32_matmul_precision(before)
    return "medium" if float(error) < MEDIUM_TOLERANCE else "highest"


def unsuited(trial: Trial, execution: Execution) -> str | None:
    """Why this machine should not run a trial as another one chose; None: it may."""
    import torch

    cuda, built_in = torch.cuda.is_available(), trial.trainer is None
    if execution.device == "cuda" and not cuda:
        return "fixed for a GPU, and none is here"
    if execution.device == "cpu" and cuda:
        return "fixed for a CPU, and a GPU is here"
    emulated = execution.device == "cpu" and execution.compute is None and trial.precision == "bf16"
    if built_in and emulated and bf16_seconds_ratio() > EMULATED_RATIO:
        return "fixed for bf16 products, which this processor emulates at a fraction of float32's speed"
    built = execution.compiled or "native" in (execution.attention, execution.loss)
    if built_in and built and can_compile() is not None:
        return "fixed for compiled code, and no C++ compiler with Python's headers is here"
    return None


def substitute(precision: str, cuda: bool) -> Literal["fp32"] | None:
    """What a trial's products are made in here where its own precision would be emulated; None: its precision."""
    return "fp32" if precision == "bf16" and not cuda and not multiplies_bf16() else None


def multiplies_bf16() -> bool:
    """Whether this processor's own bf16 products are no slower than float32's.

    Where it has none (any x86 without AVX-512 BF16 or AMX) they are emulated, and a step takes three to eight times as
    long (results/benchmarks/dtypes.md). Either answer is right where the two are near each other.
    """
    return bf16_seconds_ratio() <= OWN_BF16_RATIO


@functools.cache
def bf16_seconds_ratio() -> float:
    """Seconds of a small bf16 product over those of a float32 one; measured, as no list of instructions is complete."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        best = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
        for _ in range(4):
            for dtype in best:
                a = torch.ones(256, 64, dtype=dtype)
                b = torch.ones(64, 256, dtype=dtype)
                started = time.perf_counter()
                a @ b
                best[dtype] = min(best[dtype], time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return best[torch.bfloat16] / best[torch.float32]


def keep_freed_memory() -> None:
    """Tells glibc to keep freed blocks: a step's buffers are reused without page faults. No effect elsewhere."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version"):
        m_mmap_max, m_trim_threshold, m_top_pad = -4, -1, -2
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_top_pad, 64 << 20)


def prepare_process() -> None:
    """Settings of a training process, to be made before its first tensor; harmless when repeated."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
    keep_freed_memory()
    import torch

    torch.set_num_threads(1)


def put_in_force(execution: Execution) -> torch.device:
    """Makes this process run as `execution` says; returns the device."""
    import torch

    torch.set_num_threads(execution.threads)
    torch.set_float32_matmul_precision(execution.matmul_precision)
    if execution.device == "cuda" and execution.memory_fraction is not None:
        torch.cuda.set_per_process_memory_fraction(execution.memory_fraction)
    if execution.compiled:
        import torch._inductor.config as inductor

        # One compile thread: a pool would outlive the worker and take the other trials' cores.
        inductor.compile_threads = 1
        # One generated C++ file a graph compiles in half the time of one a kernel, and runs as fast.
        inductor.cpp_wrapper = True
    return torch.device(execution.device)
