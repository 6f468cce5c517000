"""Log lines: time, level, event, key=value; coloured on a terminal, plain otherwise (journald and files)."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import TextIO, cast

import structlog


class _Unfailing:
    """Standard output for a process that must outlive its log: a line that cannot be written is lost, never raised.

    The disk may be full, the reader of a pipe or the terminal gone.
    """

    def __init__(self) -> None:
        self._fd = sys.stdout.fileno() if sys.stdout else os.open(os.devnull, os.O_WRONLY)

    def write(self, text: str) -> None:
        """A whole line at once, past Python's buffers, which would keep what failed and fail again."""
        with contextlib.suppress(OSError):
            os.write(self._fd, text.encode(errors="replace"))

    def flush(self) -> None:
        """Nothing is held back."""


def configure(verbose: bool = False) -> None:
    """Send structlog to standard output, line by line."""
    colours = bool(sys.stdout) and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S.%f", utc=False),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=0, sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Unfailing())),
        cache_logger_on_first_use=True,
    )
