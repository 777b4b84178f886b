"""Leaving in good order: a signal, a deadline or a full disk asks running trials to checkpoint and the sweep to end.

The first SIGINT or SIGTERM drains, the second leaves at once, and so does the first after GRACE_SECONDS: a compiler
hears nobody. Workers in other processes see the request as a file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import uuid
from pathlib import Path
from types import FrameType, TracebackType

from scaling.errors import Interrupted, ScalingError

DRAIN_SHARE = 0.05
DRAIN_SECONDS = 20.0
"""How long before a deadline draining begins: this share of the time, at most this many seconds."""
GRACE_SECONDS = 9.5
"""After a signal, how long checkpointing may take; then the last checkpoint stands."""


def end_children() -> None:
    """Kills every process that descends from this one, parents before children."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()


class Drain:
    """A request to stop, shared by the driver and its workers through the file `flag`."""

    def __init__(self, store: Path, seconds: float | None = None) -> None:
        self.flag = store / f".drain-{uuid.uuid4().hex}"
        self.signal_number: int | None = None
        self.error: ScalingError | None = None
        """What else ends the sweep early; raised once everything has stopped."""
        self._deadline = None
        if seconds is not None:
            self._deadline = time.monotonic() + seconds - min(DRAIN_SECONDS, DRAIN_SHARE * seconds)
        self._previous: dict[int, object] = {}
        self._timer: threading.Timer | None = None

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
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self.flag.unlink(missing_ok=True)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None:
            self._leave(number)
        self.signal_number = number
        self._raise_flag()
        timer = threading.Timer(GRACE_SECONDS, self._leave, (number,))
        timer.daemon = True
        timer.start()
        self._timer = timer

    def _leave(self, number: int) -> None:
        """Ends the process, children first."""
        try:
            self.flag.unlink(missing_ok=True)
            end_children()
        finally:
            os._exit(128 + number)

    def _raise_flag(self) -> None:
        with contextlib.suppress(OSError):  # On a full disk the launcher stops its workers itself.
            self.flag.touch()

    def fail(self, error: ScalingError) -> None:
        """Ends the sweep in good order because of an error; the first one counts."""
        self.error = self.error or error
        self._raise_flag()

    def requested(self) -> bool:
        """Whether to stop now; also raises the flag when the deadline has come."""
        if self.signal_number is not None or self.error is not None:
            return True
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._raise_flag()
            return True
        return False

    def raise_if_signalled(self) -> None:
        """Raises Interrupted where a signal (not a deadline) ended the sweep, or the error that did."""
        if self.signal_number is not None:
            name = signal.Signals(self.signal_number).name
            raise Interrupted(
                f"stopped by {name}; running trials were checkpointed: rerun to go on", self.signal_number
            )
        if self.error is not None:
            raise self.error
