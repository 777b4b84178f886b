"""A study made of parts: each part its sweeps, fits, figures and a section of the page; all share one store.

Parts train one after another, so that a call that runs out of time leaves whole parts behind; one whose runs are not
all there is said to be not yet measured.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from scaling.provenance import environment, version
from scaling.store import Store, compact
from sweeps.include import FIELD as INCLUDE
from sweeps.studies.base import Options, Section, Study, launch
from sweeps.studies.part import LEVEL, Finding, Measured, Part, Scope, one_of

if TYPE_CHECKING:
    import pandas as pd

    from sweeps.definition import Sweep

SWEEPS = Path(__file__).resolve().parent.parent


class PartsStudy(Study):
    """A study by its parts, in the order they are trained and measured; sweep files are <name>-<sweep>-<scale>.yaml."""

    members: ClassVar[tuple[Part, ...]]
    first: ClassVar[str]
    """The part whose section opens the page."""
    template: ClassVar[str]
    """The page's template, a file beside this one."""
    compared: ClassVar[str]
    """Whose values stand beside ours."""

    def ahead(self, options: Options, store: Path) -> list[Section]:
        """See `Study.ahead`; the parts that `options.parts` chooses."""
        sweeps, launches = self._chosen(options)
        found = []
        for part, names in launches:
            foretold, later = self.foretold(part, options, store)
            found.append(Section(part.name, (*(sweeps[n] for n in names), *foretold), later))
        return found

    def foretold(self, part: Part, options: Options, store: Path) -> tuple[list[Sweep], tuple[float, ...]]:
        """The runs of a part that forecasts chose, and FLOPs of those that they have yet to choose."""
        return [], ()

    def _chosen(self, options: Options) -> tuple[dict[str, Sweep], list[tuple[Part, list[str]]]]:
        """Every sweep by name, and what is to be trained."""
        chosen = one_of(options.parts or self.parts, f"part of study {self.name}", self.parts)
        options.out.mkdir(parents=True, exist_ok=True)
        sweeps = {name: _sweep(self.name, name, options) for part in self.members for name in part.sweeps}
        return sweeps, _launches([p for p in self.members if options.train and p.name in chosen])

    def reproduce(self, options: Options) -> dict[str, Any]:
        """See `Study.reproduce`; `options.parts` chooses whose runs are made, the page has all of them."""
        started = time.monotonic()
        sweeps, launches = self._chosen(options)
        store = options.out / "store"
        for part, names in launches:
            left = None if options.seconds is None else options.seconds - (time.monotonic() - started)
            if not self.train(part, {n: sweeps[n] for n in names}, options, left):
                reason = "time ran out; call again to go on"
                return {"study": self.name, "scale": options.scale, "complete": False, "reason": reason}
        Store.create(store)
        runs = {name: _runs_of(sweep, store) for name, sweep in sweeps.items()}
        options.say("fitting")
        result = self._results(options, store, runs)
        result["seconds"] = round(time.monotonic() - started, 1)
        compact(Store.open(store, write=True))
        (options.out / "fits.json").write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
        from sweeps.studies.parts_page import write_page

        write_page(options.out, result, template=self.template, first=self.first, published=self.compared)
        return result

    def train(self, part: Part, sweeps: Mapping[str, Sweep], options: Options, seconds: float | None) -> bool:
        """Makes what is missing of a part's sweeps, by name; False where time ran out first."""
        return launch(list(sweeps.values()), options, seconds)

    def _results(self, options: Options, store: Path, runs: dict[str, RunsOf]) -> dict[str, Any]:
        """What fits.json holds: every part with its state, and what it found where it is measured."""
        complete = {name: Measured(r.where, len(r.wanted)) for name, r in runs.items() if r.complete}
        scope = Scope(options.scale, store, options.out / "figures", complete, options.draws, LEVEL)
        parts = {}
        for part in self.members:
            options.say(f"  {part.name}")
            parts[part.name] = _part_json(part, scope, runs)
        return {
            "study": self.name,
            "scale": options.scale,
            "complete": all(p["state"] == "measured" for p in parts.values()),
            "source": self.source,
            "version": version(),
            "environment": environment(),
            "level": LEVEL,
            "command": f"scaling reproduce {self.name} --scale {options.scale}",
            "parts": parts,
            "sweeps": {name: r.to_json() for name, r in runs.items()},
            "failures": {run: why for r in runs.values() for run, why in r.failures.items()},
        }


@dataclass(frozen=True)
class RunsOf:
    """The runs that a sweep asks for, and what the store has of them: status by run id, missing ones left out."""

    sweep: Sweep
    file: str
    wanted: tuple[str, ...]
    done: dict[str, str]
    failures: dict[str, str]
    where: str
    facts: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether every run finished or diverged, and some finished."""
        return set(self.wanted) == set(self.done) and "finished" in self.done.values()

    def to_json(self) -> dict[str, Any]:
        """`{"file", "description", "wanted", "finished", "diverged", "failed", "missing", "where", …}`."""
        ended = list(self.done.values())
        return {
            "name": self.sweep.name,
            "file": self.file,
            "description": self.sweep.description,
            "wanted": len(self.wanted),
            "finished": ended.count("finished"),
            "diverged": ended.count("diverged"),
            "failed": len(self.failures),
            "missing": len(self.wanted) - len(ended) - len(self.failures),
            "where": self.where,
            **self.facts,
        }


def _sweep(study: str, name: str, options: Options) -> Sweep:
    """The sweep as the study's folder has it, where it is put at the first call with what it includes."""
    from sweeps.definition import load_sweep

    source = SWEEPS / f"{study}-{name}-{options.scale}.yaml"
    target = options.out / f"sweep-{name}.yaml"
    text, included = _shipped(source, study, options.scale)
    for other in included:
        _sweep(study, other, options)
    if not target.exists():
        target.write_text(text)
    elif target.read_text() != text:
        options.say(f"{target} is not {source.name} as it is shipped; what stands in the folder is used")
    return load_sweep(target)


def _shipped(source: Path, study: str, scale: str) -> tuple[str, list[str]]:
    """A sweep file's text as a study's folder holds it, and the sweeps of the study that it includes.

    There every file is called sweep-<sweep>.yaml, so that is what the line that includes one says.
    """
    included: list[str] = []

    def renamed(found: re.Match[str]) -> str:
        included.append(found[1])
        return f"sweep-{found[1]}.yaml"

    lines = source.read_text().splitlines(keepends=True)
    name = re.compile(rf"\b{re.escape(study)}-([a-z0-9-]+)-{re.escape(scale)}\.yaml")
    text = "".join(name.sub(renamed, line) if line.startswith(f"{INCLUDE}:") else line for line in lines)
    return text, included


def _launches(parts: Sequence[Part]) -> list[tuple[Part, list[str]]]:
    """Parts in the order of training, each with its own sweeps and those that it uses, none twice."""
    seen: set[str] = set()
    found = []
    for part in sorted(parts, key=lambda p: p.last):
        names = [n for n in part.needs if n not in seen]
        seen.update(names)
        if names or part.last:
            found.append((part, names))
    return found


def _runs_of(sweep: Sweep, store: Path) -> RunsOf:
    """What the store has of a sweep; a sweep none of whose runs was ever made is only counted."""
    from sweeps.expand import expand
    from sweeps.run import prepare_sweep

    opened = Store.open(store)
    rows = opened.rows()
    trials = [w.trial for w in expand(sweep)]
    file = f"sweep-{_short(sweep)}.yaml"
    if not touched(sweep, rows):
        return RunsOf(sweep, file, tuple(f"run {i}" for i in range(len(trials))), {}, {}, "", {})
    digest = prepare_sweep(sweep).digest
    wanted = tuple(t.run_id(digest) for t in trials)
    done, failed = opened.done(), opened.failed()
    mine = rows[rows.run_id.isin(wanted) & rows.run_id.isin(done)]
    by_name = f"sweep == '{sweep.name}'"
    # Runs of an earlier definition stay in the store under the same name; only those asked for now are meant.
    own = set(mine.run_id) == set(rows[(rows.sweep == sweep.name) & (rows.status != "failed")].run_id)
    where = by_name if own else f"run_id in {sorted(mine.run_id)}"
    return RunsOf(
        sweep,
        file,
        wanted,
        {i: done[i] for i in wanted if i in done},
        {i: failed[i] for i in wanted if i in failed and i not in done},
        where,
        _facts(mine[mine.status == "finished"]),
    )


def touched(sweep: Sweep, rows: pd.DataFrame) -> bool:
    """Whether any row is of a sweep's kind of text and tokenizer: if not, neither need be prepared to know its runs."""
    return bool(((rows.corpus == sweep.corpus.type) & (rows.tokenizer == sweep.tokenizer.type)).any())


def _short(sweep: Sweep) -> str:
    """The name under which the study knows a sweep."""
    return sweep.file.stem.removeprefix("sweep-") if sweep.file is not None else sweep.name


def _facts(rows: Any) -> dict[str, Any]:
    """What the page says of the runs of a sweep."""
    if len(rows) == 0:
        return {}
    return {
        "params": [int(rows.params_non_embedding.min()), int(rows.params_non_embedding.max())],
        "tokens": [int(rows.tokens.min()), int(rows.tokens.max())],
        "batch_tokens": [int(rows.batch_tokens.min()), int(rows.batch_tokens.max())],
        "lr": [float(rows.lr.min()), float(rows.lr.max())],
        "schedules": sorted(set(rows.schedule)),
        "corpora": sorted(set(rows.corpus)),
        "seeds": int(rows.seed.nunique()),
        "largest_epochs": round(float(rows.epochs.max()), 3),
        "flops": float(rows.flops_exact.sum()),
        "core_seconds": round(float(rows.wall_s.sum()), 1),
        "loss_se": round(float(rows.loss_se.median()), 4),
        "digests": sorted(set(rows.data_digest)),
    }


def _part_json(part: Part, scope: Scope, runs: dict[str, RunsOf]) -> dict[str, Any]:
    """A part's state, and its finding where every run it needs is there."""
    from analysis.types import jsonable

    lacking = [f"{len(r.wanted) - len(r.done)} of {len(r.wanted)} runs of {r.file}" for r in
               (runs[n] for n in part.needs) if not r.complete]  # fmt: skip
    stated = {
        "title": part.title,
        "question": part.question,
        "design": part.design,
        "sweeps": list(part.sweeps),
        "uses": list(part.uses),
        "limits": list(part.limits),
    }
    reason = f"missing: {'; '.join(lacking)}" if lacking else part.missing(scope)
    if reason:
        nothing = Finding().to_json()
        return {**stated, "state": "not_measured", "reason": reason, **nothing}
    return jsonable({**stated, "state": "measured", "reason": "", **part.measure(scope).to_json()})
