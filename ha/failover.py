"""Failover on real sockets and clocks: `ha.member` decides, `ha.links` syncs, the hooks act. Edge.

Orders of effects: heartbeats say active only after `take` has returned; `take` and `release` never overlap and run in
the order in which they were decided. A hook that raises is logged and leads to the safe side: an address that could not
be taken is released and not claimed; one that could not be released is tried again until that works or it is ours anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Protocol

import structlog

from ha import status as views
from ha.channel import Channel
from ha.counters import Counters
from ha.deputy import now
from ha.duties import Duties
from ha.link import Link
from ha.links import Callbacks, Links
from ha.member import Member
from ha.ports import Ports
from ha.role import HANDOVER_S, RETRY_S
from ha.state import (
    SERVING,
    Action,
    Announce,
    Ask,
    Contested,
    Event,
    Finished,
    GiveUp,
    Impaired,
    Leave,
    Phase,
    Release,
    Role,
    Settings,
    Synced,
    Take,
    TakeFailed,
    Taken,
    Witnessed,
)
from ha.status import HaStatus
from ha.wire import Keys
from ha.witness import Witnesses
from lb.connections import Rows
from lb.errors import FailoverError, NetworkError
from lb.model import Cluster

log = structlog.get_logger(__name__)

LOOK_S = 1.0
"""Between two looks who has the address."""

_GOODBYES = 3
_GOODBYE_PAUSE_S = 0.005


class Hooks(Protocol):
    """What failover asks of the network."""

    async def take(self, silent: str) -> None:
        """Return when the virtual addresses are up and announced. silent: who had them and fell silent; empty: none."""

    async def release(self) -> None:
        """Return when they are gone; nothing to do if they are not there."""

    async def holder(self) -> str:
        """Who else answers for one of them now, in words; empty: nobody."""

    def announce(self) -> None:
        """Say again where the addresses are."""

    def now(self, role: Role) -> None:
        """Our role has changed."""


class Table(Protocol):
    """What it asks of the data plane."""

    def snapshot(self) -> tuple[Rows, ...]:
        """All connections, an array for each family; called in a thread."""

    def install(self, rows: Rows) -> int:
        """Put a peer's connections into the table, `ha.rows.MAX_ROWS` at most; many in a thread.

        Returns how many have no place there, since their real is unknown."""


def digest(cluster: Cluster) -> str:
    """The same on two nodes whose files say the same."""
    return hashlib.sha256(cluster.model_dump_json(exclude={"path"}).encode()).hexdigest()[:16]


def settings(cluster: Cluster, me: str) -> Settings:
    """The file, as the role machine wants it."""
    ha = cluster.ha
    names = tuple(node.name for node in cluster.nodes)
    return Settings(me, names, ha.keepalive, ha.deadtime, ha.initdead, ha.preferred, ha.auto_failback)


class Shared(Protocol):
    """What else directors tell each other: any bytes, each time in whole or in parts."""

    def orders(self) -> Iterable[bytes]:
        """All that a peer must know."""

    def ordered(self, orders: bytes) -> None:
        """A peer has told this."""


class Failover:
    """This node's part in the cluster, from `run` until `leave` or cancellation.

    Everything but the hooks of the table happens in the loop of `run`.
    """

    def __init__(self, cluster: Cluster, me: str, keys: Keys, hooks: Hooks, table: Table, shared: Shared) -> None:
        self._cluster, self._me, self._keys = cluster, cluster.node(me), keys
        self._hooks, self._table, self._shared = hooks, table, shared
        self._counters = Counters()
        life = secrets.randbits(63) | 1
        mine = settings(cluster, me)
        self._member = Member(cluster.cluster.name, mine, cluster.ha.late_s, keys, life, self._counters, now())
        self._member.heartbeats.config = digest(cluster)
        callbacks = Callbacks(self._link, self._on_sync, self._on_crash)
        self._links = Links(cluster, me, keys, life, self._counters, callbacks)
        self._witnesses = Witnesses(self._me.address, now, self._on_witnesses)
        self._witnesses.configure(cluster.ha.ping, cluster.ha.deadtime)
        self._orders: asyncio.Queue[Take | Release] = asyncio.Queue()
        self._since = datetime.now(UTC)
        self._duties = Duties(mine.peers)
        self._handover: asyncio.Future[str] | None = None
        self._ports: Ports | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[None] | None = None

    # ----------------------------------------------------------------------------------------------------- life

    async def run(self) -> None:
        """Take part until `leave` has come to its end.

        Raises NetworkError if a port cannot be had, and whatever must not happen: better an end that is noticed than
        a director that holds the address and sends no heartbeats.
        """
        self._ended = asyncio.get_running_loop().create_future()
        self._ports = Ports(self._cluster, self._me.name, self.received, self._counters)
        orderly = False
        try:
            await self._links.start()
            async with asyncio.TaskGroup() as tasks:
                works = (self._carry_out(), self._ask_witnesses(), self._look_around())
                working = [tasks.create_task(work) for work in works]
                self._member.heartbeats.repeat(now())
                self._pump()
                await self._ended
                for task in working:
                    task.cancel()
            orderly = True
        finally:
            if self._timer:
                self._timer.cancel()
            self._ports.close()
            self._ports = None
            await self._links.close(orderly)
            if self._handover and not self._handover.done():
                self._handover.set_result("lbctl is ending")

    async def leave(self) -> bool:
        """Hand over if a peer is able, say goodbye, release, and end `run`. Was it handed over to a peer?"""
        handed = False
        if self._ports is None or self._ended is None or self._ended.done():
            return handed
        if self._handover:
            await asyncio.wait([self._handover])
        if self._member.state.phase in SERVING and self._member.state.ables:
            try:
                await self.standby()
                handed = True
            except FailoverError as error:
                log.warning("leaving without a handover", reason=str(error))
        if self._member.state.phase is not Phase.LEFT:
            self._happen(Leave())
        self._links.rest()
        for _ in range(_GOODBYES):
            self._member.heartbeats.repeat(now())
            self._pump()
            await asyncio.sleep(_GOODBYE_PAUSE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANDOVER_S):
                await self._orders.join()
        if not self._ended.done():
            self._ended.set_result(None)
        return handed

    # ------------------------------------------------------------------------------------------------- commands

    @property
    def predecessor(self) -> str:
        """The peer that was heard last as active; empty: none was."""
        return self._duties.predecessor

    @property
    def role(self) -> Role:
        """init, standby or active."""
        return self._member.state.role

    async def standby(self) -> None:
        """Hand over to a peer; returns when it is active and our address is gone. Raises FailoverError."""
        if self.role == "standby":
            return
        if self.role == "init":
            raise FailoverError(f"{self._me.name} is init: it holds nothing that it could hand over")
        await self._command(GiveUp(), f"{self._me.name} stays active")

    async def takeover(self) -> None:
        """Be handed over to; returns when we are active. Raises FailoverError."""
        if self._member.state.phase is Phase.ACTIVE:
            return
        if self.role == "init":
            raise FailoverError(
                f"{self._me.name} is init: it can take over once it is standby; `lbctl status` shows it"
            )
        await self._command(Ask(), f"{self._me.name} stays standby")

    async def _command(self, event: GiveUp | Ask, otherwise: str) -> None:
        if self._handover:
            raise FailoverError("another handover by command is under way; wait for its end")
        handover = self._handover = asyncio.get_running_loop().create_future()
        try:
            self._happen(event)
            error = await handover
        finally:
            self._handover = None
        if error:
            raise FailoverError(f"{otherwise}: {error}")
        try:
            async with asyncio.timeout(HANDOVER_S):
                await self._orders.join()
        except TimeoutError:
            raise FailoverError("the role has moved, but the address could not be removed here; see the log") from None

    def impair(self, impaired: bool) -> None:
        """Is the service interface down, or without a carrier?"""
        with self._watched():
            self._happen(Impaired(impaired))

    def push(self, rows: Rows) -> None:
        """Connections that the data plane opened or changed."""
        rows, now_s = rows.copy(), now()
        for link in self._links.links.values():
            link.sync.push(rows, now_s)
            link.wake()

    def share(self) -> None:
        """What is shared has changed."""
        for link in self._links.links.values():
            self._tell_shared(link)

    def _tell_shared(self, link: Link) -> None:
        for orders in self._shared.orders():
            link.sync.tell(orders)
        link.wake()

    def resync(self) -> None:
        """The data plane lost events: peers get everything again."""
        for link in self._links.links.values():
            link.sync.resync(now())
            link.wake()

    def reconfigure(self, cluster: Cluster, keys: Keys | None = None) -> None:
        """Timings, peers, ping nodes and keys change live. Raises FailoverError for what needs a restart."""
        me, old = cluster.node(self._me.name), self._cluster
        fixed = (me.address, cluster.ha.port, cluster.cluster.name)
        if fixed != (self._me.address, old.ha.port, old.cluster.name):
            raise FailoverError("a director's address, [ha] port and [cluster] name need `lbctl down` and `lbctl up`")
        self._cluster, self._keys = cluster, keys or self._keys
        self._member.reconfigure(settings(cluster, me.name), cluster.ha.late_s, self._keys, digest(cluster))
        self._links.reconfigure(cluster, self._keys)
        if self._ports:
            self._ports.configure(cluster)
        self._witnesses.configure(cluster.ha.ping, cluster.ha.deadtime)
        self._pump()

    def status(self) -> HaStatus:
        """What there is to see."""
        state, now_s = self._member.state, now()
        lives = self._member.heartbeats.peers
        sessions = {name: link.sync for name, link in self._links.links.items()}
        counted = self._counters.values
        return HaStatus(
            state.role,
            self._since.isoformat(timespec="milliseconds"),
            views.peers(self._cluster, state, lives, now_s),
            views.sync(state, sessions, now_s),
            {**counted, **{name: counted[name] + more for name, more in self._links.counted.items()}},
            views.warnings(
                self._cluster, state, lives, sessions, self._member.heartbeats.config, self._witnesses.silent, now_s
            ),
        )

    # ----------------------------------------------------------------------------------------------- what happens

    def received(self, data: bytes, link: str) -> None:
        """A datagram arrived over a link."""
        with self._watched():
            if self._member.receive_datagram(data, now(), link):
                self._pump()

    def _on_timer(self) -> None:
        with self._watched():
            self._member.handle_timer(now())
            self._pump()

    def _on_crash(self, peer: str) -> None:
        with self._watched():
            self._member.declare(peer, "crashed", now())
            self._pump()

    def _on_witnesses(self, count: int) -> None:
        with self._watched():
            self._happen(Witnessed(count))

    def _on_sync(self) -> None:
        with self._watched():
            self._duties.paid({name: link.sync for name, link in self._links.links.items()})
            held = frozenset(name for name, link in self._links.links.items() if link.sync.complete)
            if held != self._member.state.synced_with:
                self._happen(Synced(held))
            else:
                self._lead()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Callbacks of the loop have nobody to raise to: their errors end `run`."""
        try:
            yield
        except Exception as error:
            if self._ended and not self._ended.done():
                self._ended.set_exception(error)
            else:
                log.exception("failover failed on its way out")

    async def _ask_witnesses(self) -> None:
        try:
            await self._witnesses.run()
        except NetworkError as error:  # better without witnesses than not at all
            log.error("no ping node can be asked", reason=str(error))

    async def _look_around(self) -> None:
        """Before we claim what nobody is heard to have: does somebody answer for it? And: do all links work?"""
        while True:
            if self._is_unsure():
                holder = await self._hooks.holder()
                if self._is_unsure() and holder != self._member.state.contested:
                    log.info("asked who has the address", held=holder or "nobody")
                    self._happen(Contested(holder))
            if self._ports:
                self._ports.mend()
            await asyncio.sleep(LOOK_S)

    def _is_unsure(self) -> bool:
        return self._member.state.phase is Phase.INIT and not self._duties.predecessor

    def _happen(self, event: Event) -> None:
        """Raises IllegalTransition, Refused."""
        self._member.happened(event, now())
        self._pump()

    def _pump(self) -> None:
        """Carry what the member wants to the outside."""
        if self._ports is None:
            return
        if self._duties.follow(self._member.state):
            self._since = datetime.now(UTC)
            self._hooks.now(self._duties.role)
        while action := self._member.next_action():
            self._act(action)
        if datagrams := self._member.datagrams_to_send(now()):
            self._ports.entrust(self._member.spares())  # first: an earlier spare must not come behind these
            self._ports.send(datagrams)
        while note := self._member.next_note():
            (log.warning if note.warning else log.info)(note.text, **note.fields)
        self._follow_peers()
        self._lead()
        if self._timer:
            self._timer.cancel()
        delay_s = max(self._member.timer() - now(), 0.0)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _follow_peers(self) -> None:
        """Sessions follow the heartbeats."""
        open_lives = {name: link.peer.life for name, link in self._links.links.items()}
        drop, knock = self._duties.changed(self._member.heartbeats.peers, open_lives)
        for name in drop:
            self._links.drop(name)
        for name in knock:
            self._links.knock(name)

    def _lead(self) -> None:
        for name, link in self._links.links.items():
            link.sync.lead(self._duties.leads(name, self._member.state))
            link.wake()

    def _link(self, channel: Channel) -> Link:
        link = Link(channel, self._table.snapshot, self._table.install, now, self._on_sync, self._shared.ordered)
        self._tell_shared(link)
        return link

    # ------------------------------------------------------------------------------------------------------ hooks

    def _act(self, action: Action) -> None:
        match action:
            case Take() | Release():
                self._orders.put_nowait(action)
            case Announce():
                try:
                    self._hooks.announce()
                except Exception:
                    log.exception("the address could not be announced again")
            case Finished(error=error):
                if error:
                    log.warning("handover failed", reason=error)
                if self._handover and not self._handover.done():
                    self._handover.set_result(error)

    async def _carry_out(self) -> None:
        while True:
            order = await self._orders.get()
            try:
                if isinstance(order, Take):
                    self._happen(await self._take())
                else:
                    await self._release()
            finally:
                self._orders.task_done()

    async def _take(self) -> Event:
        try:
            async with asyncio.timeout(HANDOVER_S):
                await self._hooks.take(self._silent_predecessor())
        except Exception:
            log.exception("the address could not be taken", next_try_s=RETRY_S)
            with contextlib.suppress(Exception):
                await self._hooks.release()
            return TakeFailed()
        return Taken(time.time_ns())

    def _silent_predecessor(self) -> str:
        """Who was active, and may still be for all we know."""
        before = self._duties.predecessor
        life = self._member.heartbeats.peers.get(before)
        return before if life and not life.alive and life.cause == "silent" else ""

    async def _release(self) -> None:
        while True:
            try:
                await self._hooks.release()
            except Exception:
                log.exception("the address could not be released", next_try_s=RETRY_S)
            else:
                return
            if not self._orders.empty():
                return
            await asyncio.sleep(RETRY_S)
