"""The critical batch: steps against tokens to fixed losses, B_crit(L), and the gradient's noise scale beside it."""

from __future__ import annotations

from sweeps.studies.part import CONVERGED, Finding, Number, Part, Scope, of_fit, says, show, unknown


class Batch(Part):
    """See the module."""

    name = "batch"
    title = "The critical batch size"
    question = (
        "To reach a loss, how are steps traded for tokens by the batch (§5.1, Fig. 18), and how does the batch at"
        " which both are twice their least grow as the loss falls (eq. 1.4, Fig. 10)?"
    )
    design = (
        "One size, batches a factor 2 apart, a constant rate tuned at each batch (a best rate at the edge of those"
        " tried is left out), averaged weights, so that every step reads as the end of a run; tokens grow with the"
        " batch. A loss at which steps span less than 5× is refused. The gradient's noise scale is measured along"
        " the same runs."
    )
    sweeps = ("batch", "batch-seeds")
    limits = (
        "One size: that B_crit depends on the loss alone, and not on the size, is taken from the paper.",
        "Losses within reach of every batch span well under a factor 2, so that the exponent 1/α_B rests on a short"
        " lever.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.critical_batch import measure_critical_batch
        from analysis.figures.critical_batch import plot_critical_batch
        from analysis.noise_scale import noise_scale

        rows, where = scope.rows(*self.sweeps), scope.where(*self.sweeps)
        curves = scope.curves(rows)
        found = measure_critical_batch(rows, curves, level=scope.level, bootstrap=scope.bootstrap, seed=scope.seed)
        scope.handed_on["critical_batch"] = found
        noise = noise_scale(scope.evals(rows), curves, [t.target for t in found.targets] or None, level=scope.level)
        call = "analysis.critical_batch.measure_critical_batch(rows, curves)"
        numbers = [
            Number(
                f"B_crit_{t.target:.3f}", f"B_crit at a loss of {t.target:.3f}", t.B_crit, str(t.status), where,
                len(t.points), call, t.reason, "tokens",
            )
            for t in found.targets
        ]  # fmt: skip
        wanted = {"alpha_B": ("alpha_B", "α_B of B_crit ∝ L^(−1/α_B)"), "B": ("B_star", "B_crit at 1 nat")}
        if found.law is not None:
            numbers += of_fit(found.law, wanted, where, published={"alpha_B": 0.21}, command=call)
        else:
            numbers += [
                Number(name, label, unknown(scope.level), str(found.status), where, 0, call, found.reason)
                for name, label in wanted.values()
            ]
        numbers += [
            Number(
                f"noise_scale_{p.loss:.3f}", f"gradient's noise scale at a loss of {p.loss:.3f}", p.noise_scale,
                str(noise.status), where, p.runs, "analysis.noise_scale.noise_scale(evals, curves)", noise.reason,
                "tokens",
            )
            for p in noise.points
        ]  # fmt: skip
        return Finding(
            numbers=tuple(numbers),
            pictures=(
                scope.draw(
                    "batch-critical",
                    "Steps against tokens to fixed losses with their hyperbolas, and the critical batch by loss.",
                    lambda: plot_critical_batch(found, noise),
                ),
            ),
            says=_sentences(found, noise),
            detail={"critical_batch": found, "noise_scale": noise},
        )


def _sentences(found: object, noise: object) -> tuple[str, ...]:
    """How many targets gave a critical batch, what the law says, and how the noise scale compares."""
    targets = found.targets  # type: ignore[attr-defined]
    kept = [t for t in targets if str(t.status) == CONVERGED]
    text = [f"{len(kept)} of {len(targets)} losses give a critical batch."]
    law = found.law  # type: ignore[attr-defined]
    if law is not None:
        text.append(f"α_B = {says(law.params['alpha_B'])}.")
    by_loss = {p.loss: p.noise_scale for p in noise.points}  # type: ignore[attr-defined]
    ratios = [by_loss[t.target].value / t.B_crit.value for t in kept if t.target in by_loss and t.B_crit.known]
    if ratios:
        text.append(
            f"The gradient's noise scale is {show(min(ratios))} to {show(max(ratios))} times the measured B_crit at"
            " the same losses."
        )
    return tuple(text)


PART = Batch()
