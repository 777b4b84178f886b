"""Figures: four forms of each, tables that hold what was computed, labels with units, equal bytes on a rerun."""

import math
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import figures, frontier, read_table
from analysis.figures import style
from analysis.figures.base import Drawn, NotDrawable, Rows, save
from analysis.figures.envelope import lower_envelope
from analysis.figures.material import Material, convention_of
from analysis.table import Runs
from analysis.types import Estimate, Frontier, FrontierPoint, Parabola, Status
from scaling.errors import InputError, TableError

SURFACE = {"E": 1.1, "A": 35.0, "alpha": 0.35, "B": 60.0, "beta": 0.33}
NAMES = ["comparison", "contours", "envelope", "fit", "frontier", "isoflop", "predicted", "prediction", "profile"]


def sweep(*, noise: float = 0.005, off_centre: float = 1.0, diverged: bool = False) -> Runs:
    """Three budgets × five sizes on a known surface, with curves, as a store gives them."""
    rng = np.random.default_rng(0)
    rows, curves = [], []
    for i, budget in enumerate((1e12, 2e12, 4e12)):
        for k, ratio in enumerate(2.0 ** np.arange(-2, 3)):
            n = round(math.sqrt(budget) / 14 * ratio * (off_centre if i == 0 else 1.0) * 1.8)
            d = round(budget / (6 * n))
            mean = SURFACE["E"] + SURFACE["A"] * n ** -SURFACE["alpha"] + SURFACE["B"] * d ** -SURFACE["beta"]
            bad = diverged and (i, k) == (1, 3)
            run = {"run_id": f"r{i}{k}", "status": "diverged" if bad else "finished", "reason": "NaN" if bad else ""}
            run |= {
                "objective": "causal",
                "tokenizer": "byte",
                "tokens": d,
                "budget": budget,
                "flops_exact": 6.0 * n * d,
            }
            run |= {f"params_{c}": n for c in ("total", "non_embedding", "non_embedding_head")}
            run |= {f"flops_6nd_{c}": 6.0 * n * d for c in ("total", "non_embedding", "non_embedding_head")}
            run |= {"loss": mean * math.exp(noise * rng.standard_normal()), "loss_se": 0.004}
            rows.append(run)
            t = np.geomspace(d / 300, d, 40)
            loss = SURFACE["E"] + SURFACE["A"] * n ** -SURFACE["alpha"] + SURFACE["B"] * t ** -SURFACE["beta"]
            curves.append(pd.DataFrame({"run_id": run["run_id"], "tokens": t, "flops": 6.0 * n * t, "loss": loss}))
    return read_table(pd.DataFrame(rows), curves=pd.concat(curves))


def estimate(value: float, half: float) -> Estimate:
    return Estimate(value, (value - half, value + half), 0.9)


SCORED = [
    figures.Scored("decoder", 1.2e13, estimate(2.02, 0.03), 2.0, 0.004, {"power_law": estimate(1.9, 0.02)}),
    figures.Scored("not yet trained", 3.6e13, estimate(2.9, 0.05), baselines={"last_two": estimate(2.84, 0.12)}),
]


@pytest.fixture(scope="module")
def material() -> Material:
    runs = sweep()
    return Material(runs, "all", "non_embedding", "exact", 1.2e13, SCORED, bootstrap=60, against=sweep(noise=0.01))


@pytest.fixture(scope="module")
def drawn(material: Material) -> dict[str, Drawn]:
    return {name: figures.get_figure(name).draw(material, 170.0) for name in NAMES}


def rows_of(table: pd.DataFrame, **where: str) -> pd.DataFrame:
    for column, value in where.items():
        table = table[table[column] == value]
    return table


def test_every_figure_is_listed_with_summary_and_source():
    listed = figures.list_figures()
    assert [f["name"] for f in listed] == NAMES
    assert all(f["summary"] and f["source"] for f in listed)


def test_unknown_figure_suggests_the_near_one():
    with pytest.raises(InputError, match=r"no figure 'isoflops' \(did you mean isoflop\?\)"):
        figures.get_figure("isoflops")


@pytest.mark.parametrize("name", NAMES)
def test_every_axis_names_its_unit_or_convention(name: str, drawn: dict[str, Drawn]):
    labels = [a.get_xlabel() for a in drawn[name].figure.axes] + [a.get_ylabel() for a in drawn[name].figure.axes]
    labels = [text for text in labels if text]
    units = ("nats per", "non-embedding parameters", "exact training FLOPs", "tokens (bytes)", "%")
    units += ("normal quantile", "log likelihood", "difference of exponents", "multiples of")
    assert labels
    assert all(any(u in text for u in units) for text in labels)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [85.0, 170.0])
def test_nothing_is_clipped_and_the_legend_covers_no_axes(name: str, width: float, material: Material):
    figure = figures.get_figure(name).draw(material, width).figure
    assert figure.get_size_inches()[0] * 25.4 == pytest.approx(width)
    renderer = figure.canvas.get_renderer()
    page = figure.bbox
    for legend in figure.legends:
        box = legend.get_window_extent(renderer)
        assert box.x0 >= page.x0 - 1
        assert box.x1 <= page.x1 + 1
        assert all(not box.overlaps(axes.get_window_extent(renderer)) for axes in figure.axes)
    labels = [label for a in figure.axes for label in (a.xaxis.label, a.yaxis.label) if label.get_text()]
    boxes = [label.get_window_extent(renderer) for label in labels]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    for axes in figure.axes:
        assert axes.xaxis.label.get_window_extent(renderer).width <= axes.bbox.width + 1
        assert axes.yaxis.label.get_window_extent(renderer).height <= axes.bbox.height + 1
        box = axes.get_tightbbox(renderer)
        assert box.x0 >= page.x0 - 1
        assert box.x1 <= page.x1 + 1
        assert box.y0 >= page.y0 - 1
        assert box.y1 <= page.y1 + 1


@pytest.mark.parametrize("name", NAMES)
def test_saved_in_four_forms_and_equal_bytes_when_drawn_again(name: str, material: Material, tmp_path: Path):
    for folder in ("one", "two"):
        paths = figures.get_figure(name).draw(material, 85.0).save(tmp_path / folder, name)
        assert [p.suffix for p in paths] == [".svg", ".pdf", ".png", ".csv"]
        assert all(p.stat().st_size > 0 for p in paths)
    for suffix in ("svg", "pdf", "png", "csv"):
        assert (tmp_path / f"one/{name}.{suffix}").read_bytes() == (tmp_path / f"two/{name}.{suffix}").read_bytes()
    assert b"<dc:date>" not in (tmp_path / f"one/{name}.svg").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_csv_reads_back_exactly(name: str, drawn: dict[str, Drawn], tmp_path: Path):
    drawn[name].save(tmp_path, name)
    back = pd.read_csv(
        tmp_path / f"{name}.csv", keep_default_na=False, na_values={c: [""] for c in _numbers(drawn[name])}
    )
    pd.testing.assert_frame_equal(back, drawn[name].table, check_dtype=False, check_exact=True)


def _numbers(drawn: Drawn) -> list[str]:
    return [c for c in drawn.table.columns if drawn.table[c].dtype == np.float64]


def test_isoflop_table_holds_the_runs_the_parabolas_and_the_minima(material: Material, drawn: dict[str, Drawn]):
    found, table = material.find("isoflop"), drawn["isoflop"].table
    runs = rows_of(table, element="run")
    assert sorted(runs["loss"]) == sorted(material.runs.loss)
    assert (runs["loss_se"] == 0.004).all()
    minima = rows_of(table, element="minimum")
    assert list(minima["params"]) == [p.params for p in found.points]
    curve = rows_of(table, element="parabola")
    for group, point in zip(found.parabolas, found.points, strict=True):
        part = curve[curve["flops"] == group.flops]
        np.testing.assert_array_equal(part["loss"], group(part["params"]))
        assert part["loss"].min() >= float(group(point.params)) - 1e-12


def test_refused_budget_is_hollow_and_keeps_its_reason():
    runs = sweep(off_centre=14.0, diverged=True)
    made = figures.plot_isoflop(frontier(runs, "isoflop", bootstrap=40)["isoflop"], runs)
    refused = rows_of(made.table, element="run", status="non_interior")
    assert len(refused) == 5
    assert refused["reason"].str.contains("smallest size").all()
    assert len(rows_of(made.table, element="minimum")) == 2
    (axes,) = made.figure.axes
    faces = [
        line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata()) == 5
    ]
    assert faces == ["white"]
    entries = [text.get_text() for text in made.figure.legends[0].get_texts()]
    assert "1e12: refused, minimum not interior" in entries
    assert "left out: 1 diverged" in entries
    assert list(rows_of(made.table, element="left out", reason="diverged: NaN")["status"]) == ["r13"]


def test_frontier_table_is_the_power_law_and_its_band(material: Material, drawn: dict[str, Drawn]):
    table = drawn["frontier"].table
    for found in material.frontiers:
        for element, low, high in (("fitted", 0.0, 4.1e12), ("extrapolated", 3.9e12, 1.3e13)):
            part = rows_of(table, panel="N*", element=element, approach=found.approach)
            assert len(part) > 20
            np.testing.assert_array_equal(part["value"], found.params(part["flops"]))
            np.testing.assert_array_equal(part["value_lo"], found.band(part["flops"])[0])
            assert part["flops"].between(low, high).all()
    assert rows_of(table, element="extrapolated")["flops"].max() == pytest.approx(1.2e13)


def test_frontier_needs_a_known_one_and_says_why_there_is_none():
    none = Estimate.missing(0.9)
    unknown = Frontier("isoflop", "total", "exact", none, none, none, none, Status.NOT_ISOFLOP, reason="no group")
    with pytest.raises(NotDrawable, match="isoflop: not_isoflop, no group"):
        figures.plot_frontier([unknown])
    with pytest.raises(NotDrawable, match="not_isoflop, no group"):
        figures.plot_isoflop(unknown)


def test_a_frontier_that_is_unknown_is_named_beside_the_known(material: Material):
    none = Estimate.missing(0.9)
    unknown = Frontier("porian", "non_embedding", "exact", none, none, none, none, Status.NEEDS_CURVES, reason="none")
    made = figures.plot_frontier([unknown, *material.frontiers])
    assert "porian: needs training curves" in [t.get_text() for t in made.figure.legends[0].get_texts()]
    assert list(rows_of(made.table, element="unknown")["approach"]) == ["porian"]


def test_contours_lie_where_the_law_has_that_loss(material: Material, drawn: dict[str, Drawn]):
    lines = rows_of(drawn["contours"].table, element="contour")
    tokens = lines["flops"] / (6 * lines["params"])
    loss = material.fit.predict(params=lines["params"].to_numpy(), tokens=tokens.to_numpy())
    np.testing.assert_allclose(loss, lines["loss"], rtol=2e-4)
    runs = rows_of(drawn["contours"].table, element="run")
    np.testing.assert_array_equal(runs["loss"], material.runs.loss)


def test_predicted_table_is_the_fit(material: Material, drawn: dict[str, Drawn]):
    runs = rows_of(drawn["predicted"].table, element="run")
    np.testing.assert_array_equal(runs["predicted"], material.fit.data["predicted"])
    np.testing.assert_allclose(runs["residual_percent"], 100 * np.log(runs["observed"] / runs["predicted"]))


def test_prediction_errors_and_an_unobserved_one(drawn: dict[str, Drawn]):
    table = drawn["prediction"].table
    law = rows_of(table, prediction="decoder", element="law").iloc[0]
    assert law["error_percent"] == pytest.approx(1.0)
    assert (law["error_lo"], law["error_hi"]) == (pytest.approx(-0.5), pytest.approx(2.5))
    assert rows_of(table, prediction="decoder", element="power_law")["error_percent"].iloc[0] == pytest.approx(-5.0)
    later = rows_of(table, prediction="not yet trained")
    assert set(later["element"]) == {"law", "last_two"}
    assert later["error_percent"].isna().all()


def test_lower_envelope_never_rises_and_is_the_least_of_the_curves():
    c = np.geomspace(1e9, 1e12, 50)
    small, large = (c[:40], 3.0 + (c[:40] / 1e9) ** -0.5), (c, 2.0 + (c / 1e9) ** -0.2 + 1.0)
    grid, least = lower_envelope([small, large])
    assert (np.diff(least) <= 0).all()
    assert least[-1] == pytest.approx(min(small[1].min(), large[1].min()))
    assert (least <= np.interp(np.log(grid), np.log(c), large[1]) + 1e-12).all()


def test_envelope_without_curves_says_so():
    plain = pd.DataFrame({"params": [1e4, 2e4, 4e4], "tokens": [1e6, 1e6, 1e6], "loss": [3.0, 2.8, 2.7]})
    with pytest.raises(NotDrawable, match="envelope needs training curves: table has none"):
        figures.plot(plain, "envelope")


def test_plot_writes_what_can_be_drawn_and_names_what_cannot(tmp_path: Path):
    runs = sweep().frame[["params_total", "tokens", "loss", "flops_exact"]]
    plain = runs.rename(columns={"params_total": "params", "flops_exact": "flops"})
    made = figures.plot(plain, out=tmp_path, bootstrap=40, prefix="decoder-", width_mm=85.0)
    assert set(made.drawn) == {"contours", "fit", "frontier", "isoflop", "predicted", "profile"}
    assert set(made.skipped) == {"comparison", "envelope", "prediction"}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        f"decoder-{n}.{s}" for n in made.drawn for s in ("svg", "pdf", "png", "csv")
    )
    assert made.drawn["isoflop"].figure.axes[0].get_xlabel() == "N, parameters as the table gives them"


def test_results_already_made_are_drawn_and_not_made_again(material: Material, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("analysis.frontiers.frontier", lambda *a, **k: pytest.fail("made again"))
    monkeypatch.setattr("analysis.fitting.fit", lambda *a, **k: pytest.fail("made again"))
    made = figures.plot(
        material.runs, "frontier, predicted", count="non_embedding", frontiers=material.frontiers, fit=material.fit
    )
    assert list(made.drawn) == ["frontier", "predicted"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width_mm": 20.0}, "width 20 mm"),
        ({"target": -1.0}, "target -1.0 is not a positive"),
        ({"figures": []}, "empty list of figures"),
        ({"figures": "isoflop,nothing"}, "no figure 'nothing'"),
    ],
)
def test_wrong_options_are_one_clear_error(options: dict, message: str, material: Material):
    with pytest.raises(InputError, match=message):
        figures.plot(material.runs, **options)


def test_empty_runs_are_one_clear_error(material: Material):
    with pytest.raises(TableError, match="no rows"):
        figures.plot(pd.DataFrame({"params": [], "tokens": [], "loss": []}))
    with pytest.raises(InputError, match="no runs to draw"):
        figures.plot(material.runs.take(np.zeros(len(material.runs), bool)))
    with pytest.raises(NotDrawable, match="needs predictions"):
        figures.plot_prediction([])


def test_unwritable_folder_is_named(drawn: dict[str, Drawn], tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write the figure isoflop"):
        save(drawn["isoflop"].figure, drawn["isoflop"].table, tmp_path / "file", "isoflop")


def test_single_seed_single_group_still_draws():
    params, budget = np.array([1e4, 2e4, 4e4]), 1e12
    group = Parabola(
        budget,
        params,
        budget / (6 * params),
        np.array([2.1, 2.0, 2.1]),
        math.log(2e4),
        (2.0, 0.0, 0.2),
        Status.CONVERGED,
    )
    none = Estimate.missing(0.9)
    point = FrontierPoint(budget, 2e4, budget / 1.2e5, 2.0, Status.CONVERGED)
    found = Frontier(
        "isoflop", "total", "6nd", none, none, none, none, Status.TOO_FEW_POINTS, (point,), parabolas=(group,)
    )
    made = figures.plot_isoflop(found)
    assert rows_of(made.table, element="minimum")[["params", "loss"]].to_numpy().tolist() == [[2e4, 2.0]]
    assert made.figure.legends[0].get_title().get_text() == "budget C, training FLOPs as 6ND:"


def test_conventions_of_a_store_and_of_a_plain_table():
    runs = sweep()
    assert convention_of(runs, "non_embedding", "exact").tokens_label() == "D, tokens (bytes)"
    masked = Runs(runs.frame.assign(objective="masked"), "masked", runs.labels)
    assert convention_of(masked, "total", "exact").loss_label() == "held-out loss, nats per masked byte"
    plain = read_table(pd.DataFrame({"params": [1e4], "tokens": [1e6], "loss": [3.0]}))
    assert convention_of(plain, "total", "exact").flops_label() == "C, training FLOPs as 6ND"


def test_tick_labels_read_as_numbers_are_written():
    assert [style.si_number(v) for v in (500, 1e3, 1.5e5, 1e6, 2.5e9, 1e12)] == [
        "500",
        "1k",
        "150k",
        "1M",
        "2.5B",
        "1T",
    ]
    assert [style.power_number(v) for v in (1e12, 2e12, 1.5e13, 9.999e11)] == ["1e12", "2e12", "1.5e13", "1e12"]
    assert [style.signed_number(v) for v in (-0.5, 0.0, 2.5)] == ["−0.5", "0", "+2.5"]


@pytest.mark.parametrize(
    ("low", "high"), [(1e4, 1.2e5), (3e4, 9e5), (1e10, 1e24), (2.1, 2.6), (1e6, 1.05e6), (7e12, 8e12)]
)
def test_every_log_range_has_three_to_fifteen_ticks_inside(low: float, high: float):
    ticks = style.LogTicks(style.si_number).tick_values(low, high)
    assert 3 <= len(ticks) <= 15
    assert min(ticks) >= low * (1 - 1e-6)
    assert max(ticks) <= high * (1 + 1e-6)


def test_one_decade_is_labelled_at_two_and_five():
    assert style.LogTicks(style.si_number).tick_values(1e5, 1e6) == pytest.approx([1e5, 2e5, 5e5, 1e6])


def test_rows_refuse_columns_that_were_not_declared():
    with pytest.raises(KeyError, match="tokens"):
        Rows(["element"], ["loss"]).add(element="run", tokens=3.0)


def test_the_callers_matplotlib_settings_are_left_alone(material: Material):
    import matplotlib

    with matplotlib.rc_context({"font.size": 31.0}):
        figures.get_figure("isoflop").draw(material, 85.0)
        assert matplotlib.rcParams["font.size"] == 31.0


def test_importing_the_package_does_not_import_matplotlib():
    code = "import sys, analysis.figures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    code = (
        "import sys; from analysis import figures; figures.list_figures(); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
