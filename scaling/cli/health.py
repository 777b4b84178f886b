"""The checks of `scaling doctor`: what is installed, what this machine has, and what would get in the way."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, NamedTuple

PROBE_SECONDS = 120
PROBE_BYTES = 4 << 20
LITTLE_DISK, NO_DISK = 2e9, 1e8
"""Bytes free below which a corpus and its runs may not fit, or nothing will."""

PACKAGES = ("scaling", "sweeps", "analysis")
DISTRIBUTIONS = ("torch", "ray", "numpy", "scipy", "pandas", "pyarrow", "pydantic", "safetensors", "tokenizers")


class Check(NamedTuple):
    """One finding: `fail` will not work, `warn` works but worse or otherwise than one would think."""

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str


def checks() -> list[Check]:
    """Every check, in the order in which they are shown."""
    return [
        _python(),
        _versions(),
        _cores(),
        _compiler(),
        *_torch(),
        _ray(),
        _bind_address(),
        *_cache(),
        _writes("writes here", Path.cwd(), "start where you may write, or name a store with --store"),
        _disk("disk here", Path.cwd()),
        *_shadows(Path.cwd()),
    ]


def _python() -> Check:
    state: Literal["ok", "fail"] = "ok" if sys.version_info >= (3, 11) else "fail"
    return Check("python", state, f"{platform.python_version()}, {platform.system()} {platform.machine()}")


def _versions() -> Check:
    from scaling.provenance import code_state, version

    found = {name: version(name) for name in ("scaling-lab", *DISTRIBUTIONS)}
    text = ", ".join(f"{name} {number}" for name, number in found.items())
    missing = [name for name in DISTRIBUTIONS if found[name] == "unknown"]
    state = code_state()
    if state:
        text += f", commit {str(state['commit'])[:12]}{' with changes' if state['dirty'] else ''}"
    if missing:
        return Check("versions", "fail", f"{text}; {', '.join(missing)} not installed: pip install scaling-lab")
    return Check("versions", "ok", text)


def _cores() -> Check:
    import psutil

    from scaling.cli.runs import cores

    free = psutil.virtual_memory().available
    detail = f"{cores()} of {os.cpu_count()} usable, {free / 1e9:.3g} GB memory free; one trial a core"
    return Check("cores", "ok" if free > 1e9 else "warn", detail)


def _compiler() -> Check:
    from scaling.execution import can_compile

    missing = can_compile()
    return (
        Check("compiler", "ok", "C++ compiler and Python headers")
        if missing is None
        else Check("compiler", "warn", missing)
    )


def _probe(code: str) -> tuple[bool, str, float]:
    """Runs Python apart, so that a broken library cannot take this process along: success, last line, seconds."""
    started = time.monotonic()
    environment = {**os.environ, "CUDA_MODULE_LOADING": "LAZY"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=PROBE_SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        return False, f"did not answer within {PROBE_SECONDS} s", float(PROBE_SECONDS)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or [""]
    return done.returncode == 0, lines[-1], time.monotonic() - started


def _torch() -> list[Check]:
    code = (
        "import torch; from scaling.execution import multiplies_bf16;"
        "n = torch.cuda.device_count() if torch.cuda.is_available() else 0;"
        "print(torch.__version__, '|', ', '.join(torch.cuda.get_device_name(i) for i in range(n)),"
        "'|', 'yes' if n or multiplies_bf16() else '')"
    )
    ok, line, seconds = _probe(code)
    if not ok:
        return [Check("torch", "fail", f"cannot be imported: {line}")]
    number, devices, bf16 = (part.strip() for part in (*line.split("|"), "", "")[:3])
    gpu = devices or "none: trials run on the CPU"
    own = "products in hardware" if bf16 else "no products in hardware: float32 takes their place, as each run records"
    return [
        Check("torch", "ok", f"{number} imports in {seconds:.1f} s"),
        Check("gpu", "ok", gpu),
        Check("bf16", "ok" if bf16 else "warn", own),
    ]


def _ray() -> Check:
    ok, line, seconds = _probe("import ray; from ray import tune; print(ray.__version__)")
    if ok:
        return Check("ray", "ok", f"{line} imports in {seconds:.1f} s")
    return Check("ray", "fail", f"cannot be imported: {line}; `scaling run --serial` works without it")


def _bind_address() -> Check:
    """Asks Ray, told what local runs tell it, which address it would listen on."""
    code = (
        "from sweeps.launch import set_environment; set_environment(None);"
        "import ray; print(ray.util.get_node_ip_address())"
    )
    ok, address, _ = _probe(code)
    try:
        loopback = ip_address(address).is_loopback if ok else False
    except ValueError:
        ok = False
    if not ok:
        return Check("bind address", "warn", f"cannot be told: {address}")
    if not loopback:
        detail = f"local runs would listen on {address}, open to others; use --serial, or a Ray that stays on 127.0.0.1"
        return Check("bind address", "fail", detail)
    ignored = "; RAY_ADDRESS is set and ignored: --address joins a cluster" if os.environ.get("RAY_ADDRESS") else ""
    return Check("bind address", "ok", f"local runs listen on {address} only, with a token{ignored}")


def _cache() -> list[Check]:
    from scaling.paths import cache_folder

    folder = cache_folder()
    found = _writes("cache", folder, "set SCALING_CACHE to a folder that can be written")
    return [found] if found.state == "fail" else [found, _disk("disk of the cache", folder)]


def _writes(name: str, folder: Path, mend: str) -> Check:
    """Writes, syncs and links a file, as a store does, and removes it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=".scaling-probe-", dir=folder) as place:
            first, second = Path(place, "written"), Path(place, "linked")
            with first.open("wb") as file:
                file.write(os.urandom(PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
            rate = PROBE_BYTES / max(time.monotonic() - started, 1e-6)
            try:
                os.link(first, second)
            except OSError:
                detail = f"{folder}, writes {rate / 1e6:.3g} MB/s; no hard links: a crash may leave an empty file"
                return Check(name, "warn", f"{detail}, which is then put aside")
    except OSError as error:
        return Check(name, "fail", f"{folder}: cannot be written: {error.strerror}; {mend}")
    return Check(name, "ok", f"{folder}, writes {rate / 1e6:.3g} MB/s")


def _disk(name: str, folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    state: Literal["ok", "warn", "fail"] = "ok" if free > LITTLE_DISK else "warn" if free > NO_DISK else "fail"
    return Check(name, state, f"{free / 1e9:.3g} GB free at {folder}")


def _shadows(here: Path) -> list[Check]:
    """Whether another `analysis` or `sweeps` is, or in a notebook started here would be, imported instead of ours."""
    import scaling

    home = Path(str(scaling.__file__)).resolve().parent.parent
    found = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve().parent if spec is not None and spec.origin else None
        if origin != home / name:
            detail = f"`import {name}` finds {origin or 'nothing'}, not {home / name}; rename or move it"
            found.append(Check(f"package {name}", "fail", detail))
            continue
        for rival in (here / name, here / f"{name}.py"):
            ours = rival.resolve() in (home / name, home / f"{name}.py")
            if rival.exists() and not ours:
                detail = f"{rival} would be imported instead of ours by Python started in this folder; rename it"
                found.append(Check(f"package {name}", "warn", detail))
    return found or [Check("packages", "ok", f"{', '.join(PACKAGES)} are those in {home}")]
