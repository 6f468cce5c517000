"""One director's process: the real cores, wired as `ha.failover`, `ha.links` and `ha.link` do it, in virtual time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from ha.authkeys import AuthKeys
from ha.counters import Counters
from ha.duties import Duties, told_by_peer
from ha.heartbeat import Spare
from ha.member import Member
from ha.role import IllegalTransition, Refused
from ha.share import Share
from ha.state import (
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
    Settings,
    Synced,
    Take,
    TakeFailed,
    Taken,
)
from ha.sync import Sync
from ha.takeover import ANNOUNCE_AT_S
from lb import byhand
from lb.connections import Ours, Rows
from lb.plan import Override, Target

if TYPE_CHECKING:
    from tests.unit.simulation.machine import Machine
    from tests.unit.simulation.pipes import Pipe

KEYS = AuthKeys(1, {1: b"shared by the cluster"})
LINGER_S: Final = 0.3
REFER_S: Final = 30.0
LEFT_S: Final = 1.0
ROUND_S: Final = 0.8


class Process:
    """On `machine` from now on. finished: how each handover ended."""

    def __init__(self, machine: Machine, settings: Settings, life: int) -> None:
        self.machine, self.world = machine, machine.world
        self.life = life
        self.groups = tuple(self.world.virtuals)
        self.member = Member("test", settings, 0.3, KEYS, life, Counters(), machine.clock(), self.groups[1:])
        self.duties = {group: Duties(settings.peers) for group in self.groups}
        self._share = Share({group: (address,) for group, address in self.world.virtuals.items()})
        self._led: dict[str, frozenset[str]] = {}
        self.pipes: dict[str, Pipe] = {}
        self.frozen = False
        self.ended = False
        self.stopping = False
        self.owned: set[str] = set()
        self.finished: list[str] = []
        self._to_give_up = deque(self.groups)
        self._orders: dict[str, deque[Take | Release]] = {group: deque() for group in self.groups}
        self._busy: set[str] = set()
        self._timer = 0
        self._entrusted = 0
        self._rounds = 0
        self._defending = False
        machine.kernel.attach()
        for task in (self.pump, self._renew, self._look_around, self._read_events, self._sweep):
            self.world.at(0.0, task)

    # ------------------------------------------------------------------------------------------------------- time

    @property
    def running(self) -> bool:
        """Does it get to run?"""
        return not (self.frozen or self.ended)

    @property
    def name(self) -> str:
        """Its node's."""
        return self.machine.name

    def _phase(self, group: str) -> Phase:
        return self.member.states[group].phase

    def later(self, local_s: float, call: object) -> None:
        """After so much of its own time, and not while it is frozen."""

        def try_now() -> None:
            if self.frozen:
                self.world.at(0.02, try_now)
            elif not self.ended:
                call()  # type: ignore[operator]

        self.world.at(local_s / self.machine.rate, try_now)

    def pump(self) -> None:
        """As `Failover._pump`."""
        if not self.running:
            return
        now_s = self.machine.clock()
        if now_s >= self.member.timer():
            self.member.handle_timer(now_s)
        self.settle()

    def settle(self) -> None:
        """Carry what the member wants to the outside, and see when it is due again."""
        for group, duties in self.duties.items():
            if duties.follow(self.member.states[group]) and duties.owes_more:
                for sync in self.syncs().values():
                    sync.retell(self.machine.clock())
        while found := self.member.next_action():
            self._act(*found)
        if datagrams := self.member.datagrams_to_send(self.machine.clock()):
            self._entrust(self.member.spares())
            self._send(datagrams)
        while note := self.member.next_note():
            self.world.trace(self.name, note.text, note.fields)
        self._follow_peers()
        self.lead()
        self._timer += 1
        number = self._timer
        due_s = max(self.member.timer() - self.machine.clock(), 0.0) + self.world.random.uniform(0.0, 0.003)
        self.later(due_s, lambda: self.pump() if number == self._timer else None)

    def _send(self, datagrams: list[tuple[str, bytes]]) -> None:
        for peer, data in datagrams:
            self.world.network.send(self.name, peer, data)

    def _entrust(self, spares: list[Spare]) -> None:
        """As `ha.deputy`: each goes out in time unless newer ones have come, also from beside a frozen process."""
        self._entrusted += 1
        number = self._entrusted

        def send(spare: Spare) -> None:
            if number == self._entrusted and not self.ended:
                self._send(spare.datagrams)

        for spare in spares:
            after_s = (spare.due_s - self.machine.clock()) / self.machine.rate
            self.world.at(after_s, lambda spare=spare: send(spare))  # type: ignore[misc]

    def happen(self, event: Event, group: str | None = None) -> None:
        """In one group, or in all. Raises IllegalTransition, Refused."""
        self.member.happened(event, self.machine.clock(), group)
        self.settle()

    def impair(self, impaired: bool) -> None:
        """As `Failover.impair`."""
        self.happen(Impaired(impaired))

    def receive_datagram(self, data: bytes, link: str) -> None:
        """From the network."""
        if self.member.receive_datagram(data, self.machine.clock(), link):
            self.settle()

    # --------------------------------------------------------------------------------------------------- commands

    def command(self, command: GiveUp | Ask, group: str) -> bool:
        """Was it accepted?"""
        try:
            self.happen(command, group)
        except (IllegalTransition, Refused):
            return False
        return True

    def stop(self) -> None:
        """`lbctl down`: hand over one group after the other if somebody is able, then leave."""
        self.stopping = True
        self._give_up()

    def _give_up(self) -> None:
        while self._to_give_up:
            group = self._to_give_up.popleft()
            if self._phase(group) in SERVING and self.command(GiveUp(), group):
                return  # goes on when that has come to its end
        self.leave()

    def leave(self) -> None:
        """Say goodbye three times and end."""
        for group in reversed(self.groups):
            if self._phase(group) is not Phase.LEFT:
                self.happen(Leave(), group)
        for n in range(3):
            self.later(0.005 * n, self._say_again)
        self.later(0.05, self._end_in_order)

    def _say_again(self) -> None:
        self.member.heartbeats.repeat(self.machine.clock())
        self.settle()

    def _end_in_order(self) -> None:
        if any(self._orders.values()) or self._busy:
            self.later(0.01, self._end_in_order)
            return
        for pipe in list(self.pipes.values()):
            pipe.goodbye(self)
        self.ended = True
        self.machine.detach()

    # ------------------------------------------------------------------------------------------------------ hooks

    def _act(self, group: str, action: Action) -> None:
        match action:
            case Take() | Release():
                self._orders[group].append(action)
                self._carry_out(group)
            case Announce():
                self.announce(group)
            case Hush():
                self._rounds += 1
            case Finished(error=error):
                self.finished.append(error)
                if self.stopping and self._phase(group) is not Phase.LEFT:
                    self.later(LINGER_S if not error else 0.0, self._give_up)

    def _carry_out(self, group: str) -> None:
        if group in self._busy or not self._orders[group]:
            return
        self._busy.add(group)
        self.later(self.world.random.uniform(0.001, 0.04), lambda: self._done(group))

    def _done(self, group: str) -> None:
        order = self._orders[group].popleft()
        self._busy.discard(group)
        if isinstance(order, Release):
            self._release(group)
        elif self.name in self.world.take_fails:
            self._release(group)
            self.happen(TakeFailed(), group)
        else:
            self._take(group)
            self.happen(Taken(int(self.machine.wall() * 1e9)), group)
        self._carry_out(group)

    # As `lb.ownership`.

    def _take(self, group: str) -> None:
        self.owned.add(group)
        self._renew_once()
        self.machine.kernel.addresses.add(self.world.virtuals[group])
        self.announce(group)

    def _release(self, group: str) -> None:
        self.owned.discard(group)
        if self.owned:
            self._announce_owned()
        else:
            self._rounds += 1
            self.machine.kernel.renew_lease(0.0, self.world.now_s)
        self.machine.kernel.addresses.discard(self.world.virtuals[group])

    def announce(self, group: str) -> None:
        """Tell where the addresses are, in several rounds."""
        self._refer(group)
        self._announce_owned()

    def _announce_owned(self) -> None:
        self._rounds += 1
        number, owned = self._rounds, sorted(self.owned)

        def announce() -> None:
            if number == self._rounds:
                for group in owned:
                    self.world.segment.announce(self.machine, group)

        for at_s in ANNOUNCE_AT_S:
            self.later(at_s, announce)

    def _refer(self, group: str) -> None:
        before = self.duties[group].predecessor
        if not before:
            return
        other = self.world.nodes[before]
        others = [node for node in self.world.nodes.values() if node is not self.machine and node is not other]
        directors = tuple(node.kernel.mac for node in (other, *others))
        left = self.member.heartbeats.peers[before].left
        self.machine.kernel.refer_to(directors, LEFT_S if left else REFER_S, self.world.now_s)

        def look() -> None:
            if not (other.powered and self.world.segment.reaches(self.name, other.name)):
                self.machine.kernel.refer_to(directors, 0.0, self.world.now_s)

        self.later(0.1, look)

    def _renew(self) -> None:
        self._renew_once()
        self.later(self.member.state.settings.keepalive_s, self._renew)

    def _renew_once(self) -> None:
        if self.owned:
            self.machine.kernel.renew_lease(self.member.state.settings.deadtime_s, self.world.now_s)

    def claimed(self, group: str) -> None:
        """Another host announces its address: `ha.rivals`."""
        self._renew_once()
        if group in self.owned and not self._defending:
            self._defending = True

            def defend() -> None:
                self._defending = False
                if self.owned:
                    self._announce_owned()

            self.later(ROUND_S, defend)

    def _look_around(self) -> None:
        for group in self.groups:
            if self._phase(group) is Phase.INIT and not self.duties[group].predecessor:
                holder = self.world.segment.holder(self.machine, group)
                if holder != self.member.states[group].contested:
                    self.happen(Contested(holder), group)
        self.later(1.0, self._look_around)

    def _sweep(self) -> None:
        self.machine.kernel.sweep(self.world.now_s)
        self.later(5.0, self._sweep)

    # ------------------------------------------------------------------------------------------------------- sync

    def _read_events(self) -> None:
        if self.machine.kernel.maps.events:
            rows = self.machine.kernel.events(self.world.now_s)
            for pipe in self.pipes.values():
                pipe.sync(self).push(rows, self.machine.clock())
                pipe.flush(self)
        self.later(self.world.random.uniform(0.0, 0.02), self._read_events)

    def syncs(self) -> dict[str, Sync]:
        """By peer."""
        return {name: pipe.sync(self) for name, pipe in self.pipes.items()}

    def on_sync(self) -> None:
        """As `Failover._on_sync`."""
        for duties in self.duties.values():
            duties.paid(self.syncs())
        held = frozenset(name for name, sync in self.syncs().items() if sync.complete)
        if held != self.member.state.synced_with:
            self.happen(Synced(held))
        else:
            self.lead()

    def lead(self) -> None:
        """As `Failover._lead`."""
        for name, pipe in list(self.pipes.items()):
            sync = pipe.sync(self)
            led = frozenset(g for g, duties in self.duties.items() if duties.leads(name, self.member.states[g]))
            more = led - self._led.get(name, frozenset())
            self._led[name] = led
            sync.lead(bool(led))
            if more and led != more and not sync.complete:
                sync.resync(self.machine.clock())
            pipe.flush(self)

    def met(self, peer: str) -> None:
        """A session with it begins."""
        self._led.pop(peer, None)

    def rows(self, peer: str, ours: bool) -> tuple[Rows, ...]:
        """As in `Failover._link`: what this peer is told by us, or is to tell us."""
        led = self._led.get(peer, frozenset())
        wanted = led if ours else told_by_peer(self.groups, led)
        return self._share.within(self.machine.kernel.snapshot(self.world.now_s), wanted)

    def install(self, rows: Rows) -> None:
        """As `Failover._install`."""
        active = frozenset(group for group in self.groups if self._phase(group) is Phase.ACTIVE)
        for groups, ours in ((active, Ours.AS_LATE), (frozenset(self.groups) - active, Ours.LATER)):
            for of_group in self._share.within((rows,), groups):
                self.machine.install(of_group, ours)

    def _follow_peers(self) -> None:
        open_lives = {name: pipe.other(self).life for name, pipe in self.pipes.items()}
        drop, knock, left = self.duties[""].changed(self.member.heartbeats.peers, open_lives)
        for name in drop:
            self.pipes[name].drop(self)
        for name in knock:
            self.world.pipes.knock(self, name)
        for group in sorted(self.owned):
            if self.duties[group].predecessor in left:
                self._refer(group)

    # ------------------------------------------------------------------------------------------------ orders by hand

    def order(self, target: Target, override: Override) -> None:
        """As `Director.override`."""
        wanted = {**self.machine.overrides, target: override}
        self.machine.book = byhand.written(self.machine.book, wanted, int(self.machine.wall() * 1e9))
        for pipe in self.pipes.values():
            self.share(pipe)

    def share(self, pipe: Pipe) -> None:
        """Tell this peer all orders."""
        for orders in byhand.encode(self.machine.book):
            pipe.sync(self).tell(orders)
        pipe.flush(self)

    def ordered(self, orders: bytes) -> None:
        """As `Director.ordered`."""
        self.machine.book = byhand.merged(self.machine.book, byhand.decode(orders))

    def declare(self, peer: str) -> None:
        """Nobody listens there any more."""
        self.member.declare(peer, "crashed", self.machine.clock())
        self.settle()
