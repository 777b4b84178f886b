"""What every figure of several panels must keep: nothing cut at the page's edge, no legend on an axes."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure


def check_nothing_is_cut(figure: Figure) -> None:
    """Axes with their labels lie within the page, legends of the figure beside them."""
    canvas: Any = figure.canvas
    renderer, page = canvas.get_renderer(), figure.bbox
    for axes in figure.axes:
        box = axes.get_tightbbox(renderer)
        assert box is not None
        assert box.x0 >= page.x0 - 1
        assert box.x1 <= page.x1 + 1
        assert box.y0 >= page.y0 - 1
        assert box.y1 <= page.y1 + 1
    for legend in figure.legends:
        assert all(
            not legend.get_window_extent(renderer).overlaps(axes.get_window_extent(renderer)) for axes in figure.axes
        )
