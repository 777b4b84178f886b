"""The house rules: who imports whom, what starts without torch or Ray, and that the built wheel works."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ANALYSIS_MAY_TAKE = ("scaling.store", "scaling.accounting", "scaling.errors", "scaling.spec")
SWEEPS_WITH_ANALYSIS = ("sweeps/plan", "sweeps/power.py", "sweeps/studies/")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every absolute name that a file imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def takes(path: Path, package: str) -> set[str]:
    return {name for name in imported(path) if name == package or name.startswith(f"{package}.")}


def test_analysis_takes_only_the_store_and_the_accounting() -> None:
    for path in modules("analysis"):
        assert not takes(path, "torch") | takes(path, "ray") | takes(path, "sweeps"), path
        for name in takes(path, "scaling") - {"scaling"}:
            assert name.startswith(ANALYSIS_MAY_TAKE), f"{path} takes {name}"


def test_scaling_takes_nothing_from_the_others_but_inside_commands() -> None:
    for path in modules("scaling"):
        relative = path.relative_to(ROOT).as_posix()
        if relative.startswith("scaling/cli/") or relative == "scaling/__init__.py":
            top = ast.parse(path.read_text())
            top.body = [n for n in top.body if isinstance(n, (ast.Import, ast.ImportFrom))]
            names = {a.name for n in top.body if isinstance(n, ast.Import) for a in n.names}
            names |= {n.module or "" for n in top.body if isinstance(n, ast.ImportFrom)}
            assert not [n for n in names if n.split(".")[0] in ("analysis", "sweeps", "torch", "ray")], path
        else:
            assert not takes(path, "analysis") | takes(path, "sweeps") | takes(path, "ray"), path


def test_only_the_launcher_takes_ray_and_only_planner_and_studies_take_analysis() -> None:
    for path in modules("sweeps"):
        relative = path.relative_to(ROOT).as_posix()
        if takes(path, "ray"):
            assert relative == "sweeps/launch.py"
        if takes(path, "analysis"):
            assert relative.startswith(SWEEPS_WITH_ANALYSIS), relative


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import scaling, analysis, sweeps", ["torch", "ray", "pandas", "scipy", "matplotlib"]),
        ("from analysis import fit, frontier, predict", ["torch", "ray", "matplotlib"]),
        ("import sweeps.run, sweeps.plan, sweeps.schema", ["torch", "ray"]),
        ("from scaling.job_runner import JobRunner", ["ray"]),
    ],
)
def test_nothing_heavy_is_imported_early(statement: str, absent: list[str]) -> None:
    code = f"{statement}; import sys, json; print(json.dumps([m for m in {absent} if m in sys.modules]))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(out.stdout) == []


def test_files_state_what_they_are() -> None:
    for package in ("scaling", "sweeps", "analysis"):
        for path in modules(package):
            assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


@pytest.mark.slow
def test_the_built_wheel_gives_a_working_command(tmp_path: Path) -> None:
    """Built from a copy, installed without dependencies beside this environment's, run outside the checkout."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "scaling", "sweeps", "analysis"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, source / name)
    dist = tmp_path / "dist"
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist), str(source)]
    subprocess.run(build, check=True, capture_output=True, cwd=tmp_path)
    (wheel,) = dist.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv/bin/python"
    site = next((tmp_path / "venv/lib").glob("python*/site-packages"))
    # A path added this way does not run that folder's own .pth files, so the editable install stays out of sight.
    here = [p for p in sys.path if p.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(here))
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)

    def scaling(*arguments: str) -> str:
        done = subprocess.run(
            [str(tmp_path / "venv/bin/scaling"), *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": ""},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [str(python), "-c", "import scaling; print(scaling.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert str(tmp_path) in where.stdout
    assert scaling("--version").strip()
    assert {"name", "summary", "source"} == set(json.loads(scaling("list", "laws", "--json"))[0])
    studies = [s["name"] for s in json.loads(scaling("list", "studies", "--json"))]
    assert studies == ["frontier", "gap", "hoffmann", "kaplan", "objectives", "repetition"]
    assert json.loads(scaling("schema"))["type"] == "object"
    scaling("init", "sweep.yaml")
    names = subprocess.run([sys.executable, "-m", "zipfile", "-l", str(wheel)], capture_output=True, text=True).stdout
    for file in ("sweeps/hoffmann-decoder-toy.yaml", "sweeps/studies/hoffmann.md.jinja", "corpora/python_v1.json"):
        assert file in names


def test_the_readme_shows_what_the_study_measured() -> None:
    """Its table is made from the committed fits, its pictures exist, and its two commands are the Makefile's."""
    from sweeps.studies.hoffmann_page import summary_table

    readme = (ROOT / "README.md").read_text()
    result = json.loads((ROOT / "results/hoffmann-toy/fits.json").read_text())
    assert result["complete"]
    assert summary_table(result) in readme
    pictures = [line.split("](")[1].rstrip(")") for line in readme.splitlines() if line.startswith("![")]
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)
    for title, page in (("Kaplan's curves", "kaplan-toy"), ("A frontier, rung by rung", "frontier-toy")):
        section = readme.split(f"\n## {title}")[1].split("\n## ")[0]
        rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| quantity")]
        assert len(rows) > 5
        lines = set((ROOT / "results" / page / "README.md").read_text().splitlines())
        # A part with nothing published to compare with has no column for it on its page.
        assert not [row for row in rows if row not in lines and row.removesuffix("  |") not in lines], page
    targets = (ROOT / "Makefile").read_text()
    for command in ("reproduce", "test"):
        assert f"make {command} " in readme
        assert f"\n{command}: install" in targets
