"""The operator's own programs: resources that go with the active role, notification of roles, fencing. Edge.

A program is a command line of the configuration with words added at its end, run without a shell:

    resources   … start     left to right, once the addresses are up
                … stop      right to left, when we are active no more; also when it may not be started
    notify      … ROLE      active, standby or init, after every change
    fence       … NODE      before its addresses are taken over from a node that fell silent; must succeed

Their environment has LBCTL_CLUSTER and LBCTL_NODE. What they print goes where our log goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
from collections.abc import Callable
from typing import Final

import structlog

from lb.errors import NetworkError
from lb.model import Cluster

log = structlog.get_logger(__name__)

PATIENCE_S: Final = 60.0
"""Resources and notifications that take longer are killed."""

FENCE_S: Final = 4.0
"""The same for fencing: a takeover has failed after five seconds, and is tried again."""


class Programs:
    """Runs one program at a time, in a task of its own: `run`. failed: called when a resource could not be started."""

    def __init__(self, cluster: Cluster, me: str, failed: Callable[[], None]) -> None:
        self.trouble = ""
        self._cluster, self._me, self._failed = cluster, me, failed
        self._wanted: bool | None = None
        self._is_on: bool | None = None
        self._told: list[str] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()

    def configure(self, cluster: Cluster) -> None:
        """These programs from now on; what runs already is not touched."""
        self._cluster = cluster

    def want(self, on: bool) -> None:
        """Should the resources run here?"""
        if on:
            self._is_on, self.trouble = False, ""
        self._wanted = on
        self._stir()

    def tell(self, role: str) -> None:
        """Our role is this now."""
        self._told.append(role)
        self._stir()

    def _stir(self) -> None:
        self._idle.clear()
        self._wake.set()

    async def idle(self) -> None:
        """Wait until all that was asked for is done, or for a minute."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self._idle.wait()

    async def fence(self, node: str) -> None:
        """Make sure that a silent node is dead. Raises NetworkError if its program does not say so."""
        command = self._cluster.ha.fence
        if command is None:
            return
        log.warning("fencing", node=node, program=command)
        if error := await self._execute(command, node, FENCE_S):
            raise NetworkError(f"{node} is silent and could not be fenced: {error}")

    async def run(self) -> None:
        """For ever."""
        while True:
            if self._told:
                role = self._told.pop(0)
                for command in self._cluster.ha.notify:
                    await self._report(command, role)
            elif self._wanted is not None and self._wanted != self._is_on:
                await (self._start() if self._wanted else self._stop())
            else:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()

    async def _start(self) -> None:
        self._is_on = True
        for command in self._cluster.ha.resources:
            if error := await self._report(command, "start"):
                self.trouble = f"resource {error}"
                self._wanted = False
                self._failed()
            if not self._wanted:
                return

    async def _stop(self) -> None:
        self._is_on = False
        for command in reversed(self._cluster.ha.resources):
            await self._report(command, "stop")

    async def _report(self, command: str, word: str) -> str:
        error = await self._execute(command, word, PATIENCE_S)
        if error:
            log.error("a program failed", program=command, word=word, reason=error)
        else:
            log.info("a program was run", program=command, word=word)
        return error

    async def _execute(self, command: str, word: str, seconds: float) -> str:
        """What went wrong; empty: nothing."""
        environment = {**os.environ, "LBCTL_CLUSTER": self._cluster.cluster.name, "LBCTL_NODE": self._me}
        try:
            process = await asyncio.create_subprocess_exec(
                *shlex.split(command), word, stdin=asyncio.subprocess.DEVNULL, env=environment, start_new_session=True
            )
        except OSError as error:
            return f"'{command} {word}' cannot be run: {error.strerror}"
        try:
            async with asyncio.timeout(seconds):
                status = await process.wait()
        except TimeoutError:
            return f"'{command} {word}' had not ended after {seconds:g} s, and was killed"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return f"'{command} {word}' ended with status {status}" if status else ""
