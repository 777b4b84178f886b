"""A second corpus: loss on it against loss on the first by size, and L(N) and L(D) of models trained on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scaling.store import Store
from sweeps.studies.kaplan_parts.data import CALL
from sweeps.studies.kaplan_parts.tuned import Tuned, at_best_rates
from sweeps.studies.part import Finding, Number, Part, Picture, Scope, of_fit, records, says

if TYPE_CHECKING:
    from analysis.types import FitResult


class SecondCorpus(Part):
    """See the module."""

    name = "second_corpus"
    title = "Generalisation, and a second corpus"
    question = (
        "Does the loss on text of another kind fall with size in parallel to that on the training text (Fig. 8)? Do"
        " L(N) and L(D) of another corpus have the same exponents?"
    )
    design = (
        "The kept weights of 'Loss by size' are scored on the held-out part of the second corpus; and models are"
        " trained on it, over sizes and over unique text at one size."
    )
    sweeps = ("pydocs", "pydocs-data")
    uses = ("sizes", "seeds")
    limits = (
        "Both corpora come of the same packages: a docstring held out of the second may stand in a source file of the"
        " first. Small models that see their text less than once keep little of single documents, but the transfer"
        " is between kinds of text, not between independent worlds.",
        "Few sizes and fewer tokens than on the first corpus: exponents are compared with their intervals only.",
    )

    def measure(self, scope: Scope) -> Finding:
        """See `Part.measure`."""
        from analysis.overfitting import measure_overfitting

        first = at_best_rates(scope.rows("sizes", "seeds"), scope.where("sizes", "seeds"))
        second = at_best_rates(scope.rows("pydocs"), scope.where("pydocs"))
        own = _sizes_fit(scope, second, f"exponent of L(N), {_corpus(second)}", "alpha_N_second")
        transfer, sentences, detail = _transfer(scope, first, _trial_corpus(second))
        rows, where = scope.rows("pydocs-data"), scope.where("pydocs-data")
        data = measure_overfitting(rows, level=scope.level, bootstrap=scope.bootstrap, seed=scope.seed)
        label = f"exponent of L(D), {_corpus(second)}"
        by_data = of_fit(data.by_size[-1].fit, {"alpha": ("alpha_D_second", label)}, where, command=CALL)
        return Finding(
            numbers=(*own, *by_data, *transfer),
            pictures=(_picture(scope, first, detail, _trial_corpus(second).type),),
            says=tuple(sentences),
            detail={"data": data.by_size[-1].fit, **detail},
        )


def _picture(scope: Scope, first: Tuned, detail: dict[str, Any], other: str) -> Picture:
    from analysis.figures.marks import convention_of_rows
    from analysis.figures.transfer import plot_transfer

    own, points, fits = _corpus(first), detail.get("points", []), detail.get("fits", {})
    losses = {own: [p["loss"] for p in points], other: [p["other"] for p in points]}
    caption = "Loss of the same runs on the held-out part of their own text and of the other, by size (after Fig. 8)."
    return scope.draw(
        "second-corpus",
        caption,
        lambda: plot_transfer(
            [p["params"] for p in points], losses, dict(zip((own, other), fits.values(), strict=False)),
            convention=convention_of_rows(first.rows),
        ),
    )  # fmt: skip


def _sizes_fit(scope: Scope, tuned: Tuned, label: str, name: str) -> list[Number]:
    return of_fit(scope.fit("power:params", tuned.where), {"alpha": (name, label)}, tuned.where)


def _corpus(tuned: Tuned) -> str:
    return ", ".join(sorted(set(tuned.rows.corpus)))


def _trial_corpus(tuned: Tuned) -> Any:
    """The corpus that the runs were trained on, as their rows state it."""
    from scaling.evaluations.subject import trial_of

    return trial_of(records(tuned.rows)[0]).corpus.model_copy(update={"unique_tokens": None})


def _transfer(scope: Scope, first: Tuned, corpus: Any) -> tuple[list[Number], list[str], dict[str, Any]]:
    """Loss on the other corpus by size, beside the loss on the own, with the difference of the exponents."""
    from scaling.evaluations.measuring import measure_runs
    from scaling.evaluations.other_corpus import OtherCorpus

    store = Store.open(scope.store, write=True)
    outcome = measure_runs(store, OtherCorpus(corpus=corpus, heldout="nested"), records(first.rows))
    scores = Store.open(scope.store).evals(list(first.rows.run_id), f"other_corpus:{corpus.type}")
    scores = scores[scores.settings == outcome.settings]
    call = f"scaling evaluate store --metric other_corpus --set corpus={corpus.type} --set heldout=nested"
    if len(scores) < 3:
        left = "; ".join(sorted(set(outcome.left_out.values()))) or "no run was scored"
        from sweeps.studies.part import unknown

        missing = Number(
            "alpha_N_transfer", "exponent of the loss on the second corpus", unknown(scope.level), "too_few_points",
            first.where, len(scores), call, left,
        )  # fmt: skip
        return [missing], [f"The second corpus was not scored: {left}."], {}
    rows = first.rows.merge(scores[["run_id", "value"]], on="run_id")
    fits = {name: _fit(scope, rows.assign(loss=rows[column])) for name, column in (("own", "loss"), ("other", "value"))}
    label = "exponent of the loss on the second corpus"
    number = of_fit(fits["other"], {"alpha": ("alpha_N_transfer", label)}, first.where, command=call)
    difference = _difference(fits["other"], fits["own"], scope.level)
    parallel, why = difference.told_from()
    offset = float((rows["value"] - rows["loss"]).mean())
    side = "above" if offset > 0 else "below"
    verdict = "the losses do not fall in parallel"
    if not difference.excludes():
        verdict = "no departure from parallel is resolved"
    sentences = [
        f"On the second corpus the loss is {abs(offset):.3f} nats {side} that on the first, on average over sizes.",
        f"The exponents differ by {says(difference)}: {verdict}.",
    ]
    numbers = [
        *number,
        Number(
            "transfer_difference", "exponent on the second corpus less that on the first, same runs", difference,
            str(parallel), first.where, len(rows), call, why,
        ),
    ]  # fmt: skip
    points = [
        {"params": int(n), "loss": float(a), "other": float(b)}
        for n, a, b in zip(rows.params_non_embedding, rows["loss"], rows["value"], strict=True)
    ]
    return numbers, sentences, {"fits": fits, "points": points}


def _fit(scope: Scope, rows: Any) -> FitResult:
    """L(N) with draws that are aligned between fits of the same runs."""
    from analysis.fitting import fit

    return fit(
        rows, "power:params", count="non_embedding", bootstrap=scope.bootstrap, level=scope.level, seed=scope.seed,
        scheme="case",
    )  # fmt: skip


def _difference(a: FitResult, b: FitResult, level: float) -> Any:
    """alpha of one fit less another's, the draws paired."""
    from analysis.bootstrap import percentile
    from analysis.types import Estimate

    value = a.params["alpha"].value - b.params["alpha"].value
    if not (a.draws and b.draws):
        return Estimate(value, Estimate.missing(level).ci, level)
    return Estimate(value, percentile(a.draws["alpha"] - b.draws["alpha"], level), level)


PART = SecondCorpus()
