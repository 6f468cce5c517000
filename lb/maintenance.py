"""The directory of maintenance files: each takes the reals that it names out of service (ldirectord's maintenancedir).

Looked at once a second, in a thread, since a directory may lie on a file system that hangs. One that is not there holds
no files; one that cannot be read is as it was, for a fault of the disk must put no real back into service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

LOOK_INTERVAL_S = 1.0


class Maintenance:
    """The names of the files there are, in lower case; `on_change` is called when they became others."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._directory: Path | None = None
        self.trouble = ""
        self._task: asyncio.Task[None] | None = None
        self.files: frozenset[str] = frozenset()

    def configure(self, directory: Path | None) -> None:
        """Look there from now on; None: nowhere. The first look is taken before this returns."""
        if directory == self._directory:
            return
        self._directory = directory
        if self._task:
            self._task.cancel()
        self._task = None
        self.files = frozenset()
        if directory:
            self._took(_look(directory))
            self._task = asyncio.create_task(self._watch(directory))

    async def close(self) -> None:
        """Look no more."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self, directory: Path) -> None:
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            self._took(await asyncio.to_thread(_look, directory))

    def _took(self, found: frozenset[str] | OSError) -> None:
        trouble = (found.strerror or str(found)).lower() if isinstance(found, OSError) else ""
        if trouble != self.trouble:
            self.trouble = trouble
            if trouble:
                log.warning("the maintenance directory cannot be read", path=str(self._directory), reason=trouble)
        files = frozenset() if isinstance(found, FileNotFoundError) else found
        if not isinstance(files, OSError) and files != self.files:
            log.info("maintenance files", path=str(self._directory), files=sorted(files))
            self.files = files
            self._on_change()


def _look(directory: Path) -> frozenset[str] | OSError:
    """The names there, but for hidden ones, which editors leave behind."""
    try:
        return frozenset(path.name.lower() for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        return error
