"""The three panels of the paper's Fig. 1 (also Fig. 11.9.9 of Dive into Deep Learning): compute, data, parameters."""

from __future__ import annotations

from sweeps.studies.part import Finding, Part, Scope


class Panels(Part):
    """See the module."""

    name = "panels"
    title = "Loss by compute, data and size"
    question = "Compute, data and parameters: three straight lines (Fig. 1; Fig. 11.9.9 of Dive into Deep Learning)?"
    design = (
        "The three panels of the paper's first figure from the runs below, log–log, with each law and the band of its"
        " mean. Small triangles have the published slopes, for orientation; they are no lines to lie on. Numbers"
        " and intervals stand in the sections."
    )
    uses = ("sizes", "seeds", "data", "batch")
    limits = ("A line that looks straight over so short a range is no power law yet: see the limits of each section.",)

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.figures.kaplan_panels import plot_kaplan_panels

        given = scope.handed_on
        laws = [given[name] for name in ("power", "power_floor") if str(given[name].status) == "converged"]
        caption = "Held-out loss by compute, by unique data and by size (after Fig. 1 of Kaplan et al.)."
        picture = scope.draw(
            "panels",
            caption,
            lambda: plot_kaplan_panels(given["compute"], given["overfitting"], laws or None),
        )
        return Finding(pictures=(picture,))


PART = Panels()
