"""Figures of Kaplan's relations: tables hold what was measured, axes name their units, nothing overlaps or is cut."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kaplan_results import results

from analysis import fit
from analysis.figures.base import Drawn, NotDrawable
from analysis.figures.compute_trends import FIELDS, plot_compute_trends
from analysis.figures.critical_batch import plot_critical_batch
from analysis.figures.kaplan_panels import plot_kaplan_panels
from analysis.figures.learning_curves import plot_learning_curves
from analysis.figures.marks import convention_of_rows
from analysis.figures.overfitting import plot_overfitting
from analysis.figures.positions import plot_positions
from analysis.figures.rates import plot_rates
from analysis.figures.sample_efficiency import plot_sample_efficiency
from analysis.figures.shapes import plot_shapes
from analysis.figures.transfer import plot_transfer

R: Any = results
SIZES = [1e4, 3e4, 1e5, 3e5]
OTHER = {"own": [2.0, 1.8, 1.6, 1.45], "other": [2.3, 2.05, 1.84, 1.66]}


def tuning_rows(seeds: int = 2) -> pd.DataFrame:
    """Two sizes, two batches, three rates: the best of the larger batch is the highest rate."""
    cells = [(n, b, lr, s) for n in (1e4, 1e5) for b in (256, 512) for lr in (1e-3, 2e-3, 4e-3) for s in range(seeds)]
    table = pd.DataFrame(cells, columns=["params_non_embedding", "batch_tokens", "lr", "seed"])
    best = table["batch_tokens"].map({256: 2e-3, 512: 8e-3})
    table["loss"] = 1.7 + 0.05 * np.log(table["lr"] / best) ** 2 + 0.01 * table["seed"]
    return table.assign(tokenizer="byte", objective="causal")


def transfer(**options: Any) -> Drawn:
    fits = {
        k: fit(pd.DataFrame({"params": SIZES, "loss": v}), "power", x="params", bootstrap=0) for k, v in OTHER.items()
    }
    return plot_transfer(SIZES, OTHER, fits, convention=convention_of_rows(tuning_rows()), **options)


FIGURES: dict[str, Callable[..., Drawn]] = {
    "compute_trends": lambda **o: plot_compute_trends(R()["compute"], **o),
    "critical_batch": lambda **o: plot_critical_batch(R()["critical_batch"], R()["noise_scale"], **o),
    "kaplan_panels": lambda **o: plot_kaplan_panels(R()["compute"], R()["overfitting"], R()["params"], **o),
    "learning_curves": lambda **o: plot_learning_curves(R()["learning_curves"], **o),
    "overfitting": lambda **o: plot_overfitting(R()["overfitting"], **o),
    "positions": lambda **o: plot_positions(R()["positions"], **o),
    "rates": lambda **o: plot_rates(tuning_rows(), line="batch_tokens", panel="params_non_embedding", **o),
    "sample_efficiency": lambda **o: plot_sample_efficiency(R()["sample_efficiency"], **o),
    "shapes": lambda **o: plot_shapes(R()["shapes"], **o),
    "transfer": transfer,
}


@pytest.fixture(scope="module")
def drawn() -> dict[str, Drawn]:
    return {name: make() for name, make in FIGURES.items()}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("width", [85.0, 170.0])
def test_nothing_is_clipped_or_overlaps(name: str, width: float, drawn: dict[str, Drawn]):
    figure = drawn[name].figure if width == 170.0 else FIGURES[name](width_mm=width).figure
    assert figure.get_size_inches()[0] * 25.4 == pytest.approx(width)
    renderer, page = figure.canvas.get_renderer(), figure.bbox
    for legend in figure.legends:
        box = legend.get_window_extent(renderer)
        assert box.x0 >= page.x0 - 1
        assert box.x1 <= page.x1 + 1
        assert all(not box.overlaps(axes.get_window_extent(renderer)) for axes in figure.axes)
    labels = [label for a in figure.axes for label in (a.xaxis.label, a.yaxis.label) if label.get_text()]
    boxes = [label.get_window_extent(renderer) for label in labels]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    for axes in figure.axes:
        box = axes.get_tightbbox(renderer)
        assert box.x0 >= page.x0 - 1
        assert box.x1 <= page.x1 + 1
        assert box.y0 >= page.y0 - 1
        assert box.y1 <= page.y1 + 1


@pytest.mark.parametrize("name", FIGURES)
def test_every_axis_names_its_unit_or_convention(name: str, drawn: dict[str, Drawn]):
    units = ("nats per byte", "non-embedding parameters", "exact training FLOPs", "tokens (bytes)", "%", "steps")
    units += ("d_model/n_layer", "d_ff/d_model", "d_model/n_head", "learning rate")
    labels = [t for a in drawn[name].figure.axes for t in (a.get_xlabel(), a.get_ylabel()) if t]
    assert len(labels) >= {"rates": 3, "transfer": 2}.get(name, 4)  # one y axis for all panels; one panel
    assert all(any(u in text for u in units) for text in labels)


@pytest.mark.parametrize("name", FIGURES)
def test_csv_reads_back_exactly_and_holds_no_empty_table(name: str, drawn: dict[str, Drawn], tmp_path: Path):
    table = drawn[name].table
    assert len(table)
    from analysis.figures.base import save

    save(drawn[name].figure, table, tmp_path, name, ())
    numbers = [c for c in table.columns if table[c].dtype == np.float64]
    back = pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False, na_values={c: [""] for c in numbers})
    pd.testing.assert_frame_equal(back, table, check_dtype=False, check_exact=True)


def test_hyperbolas_satisfy_their_equation_and_the_law_is_the_fit(drawn: dict[str, Drawn]):
    table, found = drawn["critical_batch"].table, R()["critical_batch"]
    curve = table[table["element"] == "hyperbola"]
    for t in found.targets:
        part = curve[curve["target"] == t.target]
        if len(part):
            product = (part["steps"] / t.S_min.value - 1) * (part["tokens"] / t.E_min.value - 1)
            np.testing.assert_allclose(product, 1.0, rtol=1e-9)
    law = table[table["element"] == "law"]
    np.testing.assert_array_equal(law["value"], found.law.predict(loss=law["target"].to_numpy()))
    assert (law["lo"] <= law["value"]).all()
    assert len(table[table["element"] == "noise scale"]) == len(R()["noise_scale"].points)


def test_the_three_panels_hold_their_laws_and_the_published_slopes(drawn: dict[str, Drawn]):
    made, found = drawn["kaplan_panels"], R()["compute"]
    table = made.table
    for name, frontier in (("C", found.naive), ("C_min", found.adjusted)):
        part = table[table["element"] == f"law over {name}"]
        np.testing.assert_array_equal(part["value"], frontier.law.predict(flops=part["x"].to_numpy()))
    sizes = table[(table["panel"] == "params") & (table["element"] == "law")]
    assert list(dict.fromkeys(sizes["law"])) == ["power", "power_floor"]
    texts = [t.get_text() for a in made.figure.axes for t in a.texts]
    assert {"−0.050", "−0.095", "−0.076"} <= set(texts)
    assert not set(table["element"]) & {"published"}
    assert "slopes of Kaplan et al. 2020 (nats/BPE token)" in [t.get_text() for t in made.figure.legends[0].get_texts()]
    triangle = next(line for line in made.figure.axes[2].lines if len(line.get_xdata()) == 4)
    x, y = np.log(triangle.get_xdata()), np.log(triangle.get_ydata())
    assert (y[1] - y[0]) / (x[1] - x[0]) == pytest.approx(-0.076)


def test_panels_without_a_measurement_say_so():
    made = plot_kaplan_panels(params=R()["params"][0])
    texts = [t.get_text().replace("\n", " ") for a in made.figure.axes for t in a.texts]
    assert "no frontier over compute was measured" in texts
    assert "no law over unique data was measured" in texts
    with pytest.raises(NotDrawable, match="needs a law"):
        plot_kaplan_panels()


def test_censored_sizes_are_drawn_apart(drawn: dict[str, Drawn]):
    table, found = drawn["sample_efficiency"].table, R()["sample_efficiency"]
    censored = [r for r in found.reaches if r.censored]
    tokens = table[(table["panel"] == "tokens") & (table["element"] == "censored")]
    assert censored
    assert sorted(tokens["value"]) == sorted(r.at_least for r in censored)
    steps = table[(table["panel"] == "steps") & (table["element"] == "censored")]
    assert sorted(steps["value"]) == pytest.approx(sorted(r.at_least / 512 for r in censored))
    assert len(tokens) + (table[table["panel"] == "tokens"]["element"] == "reached").sum() == len(found.reaches)


def test_overfits_shapes_and_gaps_are_those_measured(drawn: dict[str, Drawn]):
    over = drawn["overfitting"].table
    points = over[(over["panel"] == "b") & (over["element"] == "run mean")]
    known = [p for p in R()["overfitting"].points if p.overfit.known]
    np.testing.assert_allclose(points["value"], [100 * p.overfit.value for p in known])
    shapes = drawn["shapes"].table
    assert list(shapes["effect_percent"]) == [e.effect_percent.value for e in R()["shapes"].effects]
    gaps = drawn["positions"].table
    measured = [b.gap_percent.value for c in R()["positions"].comparisons for b in c.bins]
    assert list(gaps[gaps["panel"] == "b"]["value"]) == measured


def test_points_of_every_frontier_are_drawn_and_only_resolved_laws(drawn: dict[str, Drawn]):
    table, found = drawn["compute_trends"].table, R()["compute"]
    for f in (found.naive, found.adjusted):
        for name, trend in f.trends.items():
            part = table[(table["panel"] == name) & (table["frontier"] == f.kind)]
            points = part[part["element"] == "point"]
            assert list(points["value"]) == [getattr(p, FIELDS[name]) for p in f.points]
            law = part[part["element"] == "law"]
            assert bool(len(law)) == (str(trend.status) == str(f.status) == "converged")
            if len(law):
                slope = np.diff(np.log(law["value"]))[0] / np.diff(np.log(law["flops"]))[0]
                assert slope == pytest.approx(trend.exponent.value)


def test_rates_are_means_over_seeds_and_an_edge_is_hollow(drawn: dict[str, Drawn]):
    table, rows = drawn["rates"].table, tuning_rows()
    means = table[table["element"] == "mean"]
    assert set(means["runs"]) == {2.0}
    expected = np.exp(
        np.log(rows["loss"]).groupby([rows["params_non_embedding"], rows["batch_tokens"], rows["lr"]]).mean()
    )
    np.testing.assert_allclose(sorted(means["loss"]), sorted(expected))
    large = [line for line in drawn["rates"].figure.axes[0].lines if line.get_marker() == "o"]
    assert [line.get_color() == "white" for line in large] == [False, True]


def test_transfer_has_each_text_s_runs_and_law(drawn: dict[str, Drawn]):
    table = drawn["transfer"].table
    for text, losses in OTHER.items():
        assert list(table[(table["text"] == text) & (table["element"] == "run")]["loss"]) == losses
    assert "nats per byte" in drawn["transfer"].figure.axes[0].get_ylabel()


def test_nothing_to_draw_is_one_clear_reason():
    with pytest.raises(NotDrawable, match="compute_trends needs a frontier"):
        plot_compute_trends(replace(R()["compute"], naive=replace(R()["compute"].naive, points=()), adjusted=None))
    with pytest.raises(NotDrawable, match="compute_trends needs a frontier"):
        plot_compute_trends(replace(R()["compute"], naive=replace(R()["compute"].naive, trends={}), adjusted=None))
    with pytest.raises(NotDrawable, match="rates needs two learning rates"):
        plot_rates(tuning_rows()[lambda t: t["lr"] == 1e-3], line="batch_tokens")
    with pytest.raises(NotDrawable, match="transfer needs runs"):
        plot_transfer([], {"own": [], "other": []}, {})
    with pytest.raises(NotDrawable, match="critical_batch needs targets"):
        plot_critical_batch(replace(R()["critical_batch"], targets=()))
    with pytest.raises(NotDrawable, match="positions needs losses"):
        plot_positions(replace(R()["positions"], fits=()))
    with pytest.raises(NotDrawable, match="shapes needs two shapes"):
        plot_shapes(replace(R()["shapes"], effects=()))
    with pytest.raises(NotDrawable, match="overfitting needs runs"):
        plot_overfitting(replace(R()["overfitting"], points=()))
    with pytest.raises(NotDrawable, match="needs a target that was reached"):
        plot_sample_efficiency(replace(R()["sample_efficiency"], reaches=()))
