"""A Ctrl-C that always counts, also one that strikes within a callback of the RPC library, which swallows exceptions.

Owns the handler while something is waited for. Leaves what ending means to whoever waits.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """While entered, Ctrl-C raises KeyboardInterrupt as ever, is remembered, and ends what is waited for.

    Args:
        end: makes whatever is waited for end; called in a thread of its own, as it may take locks that the interrupted
            code holds.
    """

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end
        self._handles = False
        self.struck = False
        """Whether Ctrl-C was pressed; the exception that said so may be lost."""

    def __enter__(self) -> Self:
        # A shell that starts a job in the background has its Ctrl-C ignored, and only a main thread is interrupted.
        handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if handled and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._strike)
            self._handles = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._handles:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def check(self) -> None:
        """Raise the interrupt that may have been lost.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        if self.struck:
            raise KeyboardInterrupt

    def _strike(self, number: int, frame: FrameType | None) -> None:
        self.struck = True
        threading.Thread(target=self._end, daemon=True).start()
        raise KeyboardInterrupt
