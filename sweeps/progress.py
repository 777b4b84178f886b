"""What a running sweep shows: a live table in a terminal, one line a minute elsewhere, time left weighted by FLOPs."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING

from scaling.job import Job, Progress
from scaling.units import duration

if TYPE_CHECKING:
    from rich.console import RenderableType

LINE_SECONDS = 60.0
LOOK_SECONDS = 2.0


class SweepProgress:
    """Follows the jobs of one launch. `already` trials were in the store before.

    `ceiling` is what the workers could reach together in matrix products (FLOP/s), where this machine was measured;
    `at_work` counts the trials that have begun, also those that still compile and have reported nothing.
    """

    def __init__(
        self,
        name: str,
        jobs: Sequence[Job],
        already: int,
        *,
        quiet: bool = False,
        out: IO[str] | None = None,
        ceiling: float | None = None,
        at_work: Callable[[], int] | None = None,
    ):
        self.at_work, self._seen_at_work, self._next_look = at_work, 0, 0.0
        self.name, self.jobs, self.already, self.quiet, self.ceiling = name, jobs, already, quiet, ceiling
        self.out = out or sys.stderr
        self.total_flops = float(sum(job.flops for job in jobs))
        self.trials = sum(len(job.planned) for job in jobs)
        self.states: dict[int, Progress] = {}
        self.statuses: dict[str, str] = {}
        self.started = time.monotonic()
        self._next_line = self.started + LINE_SECONDS
        self._live = None
        if not quiet and self.out.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=self.out), refresh_per_second=4, transient=True)

    def __enter__(self) -> SweepProgress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()
        if not self.quiet and self.jobs:
            print(self.line(), file=self.out, flush=True)

    def update(self, index: int, state: Progress) -> None:
        """Takes a report of the job numbered `index`."""
        self.states[index] = state
        self.statuses.update(state.statuses)
        self.tick()

    def tick(self) -> None:
        """Redraws, or prints the minute's line."""
        if self.quiet:
            return
        if self._live is not None:
            self._live.update(self._table())
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            print(self.line(), file=self.out, flush=True)

    @property
    def flops_done(self) -> float:
        """Exact FLOPs of this launch that are done."""
        return sum(state.flops_done for state in self.states.values())

    def seconds_left(self) -> float | None:
        """Time left by FLOPs at the pace so far; None before anything was done."""
        done = self.flops_done
        if done <= 0:
            return None
        return (time.monotonic() - self.started) * (self.total_flops - done) / done

    def line(self) -> str:
        """One line of where the sweep stands."""
        count = Counter(self.statuses.values())
        running = max(sum(not s.done and s.step > 0 for s in self.states.values()), self._begun())
        parts = [f"{count['finished'] + self.already}/{self.trials + self.already} finished", f"{running} running"]
        parts += [f"{count[s]} {s}" for s in ("failed", "diverged") if count[s]]
        share = self.flops_done / self.total_flops if self.total_flops else 1.0
        elapsed = time.monotonic() - self.started
        parts += [f"{share:.0%} of FLOPs", self._throughput(elapsed), duration(elapsed)]
        left = self.seconds_left()
        if left is not None and share < 1:
            parts.append(f"about {duration(left)} left")
        return f"{self.name}: " + ", ".join(parts)

    def _begun(self) -> int:
        """Trials at work, looked up every LOOK_SECONDS while there are any."""
        present = time.monotonic()
        if self.at_work is not None and present >= self._next_look:
            self._next_look = present + LOOK_SECONDS
            self._seen_at_work = self.at_work()
        return self._seen_at_work

    def _throughput(self, elapsed: float) -> str:
        """The pace so far, and its share of what the machine's matrix products reach."""
        pace = self.flops_done / max(elapsed, 1e-9)
        shown = f"{pace / 1e9:.3g} GFLOP/s" if pace < 1e12 else f"{pace / 1e12:.3g} TFLOP/s"
        return shown + (f" ({pace / self.ceiling:.0%} of matmul)" if self.ceiling else "")

    def _table(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        page = Table.grid()
        page.add_row(Text(self.line()))
        # A bar inside a row: alone it does not end its line.
        page.add_row(ProgressBar(total=max(self.total_flops, 1.0), completed=self.flops_done, width=60))
        table = Table(box=None, padding=(0, 2, 0, 0))
        for header in ("trial", "N", "budget", "step", "train loss"):
            table.add_column(header, justify="left" if header == "trial" else "right")
        for index, state in sorted(self.states.items()):
            if state.done or state.step == 0:
                continue
            planned = next(p for p in self.jobs[index].planned if p.run_id == state.run_id)
            of = planned.trial
            size = of.objective.params(of.architecture, planned.vocab_size).non_embedding
            budget = "" if planned.budget is None else f"{planned.budget:.2g}".replace("e+", "e")
            step = f"{state.step:,}/{state.steps:,}"
            table.add_row(state.run_id[:8], f"{size:,}", budget, step, f"{state.train_loss:.3f}")
        if table.row_count:
            page.add_row(table)
        return page
