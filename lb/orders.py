"""What `lbctl`'s commands ask of a running director, as the control socket offers it: the table is `routes`.

An order takes parameters and answers with a document; "message" in it is for people. Raises LbctlError to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from ha.state import Role
from lb import plan
from lb.api import Handler
from lb.config import load
from lb.director import Director
from lb.errors import UsageError
from lb.obstacles import obstacles
from lb.plan import Override, Overrides, Target

log = structlog.get_logger(__name__)

Answer = dict[str, Any]
Parameters = Mapping[str, Any]


def routes(director: Director) -> dict[str, Handler]:
    """Every order by method and path."""
    orders = Orders(director)
    return {
        "GET /status": orders.status,
        "GET /reals": orders.reals,
        "POST /reload": orders.reload,
        "POST /drain": orders.drain,
        "POST /enable": orders.enable,
        "POST /weight": orders.weight,
        "POST /standby": orders.standby,
        "POST /takeover": orders.takeover,
        "POST /down": orders.down,
    }


class Orders:
    """Orders to one director."""

    def __init__(self, director: Director) -> None:
        self._director = director

    async def status(self, _parameters: Parameters) -> Answer:
        """DESIGN section 3's document."""
        return await self._director.status()

    async def reals(self, parameters: Parameters) -> Answer:
        """real: one, or that address in every virtual; with its last changes."""
        targets = plan.find_reals(self._director.cluster, str(parameters.get("real", "")))
        return {"node": self._name, "reals": self._director.status_of(targets)}

    async def reload(self, parameters: Parameters) -> Answer:
        """path: the file; the running one's where there is none. An invalid file changes nothing."""
        cluster = load(Path(parameters.get("path") or self._director.cluster.path), obstacles)
        await self._director.change_cluster(cluster)
        return {"message": f"{self._name}: {cluster.path} applied"}

    async def drain(self, parameters: Parameters) -> Answer:
        """real: gets no new connections; those it has go on."""
        return await self._override(parameters, plan.drain, "drained", "drained")

    async def enable(self, parameters: Parameters) -> Answer:
        """real: counts again as the file says."""
        return await self._override(parameters, plan.enable, "enabled", "enabled")

    async def weight(self, parameters: Parameters) -> Answer:
        """real, weight: counts so much until enabled."""
        weight = parameters.get("weight")
        if not isinstance(weight, int) or not 0 <= weight <= 65535:
            raise UsageError(f"{weight!r} is not a weight; it goes from 0 (no new connections) to 65535")
        return await self._override(
            parameters, lambda o, t: plan.weigh(o, t, weight), f"has weight {weight}", f"weight {weight}"
        )

    async def _override(
        self,
        parameters: Parameters,
        change: Callable[[Overrides, tuple[Target, ...]], dict[Target, Override]],
        outcome: str,
        what: str,
    ) -> Answer:
        """outcome: completes a sentence whose subject is the real; what: the same as a word, for its history."""
        targets = plan.find_reals(self._director.cluster, str(parameters.get("real", "")))
        await self._director.override(targets, lambda overrides: change(overrides, targets), what)
        reals = [f"{key} {address}" for key, address in targets]
        log.info("by hand", reals=reals, now=outcome)
        return {"message": "\n".join(f"{real} {outcome}" for real in reals), "reals": reals}

    async def standby(self, parameters: Parameters) -> Answer:
        """Give the addresses to the other director. virtual: only those that have the same preferred node as it."""
        for group in self._groups(parameters, "active"):
            await self._director.failover.standby(group)
        return {"message": f"{self._name} is standby"}

    async def takeover(self, parameters: Parameters) -> Answer:
        """Take the addresses from the other director. virtual: only those that have the same preferred node as it."""
        for group in self._groups(parameters, "standby"):
            await self._director.failover.takeover(group)
        return {"message": f"{self._name} is active"}

    def _groups(self, parameters: Parameters, role: Role) -> tuple[str, ...]:
        """Of the virtual. Where none is named, those in which we have this role, or else one, to be told why not."""
        failover, cluster = self._director.failover, self._director.cluster
        if not (name := parameters.get("virtual")):
            return tuple(group for group in failover.groups if failover.role_of(group) == role) or ("",)
        found = {virtual.name: cluster.group_of(virtual) for virtual in cluster.virtuals}
        if name not in found:
            raise UsageError(f"there is no virtual {name!r}; there are: {', '.join(found)}")
        return (found[str(name)],)

    async def down(self, _parameters: Parameters) -> Answer:
        """Begin to stop."""
        self._director.stopping.set()
        return {"message": f"{self._name} is stopping"}

    @property
    def _name(self) -> str:
        return self._director.node.name
