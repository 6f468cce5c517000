"""Failover on real sockets and clocks: `ha.member` decides, `ha.links` syncs, the hooks act. Edge.

Heartbeats say active only after `take` has returned (`ha.holding`).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

import structlog

from ha import status as views
from ha.channel import Channel
from ha.counters import Counters
from ha.deputy import now
from ha.duties import Duties, told_by_peer
from ha.holding import Holding
from ha.hooks import Hooks, Shared, Table
from ha.link import Link
from ha.links import Callbacks, Links
from ha.member import Member
from ha.ports import Ports
from ha.settings import digest, settings
from ha.share import Share
from ha.state import (
    HANDOVER_S,
    SERVING,
    Action,
    Announce,
    Ask,
    Contested,
    Event,
    Finished,
    GiveUp,
    Hush,
    Impaired,
    Leave,
    Phase,
    Release,
    Role,
    Synced,
    Take,
    Witnessed,
)
from ha.status import HaStatus
from ha.wire import Keys
from ha.witness import Witnesses
from lb.connections import Ours, Rows
from lb.errors import FailoverError, NetworkError
from lb.model import Cluster

log = structlog.get_logger(__name__)

LOOK_S = 1.0
"""Between two looks who has the address."""

LINGER_S = 0.3
"""How long a director that leaves forwards on after a handover: clients and switches learn the new place meanwhile."""

_GOODBYES = 3
_PAUSE_S = 0.005


class Failover:
    """This node's part in the cluster, from `run` until `leave` or cancellation.

    It has a role for each group of virtual addresses (`ha.member`), which share links, sessions and ping nodes.
    Everything but the hooks of the table happens in the loop of `run`.
    """

    def __init__(self, cluster: Cluster, me: str, keys: Keys, hooks: Hooks, table: Table, shared: Shared) -> None:
        self._cluster, self._me, self._keys = cluster, cluster.node(me), keys
        self._hooks, self._table, self._shared = hooks, table, shared
        self._counters = Counters()
        life = secrets.randbits(63) | 1
        mine, groups = settings(cluster, me), tuple(cluster.groups)
        self._member = Member(
            cluster.cluster.name, mine, cluster.ha.late_s, keys, life, self._counters, now(), groups[1:]
        )
        self._member.heartbeats.config = digest(cluster)
        callbacks = Callbacks(self._link, self._on_sync, self._on_crash)
        self._links = Links(cluster, me, keys, life, self._counters, callbacks)
        self._witnesses = Witnesses(self._me.address, now, self._on_witnesses)
        self._witnesses.configure(cluster.ha.ping, cluster.ha.deadtime)
        self._holdings = {group: Holding(group, hooks, self._silent_predecessor, self._happen) for group in groups}
        self._since = dict.fromkeys(groups, datetime.now(UTC))
        self._duties = {group: Duties(mine.peers) for group in groups}
        self._share = Share(cluster.groups)
        self._led: dict[str, frozenset[str]] = {}
        self._handover: tuple[str, asyncio.Future[str]] | None = None
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
                holdings = (holding.carry_out() for holding in self._holdings.values())
                works = (*holdings, self._ask_witnesses(), self._look_around())
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
            if self._handover and not self._handover[1].done():
                self._handover[1].set_result("lbctl is ending")

    async def hand_over(self) -> bool:
        """What we serve, if a peer is able, and wait until switches and clients have learnt the new place.

        Was it handed over? Whoever forwards no more then should `tell_all` before it leaves.
        """
        handed = False
        if self._runs and self._handover:
            await asyncio.wait([self._handover[1]])
        for group, state in self._member.states.items():
            if self._runs and state.phase in SERVING and state.ables:
                try:
                    await self.standby(group)
                    handed = True
                except FailoverError as error:
                    log.warning("leaving without a handover", reason=str(error))
        if handed:
            await asyncio.sleep(LINGER_S)
        return handed

    @property
    def _runs(self) -> bool:
        return self._ports is not None and self._ended is not None and not self._ended.done()

    async def tell_all(self) -> None:
        """Return when peers have what they were to be told, or take too long for it."""
        ends_s = now() + LINGER_S
        while now() < ends_s and any(link.sync.behind for link in self._links.links.values()):  # noqa: ASYNC110
            await asyncio.sleep(_PAUSE_S)

    async def leave(self) -> None:
        """Say goodbye, release, and end `run`."""
        if not self._runs:
            return
        for group, state in reversed(list(self._member.states.items())):  # whose first one is left has left altogether
            if state.phase is not Phase.LEFT:
                self._happen(Leave(), group)
        self._links.rest()
        for _ in range(_GOODBYES):
            self._member.heartbeats.repeat(now())
            self._pump()
            await asyncio.sleep(_PAUSE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANDOVER_S):
                for holding in self._holdings.values():
                    await holding.settled()
        if self._ended and not self._ended.done():
            self._ended.set_result(None)

    # ------------------------------------------------------------------------------------------------- commands

    @property
    def predecessors(self) -> dict[str, tuple[str, bool]]:
        """By group the peer that was heard last as active, empty if none was, and whether it has left since."""
        lives = self._member.heartbeats.peers
        before = {group: duties.predecessor for group, duties in self._duties.items()}
        return {group: (name, name in lives and lives[name].left) for group, name in before.items()}

    @property
    def role(self) -> Role:
        """init, standby or active; of the addresses that name no preferred node of their own."""
        return self._member.state.role

    def role_of(self, group: str) -> Role:
        """The same of a group."""
        return self._member.states[group].role

    @property
    def groups(self) -> tuple[str, ...]:
        """Each has a role of its own."""
        return tuple(self._member.states)

    async def standby(self, group: str = "") -> None:
        """Hand over to a peer; returns when it is active and our address is gone. Raises FailoverError."""
        role = self._member.states[group].role
        if role == "standby":
            return
        if role == "init":
            raise FailoverError(f"{self._me.name} is init: it holds nothing that it could hand over")
        await self._command(GiveUp(), group, f"{self._me.name} stays active")

    async def takeover(self, group: str = "") -> None:
        """Be handed over to; returns when we are active. Raises FailoverError."""
        state = self._member.states[group]
        if state.phase is Phase.ACTIVE:
            return
        if state.role == "init":
            raise FailoverError(
                f"{self._me.name} is init: it can take over once it is standby; `lbctl status` shows it"
            )
        await self._command(Ask(), group, f"{self._me.name} stays standby")

    async def _command(self, event: GiveUp | Ask, group: str, otherwise: str) -> None:
        if self._handover:
            raise FailoverError("another handover by command is under way; wait for its end")
        handover = asyncio.get_running_loop().create_future()
        self._handover = group, handover
        try:
            self._happen(event, group)
            error = await handover
        finally:
            self._handover = None
        if error:
            raise FailoverError(f"{otherwise}: {error}")
        try:
            async with asyncio.timeout(HANDOVER_S):
                await self._holdings[group].settled()
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
        """Timings, peers, ping nodes and keys change live, the groups do not.

        Raises FailoverError for what needs a restart.
        """
        me, old = cluster.node(self._me.name), self._cluster
        fixed = (me.address, cluster.ha.port, cluster.cluster.name)
        if fixed != (self._me.address, old.ha.port, old.cluster.name):
            raise FailoverError("a director's address, [ha] port and [cluster] name need `lbctl down` and `lbctl up`")
        self._cluster, self._keys = cluster, keys or self._keys
        self._share = Share(cluster.groups)
        self._member.reconfigure(settings(cluster, me.name), cluster.ha.late_s, self._keys, digest(cluster))
        self._links.reconfigure(cluster, self._keys)
        if self._ports:
            self._ports.configure(cluster)
        self._witnesses.configure(cluster.ha.ping, cluster.ha.deadtime)
        self._pump()

    def status(self) -> HaStatus:
        """What there is to see."""
        state, states, now_s = self._member.state, self._member.states, now()
        lives = self._member.heartbeats.peers
        sessions = {name: link.sync for name, link in self._links.links.items()}
        counted = self._counters.values
        return HaStatus(
            state.role,
            views.time_of(self._since[""]),
            views.peers(self._cluster, state, lives, now_s),
            views.sync(states.values(), sessions, now_s),
            {**counted, **{name: counted[name] + more for name, more in self._links.counted.items()}},
            views.warnings(
                self._cluster, states, lives, sessions, self._member.heartbeats.config, self._witnesses.silent, now_s
            ),
            views.roles(self._cluster, states, {group: views.time_of(since) for group, since in self._since.items()}),
        )

    # ----------------------------------------------------------------------------------------------- what happens

    def received(self, data: bytes, link: str) -> None:
        """A datagram arrived over a link."""
        with self._watched():
            if self._member.receive_datagram(data, now(), link):
                self._pump()

    def _on_timer(self) -> None:
        with self._watched():
            now_s = now()
            if self._ports and self._member.heartbeats.deadline() <= now_s:
                self._ports.read()  # what has come while we were late is not silence
            self._member.handle_timer(now_s)  # no later: who is due since was not listened to
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
            for duties in self._duties.values():
                duties.paid({name: link.sync for name, link in self._links.links.items()})
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
            for group in filter(self._is_unsure, self.groups):
                holder = await self._hooks.holder(group)
                if self._is_unsure(group) and holder != self._member.states[group].contested:
                    log.info("asked who has the address", held=holder or "nobody")
                    self._happen(Contested(holder), group)
            if self._ports:
                self._ports.mend()
            await asyncio.sleep(LOOK_S)

    def _is_unsure(self, group: str) -> bool:
        return self._member.states[group].phase is Phase.INIT and not self._duties[group].predecessor

    def _happen(self, event: Event, group: str | None = None) -> None:
        """In one group, or in all. Raises IllegalTransition, Refused."""
        self._member.happened(event, now(), group)
        self._pump()

    def _pump(self) -> None:
        """Carry what the member wants to the outside."""
        if self._ports is None:
            return
        for group, duties in self._duties.items():
            if duties.follow(self._member.states[group]):
                self._since[group] = datetime.now(UTC)
                self._hooks.now(group, duties.role)
                if duties.owes_more:
                    for link in self._links.links.values():
                        link.sync.retell(now())
                        link.wake()
        taking = False
        while found := self._member.next_action():
            self._act(*found)
            taking |= isinstance(found[1], Take)
        if taking:  # that goes before everything else, which takes longer
            asyncio.get_running_loop().call_soon(self._on_timer)
            return
        if datagrams := self._member.datagrams_to_send(now()):
            if not self._ports.entrust(self._member.spares()):  # first: an earlier one must not come behind these
                self._member.heartbeats.unaided()
            self._ports.send(datagrams)
        while outdated := self._member.heartbeats.next_outdated():
            self._ports.expect(*outdated, self._member.heartbeats.passes)
        while note := self._member.next_note():
            (log.warning if note.warning else log.info)(note.text, **note.fields)
        self._follow_peers()
        self._lead()
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(self._member.timer() - now(), 0.0), self._on_timer)

    def _follow_peers(self) -> None:
        """Sessions follow the heartbeats."""
        open_lives = {name: link.peer.life for name, link in self._links.links.items()}
        drop, knock, left = self._duties[""].changed(self._member.heartbeats.peers, open_lives)
        for name in drop:
            self._links.drop(name)
        for name in knock:
            self._links.knock(name)
        for name in left:
            try:
                self._hooks.left(name)
            except Exception:
                log.exception("a director that has left is asked about connections until that is over by itself")

    def _lead(self) -> None:
        for name, link in self._links.links.items():
            led = frozenset(g for g, duties in self._duties.items() if duties.leads(name, self._member.states[g]))
            if led == self._led.get(name):
                continue
            more = led - self._led.get(name, frozenset())
            self._led[name] = led
            link.sync.lead(bool(led))
            if more and led != more and not link.sync.complete:
                link.sync.resync(now())  # its snapshot was of fewer groups, and this one's rows are not all from there
            link.wake()

    def _link(self, channel: Channel) -> Link:
        name = channel.peer.node
        self._led.pop(name, None)

        def rows(ours: bool) -> tuple[Rows, ...]:
            led = self._led.get(name, frozenset())
            return self._share.within(self._table.snapshot(), led if ours else told_by_peer(self._duties, led))

        link = Link(channel, rows, self._install, now, self._on_sync, self._shared.ordered)
        self._tell_shared(link)
        return link

    def _install(self, rows: Rows) -> int:
        """A peer's. Of what we are active for, we have the younger news."""
        active = frozenset(group for group, state in self._member.states.items() if state.phase is Phase.ACTIVE)
        parts = ((active, Ours.AS_LATE), (frozenset(self._duties) - active, Ours.LATER))
        found = [(of_group, ours) for groups, ours in parts for of_group in self._share.within((rows,), groups)]
        return sum(self._table.install(of_group, ours) for of_group, ours in found if len(of_group))

    # ------------------------------------------------------------------------------------------------------ hooks

    def _act(self, group: str, action: Action) -> None:
        match action:
            case Take() | Release():
                self._holdings[group].order(action)
            case Announce():
                try:
                    self._hooks.announce(group)
                except Exception:
                    log.exception("the address could not be announced again")
            case Hush():
                self._hooks.hush(group)
            case Finished(error=error):
                if error:
                    log.warning("handover failed", reason=error)
                if self._handover and self._handover[0] == group and not self._handover[1].done():
                    self._handover[1].set_result(error)

    def _silent_predecessor(self, group: str) -> str:
        """Who was active, and may still be for all we know."""
        before = self._duties[group].predecessor
        life = self._member.heartbeats.peers.get(before)
        return before if life and not life.alive and life.cause == "silent" else ""
