"""A running director: holds the parts together and carries each change to where it matters.

    checks ──┐                              ┌─→ packet path (maps)
    operator ├→ "something changed" → plan ─┤
    kernel ──┘  (one coalescing task)       └─→ state file
    packet path ── events ──→ failover (sync) ──→ the other director
    failover ── take / release ──→ address, announcements, lease

The parts are edges of their own; this module owns no protocol and no socket. `lb.orders` has what commands ask of it,
`lb.daemon` is its process.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import structlog

from ha import authkeys
from ha.failover import Failover
from ha.programs import Programs
from ha.watchdog import Watchdog
from lb import byhand, plan, state, status
from lb.addresses import Interface
from lb.connections import Ours, Rows
from lb.datapath import DataPath
from lb.datapath.fragments import Fragments
from lb.datapath.listener import Listener
from lb.datapath.probing import Behind, Probing
from lb.errors import ConfigError, LbctlError, Problem
from lb.limits import Limits
from lb.memory import Memory
from lb.model import Cluster
from lb.monitor import Monitor
from lb.netif import InterfaceWatch, Link, Place, Ways
from lb.ownership import Ownership
from lb.plan import Override, Target
from lb.rates import SAMPLE_INTERVAL_S, Rates
from lb.rundir import authkeys_path, state_path
from lb.state import Remembered
from lb.status import Known

log = structlog.get_logger(__name__)

SWEEP_INTERVAL_S = 5.0
SWEEP_SHARE = 0.04
"""Of one core's time at most: the next sweep waits longer where the table is too large for that."""

REPEATS_INTERVAL_S = 0.1


class Director:
    """This node's director, from `start` to `stop`."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        """Raises ConfigError if the shared keys are not as they should be."""
        self.cluster = cluster
        self.node = cluster.node(name)
        self._keys = _keys(cluster)
        self._interfaces = cluster.interfaces_of(self.node)
        self._interface = self._interfaces[0]
        self._remembered = state.load(state_path(name))
        self._keep(self._remembered.book)
        self._changed = asyncio.Event()
        self._applying = asyncio.Lock()
        self._reloading = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._rates = Rates()
        self.failover: Failover
        self._ownership: Ownership | None = None
        self._programs = Programs(cluster, name, self._on_resource_failed)
        self._watchdog = Watchdog()
        self._orderly = False
        self._left = False
        self.stopping = asyncio.Event()

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Bring everything up; returns when packets of the virtuals are being balanced.

        Raises LbctlError, and then has let go of all it had taken. What an earlier process left in the kernel goes on
        working in that case too.
        """
        async with contextlib.AsyncExitStack() as undo:
            await self._start(undo)
            self._undo = undo.pop_all()

    async def _start(self, undo: contextlib.AsyncExitStack) -> None:
        self._watch = InterfaceWatch(self._interface, self._on_link, self._on_address_lost)
        link = await self._watch.start()
        undo.callback(self._watch.close)
        self._place = Place(self._interface, self.cluster.ha.virtual_mac_bytes)
        undo.callback(lambda: self._place.close() if self._orderly else None)
        if self._place.virtual:
            placed = InterfaceWatch(self._place.name, lambda _: None, self._on_address_lost)
            await placed.start()
            undo.callback(placed.close)
        self._ways = Ways(self._interfaces, self._changed.set)
        await self._ways.start()
        undo.callback(self._ways.close)
        self._want_ways()
        self._memory = Memory(state_path(self.node.name), self._to_remember)
        undo.push_async_callback(self._memory.close)
        self._probing = Probing(self._interface, self.node.address)
        undo.callback(self._probing.close)
        if families := self.cluster.asks_as_virtual:
            await self._probing.open(families)
        self._monitor = Monitor(
            self.cluster, self.node.name, self._changed.set, self._role,
            self._remembered.states, self._remembered.histories, self._probing.leads,
        )  # fmt: skip
        undo.push_async_callback(self._monitor.close)
        self._lead_probes()
        self._data = await DataPath.open(
            self.node.name, self._interfaces, self.cluster.connections, self.cluster.cluster.attach
        )
        undo.callback(lambda: self._data.close(detach=self._orderly))
        self._configure_data(self.cluster)
        await self._apply()
        log.info("packet path attached", **self._data.modes)
        self._ownership = ownership = Ownership(
            *(self.cluster, self.node.name, self._interface, link.mac, self._place, self._data, self._ways),
            *(lambda: self.failover.predecessors, self._programs),
        )
        undo.callback(ownership.close)
        self.failover = Failover(self.cluster, self.node.name, self._keys, ownership, self, self)
        if not (link.up and link.carrier):
            self.failover.impair(True)
        undo.callback(Listener(self._data.event_fd, self._on_events).close)
        self._fragments = Fragments(self._data, self._interfaces)
        undo.callback(self._fragments.close)
        self._watchdog.configure(self.cluster.ha.watchdog, self.cluster.ha.deadtime)
        undo.callback(self._watchdog.close)
        for task in (
            self._reconcile,
            self._sweep,
            self._measure,
            self._listen_for_repeats,
            ownership.keep_lease,
            self._programs.run,
            self._watchdog.run,
            self.failover.run,
        ):
            self._tasks.append(asyncio.create_task(task(), name=task.__name__))
        undo.push_async_callback(self._end_tasks)

    async def stop(self) -> None:
        """Hand over, forward stragglers for a moment, then leave no trace."""
        if await self.failover.hand_over():
            async with self._applying:
                self._left = True
                self._data.detach()
            while self._on_events():
                pass
            await self.failover.tell_all()
        await self.failover.leave()
        await self._programs.idle()
        self._orderly = True
        await self._memory.write()
        await self._undo.aclose()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def failed(self) -> BaseException:
        """Wait until one of the lasting tasks dies, which none should; returns its error."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().exception() or RuntimeError("a task of the director ended")

    # ----------------------------------------------------- what others tell us

    def _on_link(self, link: Link | None) -> None:
        if link is None:
            log.error("the interface is gone", interface=self._interface)
        elif not (link.up and link.carrier):
            log.warning("the interface is down", interface=self._interface)
        else:
            log.info("the interface is up", interface=self._interface)
        if self._ownership:
            self.failover.impair(not (link and link.up and link.carrier))

    def _on_address_lost(self, address: Interface) -> None:
        if self._ownership:
            self._ownership.lost(address)

    def _on_resource_failed(self) -> None:
        self._handing = asyncio.create_task(self._hand_over())

    async def _hand_over(self) -> None:
        try:
            await self.failover.standby("")
        except LbctlError as error:
            log.error("a resource does not run, and nobody can take over", reason=str(error))

    def _on_events(self) -> bool:
        families = self._data.read_events()
        for rows in families:
            self.failover.push(rows)
        return len(families) > 0

    # ------------------------------------------------- failover's part of us

    def snapshot(self) -> tuple[Rows, ...]:
        """Every live connection."""
        return self._data.snapshot()

    def install(self, rows: Rows, ours: Ours) -> int:
        """Take over connections that another director knows. Returns how many are of reals that are unknown here."""
        installed, unknown = self._data.install(rows, ours)
        log.debug("connections installed", count=installed)
        return unknown

    # ------------------------------------------------------------------ tasks

    async def _reconcile(self) -> None:
        """Carry changes to the packet path, several at once where they come together."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._apply()
                self._memory.write_soon()
            except (LbctlError, OSError) as error:
                log.error("the packet path could not be brought up to date; trying again", error=str(error))
                await asyncio.sleep(1.0)
                self._changed.set()

    async def _apply(self) -> None:
        self._lead_probes()
        cluster, healths, orders = self.cluster, self._monitor.healths, self._orders
        standings = self._monitor.weigh(cluster, orders)
        services = plan.desired(cluster, healths, orders, self._ways.hop, standings)
        async with self._applying:
            if self._left:
                return
            await self._data.apply(services)
        self._monitor.applied(cluster, standings)

    async def _sweep(self) -> None:
        lost_before = self._data.events_lost  # by an earlier process, after which everything is sent anyway
        cost_s = 0.0
        while True:
            await asyncio.sleep(max(SWEEP_INTERVAL_S, cost_s / SWEEP_SHARE))
            with _failure_logged("the connection table was not swept"):
                async with self._applying:
                    cost_s = await asyncio.to_thread(_cpu_s, self._data.sweep)
                if (lost := self._data.events_lost) != lost_before:
                    log.warning("connection events were lost: sending everything again", count=lost - lost_before)
                    lost_before = lost
                    self.failover.resync()

    async def _measure(self) -> None:
        while True:
            with _failure_logged("the rates were not measured"):
                self._rates.read(await asyncio.to_thread(self._data.totals), time.monotonic())
            await asyncio.sleep(SAMPLE_INTERVAL_S)

    async def _listen_for_repeats(self) -> None:
        """Have reals checked at once that leave SYNs unanswered, where `passive` asks for it."""
        while True:
            await asyncio.sleep(REPEATS_INTERVAL_S)
            if repeats := self._data.repeats():
                self._monitor.unanswered(repeats)

    # ---------------------------------------------------------------- changes

    async def change_cluster(self, new: Cluster) -> None:
        """Apply the difference to another configuration; connections to what stays are not touched.

        A failure changes nothing. Raises ConfigError for what needs a restart and for bad keys, DataPathError.
        """
        async with self._reloading:  # of two at once the later finds the earlier done, or undone
            keys = _keys(new)
            self._refuse_restart_only(new)
            old = self.cluster
            if families := new.asks_as_virtual:
                await self._probing.open(families)
            self._configure(new)
            try:
                await self._apply()
            except LbctlError:
                self._configure(old)
                raise
            if self._ownership:
                self._ownership.configure(new)
            self.failover.reconfigure(new, keys)
            self._watchdog.configure(new.ha.watchdog, new.ha.deadtime)
            await self._memory.write()
            log.info("configuration applied", file=str(new.path))

    def _configure(self, cluster: Cluster) -> None:
        self.cluster, self.node = cluster, cluster.node(self.node.name)
        self._configure_data(cluster)
        self._monitor.configure(cluster)
        self._want_ways()

    def _configure_data(self, cluster: Cluster) -> None:
        self._data.settings = cluster.connections
        self._data.limits = Limits.of(cluster.limits)
        self._data.virtual_mac = cluster.ha.virtual_mac_bytes
        self._data.told = bool(cluster.peers_of(self.node.name))

    def _refuse_restart_only(self, new: Cluster) -> None:
        file = str(new.path)
        if self.node.name not in [node.name for node in new.nodes]:
            raise ConfigError(file, (Problem(0, "node", f"{self.node.name!r} runs here but is not in the file"),))
        node = new.node(self.node.name)
        for path, old_value, new_value in (
            ("node.address", self.node.address, node.address),
            ("cluster.interface", self._interface, new.interface_of(node)),
            ("cluster.real_interfaces", self._interfaces[1:], new.interfaces_of(node)[1:]),
            ("cluster.attach", self.cluster.cluster.attach, new.cluster.attach),
            ("cluster.name", self.cluster.cluster.name, new.cluster.name),
            ("ha.port", self.cluster.ha.port, new.ha.port),
            ("virtual.preferred", _placed(self.cluster, new), _placed(new, self.cluster)),
            ("ha.virtual_mac", self.cluster.ha.virtual_mac, new.ha.virtual_mac),
            ("connections.max", self.cluster.connections.max, new.connections.max),
        ):
            if old_value != new_value:
                problem = f"changed from {old_value} to {new_value}, which needs 'lbctl down' and 'lbctl up'"
                raise ConfigError(file, (Problem(0, path, problem),))

    async def override(
        self, targets: Iterable[Target], change: Callable[[plan.Overrides], dict[Target, Override]], what: str
    ) -> None:
        """Change what the operator ordered by hand for some reals, at once and until undone. what: for their history.

        Raises DataPathError.
        """
        self._keep(byhand.written(self._book, change(self._overrides), time.time_ns()))
        self._monitor.ordered(targets, what, "by hand")
        self.failover.share()
        await self._apply()
        await self._memory.write()

    def _keep(self, book: byhand.Book) -> None:
        self._book, self._overrides = book, byhand.overrides(book)

    def orders(self) -> Iterable[bytes]:
        """What operators ordered by hand, for the other directors."""
        return byhand.encode(self._book)

    def ordered(self, orders: bytes) -> None:
        """What another director was ordered."""
        try:
            book = byhand.merged(self._book, byhand.decode(orders))
        except ValueError as error:
            log.warning("orders of another director cannot be read", error=str(error))
            return
        before = self._overrides
        self._keep(book)
        for target in byhand.differing(before, self._overrides):
            now = byhand.wording(self._overrides.get(target, Override()))
            log.info("by hand, at another director", real=f"{target[0]} {target[1]}", now=now)
            self._monitor.ordered([target], now, "by hand, at another director")
            self._changed.set()

    def _warnings(self) -> list[str]:
        held = self._ownership.warnings if self._ownership else []
        return held + [trouble for trouble in (self._memory.trouble, self._watchdog.trouble) if trouble]

    async def status(self) -> dict[str, Any]:
        """DESIGN section 3's document."""
        failover = self.failover.status()
        held = await asyncio.to_thread(self._data.held)
        return {
            "node": self.node.name,
            "cluster": self.cluster.cluster.name,
            "role": failover.role,
            "since": failover.since,
            "roles": failover.roles,
            "interface": self._interface,
            "mode": self._data.modes[self._interface],
            "interfaces": self._data.modes,
            "file": str(self.cluster.path),
            "peers": failover.peers,
            "sync": {**failover.sync, "connections": status.known_connections(held)},
            "warnings": failover.warnings + self._warnings(),
            "heartbeat": failover.counters,
            "packets": {**self._data.counters(), "drop_early_fragment": self._fragments.lost},
            "monitor": self._counters(),
            "denied": self._data.denied(),
            "virtuals": status.virtuals(self.cluster, self._known(), held, self._rates),
        }

    def status_of(self, targets: Iterable[Target]) -> list[dict[str, Any]]:
        """These reals with what happened to them."""
        return status.reals(self.cluster, self._known(), self._monitor.histories, self._rates, set(targets))

    def _counters(self) -> dict[str, int]:
        memory = {"state_file_damaged": int(self._remembered.damaged), "state_file_unwritten": self._memory.failures}
        return self._monitor.counters | memory

    # ---------------------------------------------------------------- helpers

    def _role(self) -> str:
        """Of this director; before there is a failover it has none yet."""
        return self.failover.role if self._ownership else "init"

    def _known(self) -> Known:
        monitor = self._monitor
        return Known(monitor.healths, self._orders, monitor.maintained, monitor.standings, time.monotonic())

    @property
    def _orders(self) -> plan.Overrides:
        """What is ordered by hand and by maintenance files; both go before what checks say."""
        return plan.drain(self._overrides, tuple(self._monitor.maintained))

    def _want_ways(self) -> None:
        """To the reals, and to the directors that may have to be asked about connections."""
        peers = (peer.address for peer in self.cluster.peers_of(self.node.name))
        self._ways.want(peers, plan.reached_by(self.cluster, "gate"), plan.reached_by(self.cluster, "ipip"))

    def _lead_probes(self) -> None:
        """Checks as the virtual find each real by its MAC."""
        macs = {target: self._ways.mac(target[1]) for target in self._monitor.probe_addresses}
        self._probing.update(
            {
                address: Behind(target[0].address, mac)
                for target, address in self._monitor.probe_addresses.items()
                if (mac := macs[target])
            }
        )

    def _to_remember(self) -> Remembered:
        """For the next process. Only one that finds our packet path still at work may trust our last checks."""
        states = {} if self._orderly else {target: h.state for target, h in self._monitor.healths.items()}
        return Remembered(self._book, states, self._monitor.histories.snapshot())


def _placed(cluster: Cluster, other: Cluster) -> dict[str, list[str]]:
    """Which addresses go with which preferred node, of those that are in the other configuration, too."""
    return {
        group or "the others": sorted(str(address) for address in addresses if address in other.addresses)
        for group, addresses in cluster.groups.items()
    }


@contextlib.contextmanager
def _failure_logged(what: str) -> Iterator[None]:
    """For what is done again soon, so that a director need not end for it."""
    try:
        yield
    except (LbctlError, OSError) as error:
        log.error(what, error=str(error))


def _cpu_s(work: Callable[[], object]) -> float:
    """Do it; returns the seconds of a core that this thread spent on it."""
    began_s = time.thread_time()
    work()
    return time.thread_time() - began_s


def _keys(cluster: Cluster) -> authkeys.AuthKeys:
    """The keys that the directors share; one alone has nobody to share with, and uses its own. Raises ConfigError."""
    if len(cluster.nodes) == 1:
        return authkeys.parse(authkeys.generate())
    return authkeys.load(authkeys_path(cluster))
