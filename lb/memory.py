"""When what a director remembers is written down: at once for orders, soon for health; never on the event loop.

A thousand reals may change within a second, and the file holds all of them: changes of health are gathered for
GATHER_S, and written in a thread. What a crash loses of them, the checks find out again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from lb import state
from lb.state import Remembered

log = structlog.get_logger(__name__)

GATHER_S = 1.0


class Memory:
    """The state file of one director. content: what is to be remembered, asked for when it is written.

    trouble: why the last writing failed; empty if it did not. failures: how many did.
    """

    def __init__(self, path: Path, content: Callable[[], Remembered]) -> None:
        self._path = path
        self._content = content
        self._writing = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.trouble = ""
        self.failures = 0

    def write_soon(self) -> None:
        """Write within GATHER_S."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._begin)

    async def write(self) -> None:
        """Write now; returns when it is done. A failure is logged and kept in `trouble`."""
        async with self._writing:
            content = self._content()
            try:
                await asyncio.to_thread(state.save, self._path, content)
            except OSError as error:
                self.failures += 1
                if not self.trouble:
                    log.warning("nothing can be remembered for the next start", error=str(error))
                self.trouble = f"orders by hand would not survive a restart: {self._path}: {error.strerror}"
            else:
                self.trouble = ""

    async def close(self) -> None:
        """Begin no more writing by itself; returns when what had begun is done."""
        if self._timer:
            self._timer.cancel()
        if self._task:
            await self._task

    def _begin(self) -> None:
        self._timer = None  # what changes from here on is written once more
        self._task = asyncio.create_task(self.write())
