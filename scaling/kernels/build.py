"""Compiles a kernel once a machine and loads it: a plain C interface, a second of work, kept in the cache folder.

Where there is no compiler, or it cannot compile the kernel, the answer is None and callers use plain torch instead.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.paths import cache_folder

if TYPE_CHECKING:
    from torch import Tensor

FLAGS = (
    "-O3",
    "-march=native",
    "-std=c++17",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-shared",
    "-fPIC",
    "-Wno-psabi",
)
COMPILE_TIMEOUT_S = 120.0


def compiler() -> str | None:
    """The C++ compiler, or None: $CXX, g++, clang++."""
    return shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")


@functools.cache
def attention_library(head_width: int) -> ctypes.CDLL | None:
    """The attention kernel for heads of `head_width`, compiled on first use; None where that cannot be."""
    return _library(Path(__file__).with_name("attention.cpp"), (f"-DHEAD_WIDTH={head_width}",))


@functools.cache
def lstm_library() -> ctypes.CDLL | None:
    """The LSTM's recurrence, compiled on first use; None where that cannot be."""
    return _library(Path(__file__).with_name("lstm.cpp"), ())


@functools.cache
def cross_entropy_library() -> ctypes.CDLL | None:
    """The cross-entropy of a vocabulary, compiled on first use; None where that cannot be."""
    return _library(Path(__file__).with_name("cross_entropy.cpp"), ())


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    """Where a kernel finds a tensor's numbers; null for None."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _library(source: Path, defines: tuple[str, ...]) -> ctypes.CDLL | None:
    cxx = compiler()
    if cxx is None:
        return None
    target = cache_folder() / "kernels" / f"{source.stem}-{_key(source, defines, cxx)}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / "kernel.so"
            command = [cxx, *FLAGS, *defines, str(source), "-o", str(made)]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_TIMEOUT_S)
            except (subprocess.SubprocessError, OSError):
                return None
            os.replace(made, target)  # whole or not at all: another process may be at the same
    try:
        return ctypes.CDLL(str(target))
    except OSError:
        return None


def _key(source: Path, defines: tuple[str, ...], cxx: str) -> str:
    """Names what the binary depends on: sources, flags, compiler and the processor that -march=native stands for."""
    headers = sorted(source.parent.glob("*.h"))
    told = [
        *(path.read_text() for path in (source, *headers)),
        *FLAGS,
        *defines,
        str(Path(cxx).resolve()),
        _processor(),
    ]
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:16]


@functools.cache
def _processor() -> str:
    """Model and instruction sets of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
