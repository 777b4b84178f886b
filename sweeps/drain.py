"""Leaving in good order: a signal or a deadline asks running trials to checkpoint and the sweep to end.

The first SIGINT or SIGTERM drains, the second leaves at once. Workers in other processes see the request as a file.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType

from scaling.errors import Interrupted

DRAIN_SHARE = 0.05
DRAIN_SECONDS = 20.0
"""How long before a deadline draining begins: this share of the time, at most this many seconds."""


class Drain:
    """A request to stop, shared by the driver and its workers through the file `flag`."""

    def __init__(self, store: Path, seconds: float | None = None) -> None:
        self.flag = store / f".drain-{uuid.uuid4().hex}"
        self.signal_number: int | None = None
        self.at_once: Callable[[], None] = lambda: None
        """Called before leaving at once on a second signal: ends child processes."""
        self._deadline = None
        if seconds is not None:
            self._deadline = time.monotonic() + seconds - min(DRAIN_SECONDS, DRAIN_SHARE * seconds)
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Drain:
        self._previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.install()
        return self

    def install(self) -> None:
        """Takes SIGINT and SIGTERM; again, where a library has taken them since."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self.flag.unlink(missing_ok=True)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None:
            self.flag.unlink(missing_ok=True)
            self.at_once()
            os._exit(128 + number)
        self.signal_number = number
        self.flag.touch()

    def requested(self) -> bool:
        """Whether to stop now; also raises the flag when the deadline has come."""
        if self.signal_number is not None:
            return True
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self.flag.touch()
            return True
        return False

    def raise_if_signalled(self) -> None:
        """Raises Interrupted where a signal (not a deadline) ended the sweep."""
        if self.signal_number is not None:
            name = signal.Signals(self.signal_number).name
            raise Interrupted(
                f"stopped by {name}; running trials were checkpointed: rerun to go on", self.signal_number
            )
