"""Ctrl-C and SIGTERM, asked for and not taken: the work goes on to a place where it can stop."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Stop:
    """Inside, the first Ctrl-C or SIGTERM only sets `asked`; a second one is taken at once."""

    def __init__(self) -> None:
        self.asked: int | None = None
        """The signal."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:
            self._end(number)
        self.asked = number

    def end(self) -> None:
        """Ends as the signal that was asked for ends a program."""
        self._end(self.asked or signal.SIGINT)

    @staticmethod
    def _end(number: int) -> None:
        if number == signal.SIGTERM:
            raise SystemExit(128 + number)
        raise KeyboardInterrupt
