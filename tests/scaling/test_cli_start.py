"""Starting fast: which heavy modules each command imports in a new process, and its processor time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_world import SWEEP, fill, write_text

HEAVY = ("torch", "ray", "datasets")

PROBE = """
import sys, time
sys.argv = ["scaling", *{arguments!r}]
from scaling.cli.main import main
try:
    main()
except SystemExit as error:
    status = error.code
print("\\nPROBE", status, time.process_time(), *(m for m in {heavy!r} if m in sys.modules), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep and its full store; and 240 runs in a CSV."""
    place = tmp_path_factory.mktemp("start")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALING_CACHE", str(place / "cache"))
        patch.chdir(place)
        write_text(place / "text.txt")
        (place / "sweep.yaml").write_text(SWEEP.format(text="text.txt"))
        fill(Path("sweep.yaml"), Path("runs/little"))
    rows = ["params,tokens,loss"]
    for i in range(240):
        size, data = 10 ** (7 + 2 * (i % 16) / 15), 10 ** (8.5 + 2 * (i // 16) / 14)
        rows.append(f"{size},{data},{1.8 + 480 / size**0.35 + 2100 / data**0.37 + 0.002 * ((i * 7919) % 13 - 6)}")
    (place / "table.csv").write_text("\n".join(rows))
    return place


def probe(folder: Path, *arguments: str) -> tuple[float, list[str]]:
    """Processor seconds of a command in a new process, and the heavy modules it imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(arguments=list(arguments), heavy=HEAVY)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "SCALING_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
    )
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("PROBE")]
    _, status, seconds, *heavy = line.split()
    assert status == "0", done.stderr
    return float(seconds), heavy


@pytest.mark.alone
def test_a_fit_costs_little_beside_the_imports_that_it_needs(folder: Path) -> None:
    """Of a table of 240 runs with its intervals, in units of what the same libraries take to import here."""
    code = "import time, numpy, pandas, pyarrow.parquet, scipy.optimize; print(time.process_time())"
    imports = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    )
    seconds, heavy = min(probe(folder, "fit", "table.csv", "--json") for _ in range(2))
    assert heavy == []
    assert seconds < 2.5 * imports


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [
        pytest.param(["--help"], 0.5, marks=pytest.mark.alone),
        pytest.param(["fit", "--help"], 0.5, marks=pytest.mark.alone),
        (["fit", "table.csv", "--json"], None),
        (["frontier", "table.csv", "--bootstrap", "50"], None),
        (["predict", "table.csv", "--flops", "1e20", "--bootstrap", "50"], None),
        (["compare", "table.csv", "table.csv", "--approach", "vpnls", "--bootstrap", "30"], None),
        (["choose", "table.csv", "--law", "chinchilla,power:flops"], None),
        (["check", "table.csv", "--no-budget"], None),
        (["plot", "table.csv", "--figure", "fit", "--law", "power_floor:flops", "--bootstrap", "30"], None),
        (["plot", "runs/little", "--figure", "isoflop", "--bootstrap", "30"], None),
        (["status", "runs/little"], None),
        (["status", "runs/little", "--sweep", "sweep.yaml"], None),
        (["plan", "sweep.yaml"], None),
        pytest.param(["run", "sweep.yaml"], 2.0, marks=pytest.mark.alone),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_no_command_that_trains_nothing_imports_torch_or_ray(
    folder: Path, arguments: list[str], limit: float | None
) -> None:
    seconds, heavy = probe(folder, *arguments)
    assert heavy == []
    # Processor time, not wall time; and alone on the machine, since cores that share their units slow each other.
    assert limit is None or seconds < limit
