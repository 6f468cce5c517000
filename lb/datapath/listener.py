"""Reads a packet path's events as they come, though the kernel wakes us by the first of a jiffy only (bpf/conn.h)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

AGAIN_S = 0.002
"""How soon it looks again after it was woken, or found something: what an event may wait for its reader."""

QUIET_S = 0.02
"""How long it looks again and finds nothing before it waits to be woken. Twice the longest jiffy that kernels have, so
that one in which it was woken is over: the next event wakes it again. An idle director has no timer."""


class Listener:
    """Calls `read` whenever events may wait, until closed. read: takes them all; returns whether there were any."""

    def __init__(self, event_fd: int, read: Callable[[], bool]) -> None:
        self._fd = event_fd
        self._read = read
        self._quiet_at = 0.0
        self._again: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(event_fd, self._woken)

    def close(self) -> None:
        """Read no more."""
        self._loop.remove_reader(self._fd)
        if self._again is not None:
            self._again.cancel()

    def _woken(self) -> None:
        self._read()
        self._quiet_at = self._loop.time() + QUIET_S
        if self._again is None:
            self._again = self._loop.call_later(AGAIN_S, self._look_again)

    def _look_again(self) -> None:
        now_s = self._loop.time()
        if self._read():
            self._quiet_at = now_s + QUIET_S
        self._again = self._loop.call_later(AGAIN_S, self._look_again) if now_s < self._quiet_at else None
