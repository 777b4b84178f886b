"""Commands about rows: their JSON, what they find on a known surface, and that Python gives the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_schemas import CHECK, CHOOSE, COMPARE, FIT, FIT_CURVES, FRONTIER, LIST, PREDICT, TEXT, checked, listed, obj
from cli_world import ALPHA, BETA, A, B, E, call, loss

import scaling
from analysis.approaches import list_approaches
from analysis.laws import get_law, list_laws
from scaling.cli import about


def test_fit_recovers_the_surface(here: Path) -> None:
    found = checked(FIT, "fit", "store", "--count", "non_embedding", "--bootstrap", "100")
    assert found["command"] == "scaling fit store --count non_embedding --bootstrap 100"
    assert (found["n"], found["status"]) == (15, "converged")
    truth = {"E": E, "A": A, "alpha": ALPHA, "B": B, "beta": BETA}
    for name, value in truth.items():
        lo, hi = found["params"][name]["ci"]
        width = hi - lo
        assert lo - width < value < hi + width, name
    assert call("fit", "store", "--count", "non_embedding", "--bootstrap", "0").out.startswith("chinchilla: L = E")


def test_an_honest_unidentified_is_exit_0(tmp_path: Path) -> None:
    rows = [f"1e6,{n}e7,{3 + 1 / n}" for n in range(1, 13)]
    (tmp_path / "one-size.csv").write_text("\n".join(["params,tokens,loss", *rows]))
    found = checked(FIT, "fit", tmp_path / "one-size.csv", "--bootstrap", "0")
    assert found["status"] == "unidentified"
    assert "all runs have the same params" in found["warnings"]
    assert "unidentified: all runs have the same params" in call("fit", tmp_path / "one-size.csv").out


def test_python_and_shell_give_the_same_fit(here: Path) -> None:
    shell = call("fit", "store", "--bootstrap", "50", "--seed", "3", "--json").json
    python = scaling.fit("store", law="chinchilla", bootstrap=50, seed=3)
    assert python.to_json()["params"] == shell["params"]
    assert "alpha" in repr(python)


def test_frontier(here: Path) -> None:
    found = checked(FRONTIER, "frontier", "store", "--count", "non_embedding,total", "--bootstrap", "50")
    asked = {(f["approach"], f["count"]) for f in found["frontiers"]}
    approaches = [a["name"] for a in list_approaches()]
    assert {"envelope", "isoflop", "parametric", "vpnls", "porian"} <= set(approaches)
    assert asked == {(a, c) for a in approaches for c in ("non_embedding", "total")}
    by = {(f["approach"], f["count"]): f for f in found["frontiers"]}
    assert by["envelope", "total"]["status"] == "needs_curves"
    lo, hi = by["parametric", "non_embedding"]["N_exponent"]["ci"]
    assert lo < hi
    text = call("frontier", "store", "--approach", "isoflop,parametric", "--bootstrap", "50")
    assert text.status == 0
    assert "isoflop - parametric" in text.out
    assert "\x1b" not in text.out


def test_predict(here: Path) -> None:
    best = checked(PREDICT, "predict", "store", "--flops", "3e12", "--count", "non_embedding", "--bootstrap", "50")
    run = checked(PREDICT, "predict", "store", "--params", "1e5", "--tokens", "5e6", "--count", "non_embedding")
    assert run["params"]["value"] == 1e5
    assert run["loss"]["value"] == pytest.approx(E + A * 1e5**-ALPHA + B * 5e6**-BETA, rel=0.01)
    assert best["loss"]["ci"][0] < best["loss"]["value"] < best["loss"]["ci"][1]


def test_plot_writes_four_forms(here: Path) -> None:
    found = checked(
        obj({"figures": listed(obj({"name": TEXT, "files": listed(TEXT, 4)}), 1), "skipped": listed({})}),
        *("plot", "store", "--figure", "isoflop", "--out", "out", "--bootstrap", "30"),
    )
    assert sorted(p.suffix for p in Path("out").iterdir()) == [".csv", ".pdf", ".png", ".svg"]
    assert all(Path(f).exists() for figure in found["figures"] for f in figure["files"])


def test_every_convention_side_by_side(here: Path) -> None:
    asked = ("frontier", "store", "--approach", "isoflop,vpnls", "--count", "all", "--cost", "all", "--bootstrap", "30")
    found = checked(FRONTIER, *asked)
    conventions = list(dict.fromkeys((f["count"], f["cost"]) for f in found["frontiers"]))
    wanted = {(n, c) for n in ("total", "non_embedding", "non_embedding_head") for c in ("exact", "6nd")}
    assert set(conventions) == wanted
    text = call(*asked).out
    (header,) = [line for line in text.splitlines() if "total exact" in line]
    assert header.split() == ["approach", *(word for pair in conventions for word in pair)]
    row = next(line for line in text.split(header)[1].splitlines() if line.startswith("vpnls"))
    values = [f["N_exponent"]["value"] for f in found["frontiers"] if f["approach"] == "vpnls"]
    assert [float(cell) for cell in row.split()[1:]] == pytest.approx(values, abs=6e-4)


@pytest.mark.parametrize("ending", [".png", ".svg", ""])
def test_a_fit_is_drawn_beside_its_json(here: Path, ending: str) -> None:
    found = checked(FIT, "fit", "store", "--bootstrap", "30", "--plot", f"out/it{ending}")
    assert found["status"] == "converged"
    wanted = {".csv", ending} if ending else {".csv", ".svg", ".pdf", ".png"}
    assert {p.suffix for p in Path("out").iterdir()} == wanted
    wrong = call("fit", "store", "--bootstrap", "0", "--plot", "it.jpg")
    assert wrong.status == 2
    assert "a figure is no .jpg" in wrong.err


def test_the_figures_of_a_fit_take_its_law(here: Path) -> None:
    drawn = ("plot", "store", "--figure", "fit,profile", "--law", "power_floor:tokens", "--bootstrap", "30", "--json")
    assert call(*drawn).status == 0
    header = Path("figures/fit.csv").read_text().splitlines()[0]
    assert "tokens" in header.split(",")
    assert "params" not in header.split(",")


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sweeps of four budgets: b needs twice the compute of a for any loss, with the same exponents."""
    monkeypatch.chdir(tmp_path)
    for name, waste in (("a", 1.0), ("b", 2.0)):
        lines = ["params,tokens,flops,loss"]
        for i, budget in enumerate((1e17, 3e17, 1e18, 3e18)):
            for k, step in enumerate((0.25, 0.5, 1.0, 2.0, 4.0)):
                size = step * CENTRE * budget ** (BETA / (ALPHA + BETA))
                tokens = budget / (6 * size)
                noise = 1 + 1e-4 * ((7 * i + 3 * k) % 5 - 2)
                lines.append(f"{size},{tokens},{waste * budget},{loss(size, tokens) * noise}")
        Path(f"{name}.csv").write_text("\n".join(lines))
    return tmp_path


CENTRE = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA)) * 6 ** (-BETA / (ALPHA + BETA))
"""N* = CENTRE · C^(BETA/(ALPHA + BETA)) on the known surface."""


def test_compare(two: Path) -> None:
    found = checked(COMPARE, "compare", "a.csv", "b.csv", "--same-axis", "--bootstrap", "100", "--plot", "two.png")
    assert found["exponents"]["N"]["difference"]["value"] == pytest.approx(0.0, abs=0.01)
    for point in found["multiplier"]["points"]:
        assert point["multiplier"]["value"] == pytest.approx(2.0, rel=0.02)
        assert point["verdict"] == "higher"
    assert Path("two.csv").exists()
    text = call("compare", "a.csv", "b.csv", "--bootstrap", "50")
    assert text.status == 0
    assert "compute multiplier: not_resolved" in text.err
    python = scaling.compare("a.csv", "b.csv", same_axis=True, bootstrap=100)
    assert python.to_json()["exponents"] == found["exponents"]
    drawn = call("plot", "a.csv", "--figure", "comparison", "--against", "b.csv", "--bootstrap", "50", "--json")
    assert drawn.json["figures"][0]["name"] == "comparison"


def test_choose_ranks_by_held_out_error(two: Path) -> None:
    found = checked(CHOOSE, "choose", "a.csv", "--law", "power:flops,chinchilla", "--holdout", "budget")
    assert found["best"] == "chinchilla"
    errors = [c["log_rmse"] for c in found["candidates"]]
    assert errors == sorted(errors)
    text = call("choose", "a.csv", "--law", "power:flops,chinchilla", "--holdout", "budget").out
    assert text.index("\nchinchilla") < text.index("\npower:flops")
    assert scaling.choose("a.csv", ["power:flops", "chinchilla"], holdout="budget").best == "chinchilla"


def test_check_answers_every_detector(here: Path) -> None:
    found = checked(CHECK, "check", "store", "--no-budget")
    assert {f["check"] for f in found["findings"]} == {i["name"] for i in call("list", "checks", "--json").json}
    text = call("check", "store", "--no-budget", "--check", "mixed_data,narrow_range").out
    assert "mixed_data" in text
    assert "rate_edge  " not in text
    assert repr(scaling.check("store", budget=False)).startswith("checks of store")


def test_fit_curves_recovers_the_law(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    t = np.arange(900) / 899
    runs = {"cosine": 0.5 * (1.1 + 0.9 * np.cos(np.pi * t)), "constant": np.ones(900), "linear": 1.0 - 0.9 * t}
    law, truth = get_law("annealing"), {"L0": 2.5, "A": 3.0, "alpha": 0.5, "C": 0.002, "memory": 100.0}
    lines = ["run,step,lr,loss"]
    for name, rates in runs.items():
        steps = np.arange(20, 900, 10)
        losses = law.predict(truth, rates=rates, steps=steps)
        lines += [f"{name},{s},{rates[s]},{v}" for s, v in zip(steps, losses, strict=True)]
    Path("curves.csv").write_text("\n".join(lines))
    found = checked(FIT_CURVES, "fit-curves", "curves.csv", "--law", "annealing", "--train", "cosine,constant")
    assert found["params"]["L0"]["value"] == pytest.approx(2.5, rel=0.02)
    assert {name: s["fitted"] for name, s in found["scores"].items()} == {n: n != "linear" for n in runs}
    assert found["scores"]["linear"]["r2"] > 0.99
    text = call("fit-curves", "curves.csv", "--law", "annealing", "--bootstrap", "0").out
    assert "linear" in text


def test_list_laws_shows_source_and_formula() -> None:
    found = checked(LIST, "list", "laws")
    assert [item["name"] for item in found] == [item["name"] for item in list_laws()]
    assert all(item["source"] for item in found)
    text = call("list", "laws").out
    for item in found:
        assert item["source"] in text
        assert get_law(item["name"]).formula in text


@pytest.mark.parametrize("kind", list(about.KINDS))
def test_list(kind: str) -> None:
    found = checked(LIST, "list", kind)
    assert all(item["summary"] for item in found)
    assert found[0]["name"] in call("list", kind).out


def test_list_knows_what_there_is() -> None:
    found = call("list", "--json").json
    names = {kind: {item["name"] for item in items} for kind, items in found.items()}
    assert {"causal", "masked"} <= names["objectives"]
    assert {"python-v1", "pydocs-v1", "local", "markov"} <= names["corpora"]
    assert {"isoflop", "ladder", "grid"} <= names["designs"]
    assert "hoffmann" in names["studies"]
