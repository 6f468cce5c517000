"""Sync sessions over made-up TCP: who connects, what comes in its order or not at all, and how an end is noticed."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ha import digest
from ha.channel import SILENCE_S
from ha.links import RETRY_S

if TYPE_CHECKING:
    from tests.unit.simulation.process import Process
    from tests.unit.simulation.world import World

from ha.sync import Sync


class _End:
    def __init__(self, process: Process) -> None:
        self.process = process
        self.sync = Sync()
        self.inbox: deque[bytes] = deque()
        self.open = True
        self.moving = False
        self.timer_s: float | None = None


class Pipe:
    """Between two processes, until one end is closed."""

    def __init__(self, world: World, one: Process, two: Process) -> None:
        self.world = world
        self._ends = {one.name: _End(one), two.name: _End(two)}
        for me, peer in ((one, two), (two, one)):
            if old := me.pipes.get(peer.name):
                old.drop(me)
            me.pipes[peer.name] = self
            me.met(peer.name)
        for me in (one, two):
            me.on_sync()
            me.share(self)

    def sync(self, me: Process) -> Sync:
        """This side's."""
        return self._ends[me.name].sync

    def other(self, me: Process) -> Process:
        """Who is at the other end."""
        (found,) = (end.process for name, end in self._ends.items() if name != me.name)
        return found

    def flush(self, me: Process) -> None:
        """Send what is to be sent."""
        end, peer, now_s = self._ends[me.name], self._ends[self.other(me).name], me.machine.clock()
        if not end.open:
            return
        if end.sync.snapshot_due(now_s):
            me.later(self.world.random.uniform(0.003, 0.08), lambda: self._made(me))
        while (message := end.sync.next_message(now_s)) is not None:
            peer.inbox.append(message)
            self._move(peer, end)
        timer_s = end.sync.snapshot_timer
        if timer_s is not None and timer_s != end.timer_s:
            end.timer_s = timer_s
            me.later(max(timer_s - now_s, 0.001), lambda: self.flush(me))

    def _made(self, me: Process) -> None:
        families = me.rows(self.other(me).name, ours=True)
        self.sync(me).snapshot(families, digest.sums(families))
        self.flush(me)

    def _move(self, to: _End, source: _End) -> None:
        """The first of the inbox arrives some time, then the next."""
        if to.moving or not to.inbox or not to.open:
            return
        to.moving = True

        def arrive() -> None:
            to.moving = False
            if not to.open or to.process.ended:
                return
            if to.process.frozen or not self.world.network.both_ways(to.process.name, source.process.name):
                to.moving = True
                self.world.at(self.world.random.uniform(0.05, 0.3), arrive)  # sent again
                return
            self._receive(to, to.inbox.popleft())
            if to.sync.sums_asked:
                to.moving = True
                to.process.later(self.world.random.uniform(0.003, 0.08), lambda: self._compare(to, source))
            else:
                self._move(to, source)

        self.world.at(self.world.random.uniform(0.0002, 0.003), arrive)

    def _compare(self, to: _End, source: _End) -> None:
        to.moving = False
        if to.open:
            to.sync.compare(digest.sums(to.process.rows(source.process.name, ours=False)))
            self.flush(to.process)
            self._move(to, source)

    def _receive(self, end: _End, payload: bytes) -> None:
        me = end.process
        rows = end.sync.receive(payload, me.machine.clock())
        if rows is not None:
            me.install(rows)
            end.sync.installed()
        while end.sync.orders:
            me.ordered(end.sync.orders.popleft())
        self.flush(me)
        me.on_sync()

    # ------------------------------------------------------------------------------------------------------- ends

    def drop(self, me: Process) -> None:
        """By our wish; the other side finds out."""
        self._close(me)
        self._tell_other(me)

    def goodbye(self, me: Process) -> None:
        """In order."""
        peer = self.other(me)
        for message in self.sync(me).goodbye():
            self._ends[peer.name].inbox.append(message)
        self._move(self._ends[peer.name], self._ends[me.name])
        self.world.at(0.02, lambda: self._tell_other(me))
        self._close(me)

    def broken(self, me: Process) -> None:
        """Our process has ended: the kernel closes its sockets."""
        self._ends[me.name].open = False
        self._tell_other(me)

    def _tell_other(self, me: Process) -> None:
        end = self._ends[self.other(me).name]
        network, closed_s = self.world.network, self.world.now_s

        def reset() -> None:
            if me.machine.powered and network.reaches(me.name, end.process.name):
                notice()
            else:
                self.world.at(1.0, keep_alive)

        def keep_alive() -> None:
            answered = me.machine.powered and network.both_ways(me.name, end.process.name)
            if answered or self.world.now_s >= closed_s + SILENCE_S:
                notice()
            else:
                self.world.at(1.0, keep_alive)

        def notice() -> None:
            if not end.process.ended:
                end.process.later(0.0, lambda: self._noticed(end))

        self.world.at(self.world.random.uniform(0.0005, 0.003), reset)

    def _noticed(self, end: _End) -> None:
        if not end.open:
            return
        me, peer = end.process, self.other(end.process)
        self._close(me)
        if not end.sync.farewell:
            self.world.pipes.judge(me, peer.name)
        self.world.pipes.knock(me, peer.name)

    def _close(self, me: Process) -> None:
        end = self._ends[me.name]
        if not end.open:
            return
        end.open = False
        peer = self.other(me).name
        if me.pipes.get(peer) is self:
            del me.pipes[peer]
            me.on_sync()


class Pipes:
    """Who connects to whom: of two nodes the later one in the file."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._tries: dict[tuple[int, str], int] = {}

    def start(self, me: Process) -> None:
        """A process begins to connect."""
        for name in list(self.world.nodes)[: me.machine.place]:
            self._try(me, name, RETRY_S[0], 0)

    def knock(self, me: Process, peer: str) -> None:
        """Connect now."""
        if self.world.nodes[peer].place < me.machine.place:
            self._try(me, peer, RETRY_S[0], self._tries.get((me.life, peer), 0) + 1)

    def _try(self, me: Process, peer: str, pause_s: float, number: int) -> None:
        key = (me.life, peer)
        if number < self._tries.get(key, 0) or me.ended or me.stopping:
            return
        self._tries[key] = number
        if peer not in me.pipes:
            me.later(self.world.random.uniform(0.001, 0.004), lambda: self._connect(me, peer))
        me.later(pause_s, lambda: self._try(me, peer, min(pause_s * 2, RETRY_S[1]), number))

    def _connect(self, me: Process, peer: str) -> None:
        other = self.world.nodes[peer]
        reaches = self.world.network.both_ways(me.name, peer) and other.powered
        if reaches and other.process and other.process.running and not other.process.stopping and peer not in me.pipes:
            Pipe(self.world, me, other.process)

    def judge(self, me: Process, peer: str) -> None:
        """A session ended without a goodbye: does the peer's process still listen?"""

        def probe() -> None:
            other = self.world.nodes[peer]
            if peer in me.pipes or not (self.world.network.both_ways(me.name, peer) and other.powered):
                return
            if other.process is None or other.process.ended:
                me.declare(peer)

        me.later(self.world.random.uniform(0.001, 0.006), probe)
