"""Everything a director knows and does about the health of its reals; `lb.director` carries it to the packet path.

checks ────────────┬→ history, alerts
maintenance files ─┴→ "something changed" → director → packet path
                                                └→ how the virtuals stand now → fallback commands, alerts
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

import structlog

from lb import plan
from lb.addresses import Address
from lb.alerts import Alerts, Event, Phase
from lb.checker import Checker
from lb.datapath.probing import NETWORKS
from lb.health import Change, Health, State
from lb.history import Entry, Histories, History
from lb.maintenance import Maintenance
from lb.model import Cluster, Real, Virtual
from lb.plan import Overrides, Target
from lb.probes import Failed, NotYetError
from lb.probes import Target as ProbeTarget
from lb.service import ServiceKey
from lb.sorry import FallbackCommands
from lb.weights import Standing

log = structlog.get_logger(__name__)

PATIENCE_S = 2.0
"""How long reals that are new may take to answer ARP."""


class Monitor:
    """Health of a cluster's reals until `close`. To be made and used inside one running event loop.

    on_change: called when a real may have to be weighed anew. role: this director's, which decides whether it tells
    people. histories: what happened to each real; those of before a restart go in. leads: is it known whom a probe
    address stands for (`lb.datapath.probing`)?
    """

    def __init__(
        self,
        cluster: Cluster,
        node: str,
        on_change: Callable[[], None],
        role: Callable[[], str],
        states: Mapping[Target, State],
        histories: Mapping[Target, History],
        leads: Callable[[Address], bool] = lambda _address: False,
    ) -> None:
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._phases: dict[Target, Phase] = {}
        self._lost_s: dict[ServiceKey, float] = {}
        self._step: asyncio.TimerHandle | None = None
        self._maintained: dict[Target, str] = {}
        self.histories = Histories(histories)
        self.standings: Mapping[ServiceKey, Standing] = {}
        self._alerts = Alerts((cluster.cluster.name, node), role)
        self._fallback_commands = FallbackCommands()
        self._maintenance = Maintenance(self._on_files)
        self._leads = leads
        self.probe_addresses: dict[Target, Address] = {}
        self._checker = Checker(self._on_health, self._reach)
        self._checker.seed(states)
        self._take("starting", cluster)

    def configure(self, cluster: Cluster) -> None:
        """Look after the reals of this cluster from now on."""
        self._take("reloading", cluster)

    def _take(self, phase: Phase, cluster: Cluster) -> None:
        places = {
            (plan.service_key(virtual), real.address): (virtual, real)
            for virtual in cluster.virtuals
            for real in virtual.reals
        }
        self._cluster = cluster
        self._places: dict[Target, tuple[Virtual, Real]] = places
        self._phases = {target: self._phases.get(target, phase) for target in places}
        self.histories.keep(places)
        self._alerts.configure(cluster.alerts, cluster.own_alerts)
        self._alerts.keep({(virtual.name, str(real.address)) for virtual, real in places.values()})
        directory = cluster.cluster.maintenance
        self._maintenance.configure(Path(directory) if directory else None)
        self._note_files()
        as_virtual = [target for target, (virtual, _) in places.items() if virtual.check.via == "virtual"]
        self.probe_addresses = plan.assign(self.probe_addresses, as_virtual, NETWORKS)
        self._patient_until_s = self._loop.time() + PATIENCE_S
        self._checker.configure(
            {
                target: ProbeTarget(
                    self.probe_addresses.get(target, real.address),
                    virtual.check_port,
                    virtual.check_of(real),
                    target[0],
                )
                for target, (virtual, real) in places.items()
            }
        )

    async def close(self) -> None:
        """Stop; returns when nothing of it runs any more."""
        if self._step:
            self._step.cancel()
        await self._checker.close()
        await self._maintenance.close()
        await self._fallback_commands.close()
        await self._alerts.close()

    @property
    def healths(self) -> dict[Target, Health]:
        """What is known of each real."""
        return self._checker.snapshot()

    @property
    def maintained(self) -> Mapping[Target, str]:
        """The reals in maintenance, with the name of a file that says so."""
        return self._maintained

    @property
    def counters(self) -> dict[str, int]:
        """What did not go as it should."""
        return {
            "checks_not_counted": self._checker.not_counted,
            "checks_early": self._checker.early,
            "alerts_unsent": self._alerts.failures,
        }

    def unanswered(self, repeats: Mapping[Target, int]) -> None:
        """See `Checker.unanswered`."""
        self._checker.unanswered(repeats)

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
        for virtual in cluster.virtuals:
            self._compare(virtual, standings[plan.service_key(virtual)])
        self.standings = standings
        self._fallback_commands.update(cluster, standings)

    def ordered(self, targets: Iterable[Target], what: str, reason: str) -> None:
        """Note in the histories what was ordered for some reals."""
        for target in targets:
            self.histories.add(target, Entry(time.time(), what, "", 0.0, reason))

    def _reach(self, target: ProbeTarget) -> None:
        """A real that is asked as its virtual must have answered ARP."""
        if target.check.via == "real" or self._leads(target.address):
            return
        if self._loop.time() < self._patient_until_s:
            raise NotYetError
        raise Failed("does not answer ARP")

    # ---------------------------------------------------------------- changes

    def _on_health(self, target: Target, health: Health, change: Change | None) -> None:
        if change:
            self.histories.add(target, Entry(time.time(), health.state, change.was, change.lasted_s, health.reason))
            self._tell_of_real(target, health, change)
        self._on_change()

    def _on_files(self) -> None:
        self._note_files()
        self._on_change()

    def _note_files(self) -> None:
        """Who is in maintenance now, and who came or went."""
        before, self._maintained = self._maintained, plan.maintained(self._cluster, self._maintenance.files)
        for target in self._maintained.keys() - before.keys():
            self.ordered([target], "drained", f"maintenance file {self._maintained[target]}")
        for target in before.keys() - self._maintained.keys():
            self.ordered([target], "enabled", "no maintenance file any more")

    def _tell_of_real(self, target: Target, health: Health, change: Change) -> None:
        virtual, real = self._places[target]
        phase: Phase = self._phases[target] if change.was == "unknown" else "running"
        self._alerts.tell(
            Event(
                time.time(), virtual.name, str(real.address), real.name or "", virtual.check.name,
                "up" if health.state == "up" else "down", change.was, change.lasted_s, health.reason, phase,
            )
        )  # fmt: skip

    def _compare(self, virtual: Virtual, stand: Standing) -> None:
        """Say it when a virtual lost its last real or has one again. (Before the first verdicts nothing is lost.)"""
        key = plan.service_key(virtual)
        before = self.standings.get(key)
        if stand.overruled != (before is not None and before.overruled):
            say = log.warning if stand.overruled else log.info
            what = "fewer than min_up are well: all get connections" if stand.overruled else "min_up are well again"
            say(what, virtual=virtual.name, min_up=virtual.min_up)
        now_s = self._loop.time()
        if stand.served and key in self._lost_s:
            lasted_s = now_s - self._lost_s.pop(key)
            log.info("virtual is served again", virtual=virtual.name, lasted=f"{lasted_s:.1f}s")
            self._tell_of_virtual(virtual, "up", lasted_s, "served again")
        elif not stand.served and stand.settled and key not in self._lost_s and virtual.reals:
            self._lost_s[key] = now_s
            reason = f"no real left; {f'the fallback {virtual.fallback}' if virtual.fallback else 'nobody'} serves"
            log.warning("virtual has no real left", virtual=virtual.name, fallback=str(virtual.fallback or "none"))
            self._tell_of_virtual(virtual, "down", 0.0, reason)

    def _tell_of_virtual(self, virtual: Virtual, state: Literal["up", "down"], lasted_s: float, reason: str) -> None:
        was = "down" if state == "up" else ""
        self._alerts.tell(Event(time.time(), virtual.name, "", "", "", state, was, lasted_s, reason))
