"""A made-up cluster for `ha.member`: virtual time, a network that loses, repeats, delays and reorders, and nodes that
crash, freeze, pause and are cut off. Everything follows from one seed."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from ha.authkeys import AuthKeys
from ha.counters import Counters
from ha.member import Member
from ha.role import IllegalTransition, Refused
from ha.state import (
    SERVING,
    Ask,
    Finished,
    GiveUp,
    Leave,
    Phase,
    Release,
    Settings,
    Synced,
    Take,
    TakeFailed,
    Taken,
    Witnessed,
)

KEYS = AuthKeys(1, {1: b"shared by the cluster"})
SYNC_S = 0.2


@dataclass
class Node:
    """One machine. offset_s: how far its clock stands behind (it was paused); wall_s: what its wall clock adds."""

    name: str
    wall_s: float
    member: Member
    offset_s: float = 0.0
    frozen: bool = False
    crashed: bool = False
    left: bool = False
    address: bool = False
    backlog: list[bytes] = field(default_factory=list)
    reachable_s: dict[str, float] = field(default_factory=dict)
    synced: frozenset[str] = frozenset()
    finished: list[str] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Does its process run?"""
        return not (self.frozen or self.crashed or self.left)

    @property
    def serves(self) -> bool:
        """Does it run and say that it is active?"""
        return self.running and self.member.state.phase in SERVING


class World:
    """nodes: their names. loss and repeats: probabilities. delay_s: longest way of a datagram."""

    def __init__(
        self,
        nodes: tuple[str, ...] = ("a", "b"),
        seed: int = 0,
        loss: float = 0.0,
        repeats: float = 0.0,
        delay_s: float = 0.002,
        auto_failback: bool = False,
    ) -> None:
        self.random = Random(seed)
        self.now_s = 1000.0
        self.loss, self.repeats, self.delay_s = loss, repeats, delay_s
        self.cut: set[tuple[str, str]] = set()
        self.take_fails: set[str] = set()
        self.together_s = 0.0
        self.longest_together_s = 0.0
        self._names = nodes
        self._failback = auto_failback
        self._order = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self.nodes = {name: self._boot(name, self.random.uniform(-4000, 4000)) for name in nodes}
        self.at(0.0, self._watch)

    def settings(self, name: str) -> Settings:
        """The file's."""
        return Settings(name, self._names, 0.1, 0.5, 3.0, self._names[0], self._failback)

    def _boot(self, name: str, wall_s: float) -> Node:
        life = self.random.getrandbits(60) + 1
        member = Member("test", self.settings(name), 0.3, KEYS, life, Counters(), self.now_s)
        node = Node(name, wall_s, member)
        self.at(0.0, lambda: self._pump(node))
        return node

    def at(self, after_s: float, call: Callable[[], None]) -> None:
        """Call it so many seconds from now."""
        heapq.heappush(self._queue, (self.now_s + after_s, next(self._order), call))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end_s = self.now_s + seconds
        while self._queue and self._queue[0][0] <= end_s:
            self.now_s, _, call = heapq.heappop(self._queue)
            call()
        self.now_s = end_s

    # ------------------------------------------------------------------------------------------------- machinery

    def clock(self, node: Node) -> float:
        """The node's own monotonic time."""
        return self.now_s - node.offset_s

    def _pump(self, node: Node) -> None:
        if not node.running:
            return
        member, now_s = node.member, self.clock(node)
        if now_s >= member.timer():
            member.handle_timer(now_s)
        self._settle(node)
        due_s = max(member.timer() - now_s, 0.0) + self.random.uniform(0.0, 0.003)
        self.at(due_s, lambda: self._pump(node) if self.nodes.get(node.name) is node else None)

    def _settle(self, node: Node) -> None:
        while action := node.member.next_action():
            if isinstance(action, Take):
                self.at(self.random.uniform(0.001, 0.04), lambda: self._taken(node))
            elif isinstance(action, Release):
                node.address = False
            elif isinstance(action, Finished):
                node.finished.append(action.error)
        for peer, data in node.member.datagrams_to_send(self.clock(node)):
            self.send(node.name, peer, data)

    def _taken(self, node: Node) -> None:
        if node.frozen:
            self.at(0.05, lambda: self._taken(node))
        elif node.running:
            node.address = node.name not in self.take_fails
            wall_ns = int((self.clock(node) + node.wall_s) * 1e9)
            self.happen(node, Taken(wall_ns) if node.address else TakeFailed())

    def happen(self, node: Node, event: object) -> None:
        """An event that is always legal here."""
        node.member.happened(event, self.clock(node))  # type: ignore[arg-type]
        self._settle(node)

    def command(self, name: str, command: GiveUp | Ask) -> bool:
        """Was it accepted?"""
        try:
            self.happen(self.nodes[name], command)
        except (IllegalTransition, Refused):
            return False
        return True

    def send(self, source: str, target: str, data: bytes) -> None:
        """Into the network."""
        for _ in range(1 + (self.random.random() < self.repeats)):
            if self.random.random() >= self.loss:
                self.at(self.random.uniform(0.0001, self.delay_s), lambda: self._deliver(source, target, data))

    def _deliver(self, source: str, target: str, data: bytes) -> None:
        node = self.nodes[target]
        if (source, target) in self.cut or node.crashed or node.left:
            return
        if node.frozen:
            node.backlog = [*node.backlog, data][:200]  # a full socket buffer keeps the oldest
            return
        node.member.receive_datagram(data, self.clock(node))
        self._settle(node)

    def connected(self, one: str, other: str) -> bool:
        """Both run and reach each other both ways?"""
        ways = {(one, other), (other, one)}
        return not ways & self.cut and self.nodes[one].running and self.nodes[other].running

    def _watch(self) -> None:
        """Ten times a second: sync, and how long two actives that reach each other exist already."""
        for node in self.nodes.values():
            if node.running:
                self._sync(node)
        active = [name for name, node in self.nodes.items() if node.running and node.member.state.phase is Phase.ACTIVE]
        pairs = itertools.combinations(active, 2)
        self.together_s = self.together_s + 0.01 if any(self.connected(*pair) for pair in pairs) else 0.0
        self.longest_together_s = max(self.longest_together_s, self.together_s)
        self.at(0.01, self._watch)

    def _sync(self, node: Node) -> None:
        for other in self.nodes.values():
            reaches = other is not node and self.connected(node.name, other.name) and other.serves
            if not reaches and not (other.name in node.synced and self.connected(node.name, other.name)):
                node.reachable_s.pop(other.name, None)
            else:
                node.reachable_s.setdefault(other.name, self.now_s)
        synced = frozenset(name for name, since_s in node.reachable_s.items() if self.now_s >= since_s + SYNC_S)
        if node.serves:
            synced |= {name for name in self.nodes if name != node.name and self.connected(node.name, name)}
        if synced != node.synced:
            node.synced = synced
            self.happen(node, Synced(synced))

    # ----------------------------------------------------------------------------------------------------- faults

    def crash(self, name: str, noticed: bool = True) -> None:
        """The process dies; noticed: its peers see the connection refused."""
        self.nodes[name].crashed = True
        if noticed:
            for other in self.nodes.values():
                if other.running and self.connected_machines(name, other.name):
                    self.at(0.002, lambda other=other: self.declare(other.name, name))  # type: ignore[misc]

    def connected_machines(self, one: str, other: str) -> bool:
        """Do their machines reach each other?"""
        return not {(one, other), (other, one)} & self.cut

    def declare(self, name: str, gone: str) -> None:
        """`name` finds that nobody listens at `gone`."""
        node = self.nodes[name]
        if node.running:
            node.member.declare(gone, "crashed", self.clock(node))
            self._settle(node)

    def start(self, name: str) -> None:
        """A new process on that machine; an address that the old one left behind is still there."""
        old = self.nodes[name]
        if old.crashed or old.left:
            self.nodes[name] = self._boot(name, old.wall_s)
            self.nodes[name].address = old.address

    def freeze(self, name: str) -> None:
        """SIGSTOP"""
        self.nodes[name].frozen = True

    def thaw(self, name: str, clock_stood: bool = False) -> None:
        """SIGCONT; clock_stood: the whole machine was paused for what its clock is now told to be behind."""
        node = self.nodes[name]
        if not node.frozen:
            return
        node.frozen = False
        if clock_stood:
            node.offset_s += max(self.clock(node) - node.member.timer(), 0.0)
        backlog, node.backlog = node.backlog, []
        for data in backlog:
            self.at(0.0, lambda data=data: self._deliver("", name, data))  # type: ignore[misc]
        self.at(0.0, lambda: self._pump(node))

    def leave(self, name: str) -> None:
        """`lbctl down` without handing over."""
        node = self.nodes[name]
        if node.running:
            self.happen(node, Leave())
            node.left = True

    def witness(self, name: str, count: int) -> None:
        """So many ping nodes answer."""
        if self.nodes[name].running:
            self.happen(self.nodes[name], Witnessed(count))

    def partition(self, name: str, inward: bool = True, outward: bool = True) -> None:
        """Cut a node off, in either direction or both."""
        for other in self.nodes:
            self.cut |= ({(other, name)} if inward else set()) | ({(name, other)} if outward else set())

    def heal(self) -> None:
        """All links work again, and all nodes run."""
        self.cut.clear()
        for name, node in self.nodes.items():
            self.thaw(name)
            if node.crashed or node.left:
                self.start(name)

    def phases(self) -> dict[str, str]:
        """What each node is; a dash where no process runs."""
        return {name: str(node.member.state.phase) if node.running else "-" for name, node in self.nodes.items()}
