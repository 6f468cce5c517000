"""One director's process: the real cores, wired as `ha.failover`, `ha.links` and `ha.link` do it, in virtual time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from ha.authkeys import AuthKeys
from ha.counters import Counters
from ha.duties import Duties
from ha.heartbeat import Spare
from ha.member import Member
from ha.role import IllegalTransition, Refused
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
    Settings,
    Synced,
    Take,
    TakeFailed,
    Taken,
)
from ha.sync import Sync
from ha.takeover import ANNOUNCE_AT_S
from lb import byhand
from lb.plan import Override, Target

if TYPE_CHECKING:
    from tests.unit.simulation.machine import Machine
    from tests.unit.simulation.pipes import Pipe

KEYS = AuthKeys(1, {1: b"shared by the cluster"})
LINGER_S: Final = 0.3
REFER_S: Final = 30.0
ROUND_S: Final = 0.8


class Process:
    """On `machine` from now on. finished: how each handover ended."""

    def __init__(self, machine: Machine, settings: Settings, life: int) -> None:
        self.machine, self.world = machine, machine.world
        self.life = life
        self.member = Member("test", settings, 0.3, KEYS, life, Counters(), machine.clock())
        self.duties = Duties(settings.peers)
        self.pipes: dict[str, Pipe] = {}
        self.frozen = False
        self.ended = False
        self.stopping = False
        self.owns = False
        self.finished: list[str] = []
        self._orders: deque[Take | Release] = deque()
        self._busy = False
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

    @property
    def _state(self) -> Phase:
        return self.member.state.phase

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
        self.duties.follow(self.member.state)
        while found := self.member.next_action():
            self._act(found[1])
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

    def happen(self, event: Event) -> None:
        """Raises IllegalTransition, Refused."""
        self.member.happened(event, self.machine.clock())
        self.settle()

    def impair(self, impaired: bool) -> None:
        """As `Failover.impair`."""
        self.happen(Impaired(impaired))

    def receive_datagram(self, data: bytes, link: str) -> None:
        """From the network."""
        if self.member.receive_datagram(data, self.machine.clock(), link):
            self.settle()

    # --------------------------------------------------------------------------------------------------- commands

    def command(self, command: GiveUp | Ask) -> bool:
        """Was it accepted?"""
        try:
            self.happen(command)
        except (IllegalTransition, Refused):
            return False
        return True

    def stop(self) -> None:
        """`lbctl down`: hand over if somebody is able, then leave."""
        self.stopping = True
        if self._state not in SERVING or not self.command(GiveUp()):
            self.leave()

    def leave(self) -> None:
        """Say goodbye three times and end."""
        if self._state is not Phase.LEFT:
            self.happen(Leave())
        for n in range(3):
            self.later(0.005 * n, self._say_again)
        self.later(0.05, self._end_in_order)

    def _say_again(self) -> None:
        self.member.heartbeats.repeat(self.machine.clock())
        self.settle()

    def _end_in_order(self) -> None:
        if self._orders or self._busy:
            self.later(0.01, self._end_in_order)
            return
        for pipe in list(self.pipes.values()):
            pipe.goodbye(self)
        self.ended = True
        self.machine.kernel.detach()

    # ------------------------------------------------------------------------------------------------------ hooks

    def _act(self, action: Action) -> None:
        match action:
            case Take() | Release():
                self._orders.append(action)
                self._carry_out()
            case Announce():
                self.announce()
            case Finished(error=error):
                self.finished.append(error)
                if self.stopping and self._state is not Phase.LEFT:
                    self.later(LINGER_S if not error else 0.0, self.leave)

    def _carry_out(self) -> None:
        if self._busy or not self._orders:
            return
        self._busy = True
        self.later(self.world.random.uniform(0.001, 0.04), self._done)

    def _done(self) -> None:
        order = self._orders.popleft()
        self._busy = False
        if isinstance(order, Release):
            self._release()
        elif self.name in self.world.take_fails:
            self._release()
            self.happen(TakeFailed())
        else:
            self._take()
            self.happen(Taken(int(self.machine.wall() * 1e9)))
        self._carry_out()

    def _take(self) -> None:
        self.owns = True
        self._renew_once()
        self.machine.kernel.address = True
        self.announce()

    def _release(self) -> None:
        self.owns = False
        self._rounds += 1
        self.machine.kernel.renew_lease(0.0, self.world.now_s)
        self.machine.kernel.address = False

    def announce(self) -> None:
        """In several rounds."""
        self._refer()
        self._rounds += 1
        number = self._rounds
        for at_s in ANNOUNCE_AT_S:
            self.later(at_s, lambda: self.world.segment.announce(self.machine) if number == self._rounds else None)

    def _refer(self) -> None:
        before = self.duties.predecessor
        if not before:
            return
        other = self.world.nodes[before]
        others = [node for node in self.world.nodes.values() if node is not self.machine and node is not other]
        directors = tuple(node.kernel.mac for node in (other, *others))
        self.machine.kernel.refer_to(directors, REFER_S, self.world.now_s)

        def look() -> None:
            if not (other.powered and self.world.segment.reaches(self.name, other.name)):
                self.machine.kernel.refer_to(directors, 0.0, self.world.now_s)

        self.later(0.1, look)

    def _renew(self) -> None:
        self._renew_once()
        self.later(self.member.state.settings.keepalive_s, self._renew)

    def _renew_once(self) -> None:
        if self.owns:
            self.machine.kernel.renew_lease(self.member.state.settings.deadtime_s, self.world.now_s)

    def claimed(self) -> None:
        """Another host announces the address: `ha.rivals`."""
        if not self.owns:
            return
        self._renew_once()
        if not self._defending:
            self._defending = True

            def defend() -> None:
                self._defending = False
                if self.owns:
                    self.announce()

            self.later(ROUND_S, defend)

    def _look_around(self) -> None:
        if self._state is Phase.INIT and not self.duties.predecessor:
            holder = self.world.segment.holder(self.machine)
            if holder != self.member.state.contested:
                self.happen(Contested(holder))
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
        self.duties.paid(self.syncs())
        held = frozenset(name for name, sync in self.syncs().items() if sync.complete)
        if held != self.member.state.synced_with:
            self.happen(Synced(held))
        else:
            self.lead()

    def lead(self) -> None:
        """As `Failover._lead`."""
        for name, pipe in list(self.pipes.items()):
            pipe.sync(self).lead(self.duties.leads(name, self.member.state))
            pipe.flush(self)

    def _follow_peers(self) -> None:
        open_lives = {name: pipe.other(self).life for name, pipe in self.pipes.items()}
        drop, knock = self.duties.changed(self.member.heartbeats.peers, open_lives)
        for name in drop:
            self.pipes[name].drop(self)
        for name in knock:
            self.world.pipes.knock(self, name)

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
