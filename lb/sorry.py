"""`fallback_command`: told when a virtual loses its last real and when it has one again (ldirectord's fallbackcommand).

    PROGRAM start|stop ADDRESS:PORT PROTOCOL

One at a time for each virtual, and always in turn: what is run is the difference between how things are and what the
program was last told, so that a virtual that comes and goes while the program runs is told once more, or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from lb import programs
from lb.addresses import with_port
from lb.model import Cluster, Virtual
from lb.plan import service_key
from lb.service import ServiceKey
from lb.weights import Standing

log = structlog.get_logger(__name__)

LIMIT_S = 30.0
"""How long the program may take."""


class FallbackCommands:
    """Runs the commands of all virtuals; to be used inside one running event loop."""

    def __init__(self) -> None:
        self._deserted: dict[ServiceKey, bool] = {}
        self._told: dict[ServiceKey, bool] = {}
        self._tasks: dict[ServiceKey, asyncio.Task[None]] = {}

    def update(self, cluster: Cluster, standings: Mapping[ServiceKey, Standing]) -> None:
        """How the virtuals stand now. What was not checked yet is no loss: the first verdicts are waited for."""
        for virtual in cluster.virtuals:
            key, stand = service_key(virtual), standings[service_key(virtual)]
            if not virtual.fallback_command or not (stand.served or stand.settled):
                continue
            self._deserted[key] = not stand.served
            if self._deserted[key] != self._told.get(key, False) and key not in self._tasks:
                self._tasks[key] = asyncio.create_task(self._tell(virtual, key))

    async def close(self) -> None:
        """Stop what runs."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, virtual: Virtual, key: ServiceKey) -> None:
        try:
            while (deserted := self._deserted[key]) != self._told.get(key, False):
                self._told[key] = deserted
                await self._run(virtual, "start" if deserted else "stop")
        finally:
            del self._tasks[key]

    async def _run(self, virtual: Virtual, what: str) -> None:
        program = virtual.fallback_command or ""
        where = with_port(virtual.address, virtual.port)
        wrong = await programs.run((program, what, where, virtual.protocol), LIMIT_S, {"LBCTL_VIRTUAL": virtual.name})
        if wrong:
            log.error("the fallback command failed", program=program, told=what, virtual=virtual.name, reason=wrong)
        else:
            log.info("fallback command", program=program, told=what, virtual=virtual.name)
