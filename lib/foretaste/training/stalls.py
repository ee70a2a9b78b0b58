"""A rank that does nothing for too long ends itself, and says what it was at: nothing waits for ever.

Only a rank itself knows what it is doing, so each watches itself, in a thread. One that was stopped as a whole cannot; those that wait for
it can.
"""

import os
import threading
import time
from collections.abc import Callable

ROWS, COMPUTING, OTHERS = "waited for rows", "computed", "waited for the other ranks"
CAUSES = {
    ROWS: "the storage that holds the table does not answer",
    COMPUTING: "the machine has no memory left and swaps, or its accelerator hangs",
    OTHERS: "one of them hangs or was stopped, or the network between them is cut",
}
ENDED = 75  # the exit code of a rank that ended itself; EX_TEMPFAIL, for whom it may be worth trying again
LOOK_EVERY_S = 1.0


class Watch:
    """Calls `on_stall(what, seconds)` once if nothing else was begun for more than `seconds`."""

    def __init__(self, seconds: float, on_stall: Callable[[str, float], None]) -> None:
        self._seconds, self._on_stall = seconds, on_stall
        self._now = (COMPUTING, time.monotonic())
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def doing(self, what: str) -> None:
        """From now on it does `what`, one of CAUSES."""
        self._now = (what, time.monotonic())

    def close(self) -> None:
        self._ended.set()

    def _look(self) -> None:
        while not self._ended.wait(min(LOOK_EVERY_S, self._seconds / 4)):
            what, since = self._now
            if time.monotonic() - since > self._seconds:
                self._on_stall(what, time.monotonic() - since)
                return


def end() -> None:
    """Ends this process at once: a thread that hangs in C lets nothing else end it."""
    os._exit(ENDED)
