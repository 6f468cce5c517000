"""Everything a director knows and does about the health of its reals; `lb.director` carries it to the packet path.

checks ────────────┐
maintenance files ─┴→ "something changed" → director → packet path
                                                └→ how the virtuals stand now → fallback commands
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from lb import plan
from lb.checker import Checker
from lb.health import Change, Health, State
from lb.maintenance import Maintenance
from lb.model import Cluster
from lb.plan import Overrides, Target
from lb.probes import Target as ProbeTarget
from lb.service import ServiceKey
from lb.sorry import FallbackCommands
from lb.weights import Standing


class Monitor:
    """Health from `configure` to `close`. `on_change` is called when a real may have to be weighed anew.

    To be made and used inside one running event loop.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._checker = Checker(self._on_health)
        self._maintenance = Maintenance(on_change)
        self._fallback_commands = FallbackCommands()
        self._step: asyncio.TimerHandle | None = None
        self._cluster: Cluster | None = None
        self.standings: Mapping[ServiceKey, Standing] = {}

    def seed(self, states: Mapping[Target, State]) -> None:
        """States remembered from before a restart; to be told before the first `configure`."""
        self._checker.seed(states)

    def configure(self, cluster: Cluster) -> None:
        """Look after the reals of this cluster from now on."""
        self._cluster = cluster
        directory = cluster.cluster.maintenance
        self._maintenance.configure(Path(directory) if directory else None)
        self._checker.configure(
            {
                (key, real.address): ProbeTarget(real.address, virtual.check_port, virtual.check_of(real), key)
                for virtual in cluster.virtuals
                for key in [plan.service_key(virtual)]
                for real in virtual.reals
            }
        )

    async def close(self) -> None:
        """Stop; returns when nothing of it runs any more."""
        if self._step:
            self._step.cancel()
        await self._checker.close()
        await self._maintenance.close()
        await self._fallback_commands.close()

    @property
    def healths(self) -> dict[Target, Health]:
        """What is known of each real."""
        return self._checker.snapshot()

    @property
    def maintained(self) -> dict[Target, str]:
        """The reals in maintenance, with the name of a file that says so."""
        return plan.maintained(self._cluster, self._maintenance.files) if self._cluster else {}

    def weigh(self, cluster: Cluster, overrides: Overrides) -> Mapping[ServiceKey, Standing]:
        """How the virtuals stand with these orders; by and by, a slow start will call for the next look."""
        standings = plan.standings(cluster, self.healths, overrides, self._loop.time())
        steps = [stand.next_s for stand in standings.values() if stand.next_s is not None]
        if self._step:
            self._step.cancel()
        self._step = self._loop.call_at(min(steps), self._on_change) if steps else None
        return standings

    def applied(self, cluster: Cluster, standings: Mapping[ServiceKey, Standing]) -> None:
        """The packet path follows these now."""
        self.standings = standings
        self._fallback_commands.update(cluster, standings)

    def _on_health(self, _target: Target, _health: Health, _change: Change | None) -> None:
        self._on_change()
