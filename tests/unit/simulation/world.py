"""A cluster in virtual time: its machines, what is between them, its clients, and what may befall them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from random import Random

from ha.state import Ask, GiveUp, Settings, Witnessed
from lb.addresses import Address
from lb.plan import Override, Target
from tests.unit.simulation.clients import Client
from tests.unit.simulation.judge import Judge
from tests.unit.simulation.kernel import REALS, SERVICE, VIRTUALS
from tests.unit.simulation.machine import Machine
from tests.unit.simulation.network import Network, Segment
from tests.unit.simulation.pipes import Pipes
from tests.unit.simulation.queue import Queue


class World(Queue):
    """nodes: their names. loss and repeats: probabilities. delay_s: longest way of a datagram.

    skew: how much faster or slower clocks run, at most. clients: how many there are. spare: see `Network`.
    groups: besides "", those of virtuals, by the nodes that they prefer. virtuals: their addresses, "" first.
    """

    keepalive_s, deadtime_s, initdead_s = 0.1, 0.5, 3.0

    def __init__(
        self,
        nodes: tuple[str, ...] = ("a", "b"),
        seed: int = 0,
        loss: float = 0.0,
        repeats: float = 0.0,
        delay_s: float = 0.002,
        skew: float = 1e-4,
        auto_failback: bool = False,
        clients: int = 0,
        spare: bool = False,
        groups: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.random = Random(seed)
        self.take_fails: set[str] = set()
        self.story: list[str] = []
        self._digest = hashlib.sha256()
        self._names, self._failback = nodes, auto_failback
        self.virtuals: dict[str, Address] = dict(zip(("", *groups), VIRTUALS, strict=False))
        self.network = Network(self, loss, repeats, delay_s, spare)
        self.segment = Segment(self)
        self.pipes = Pipes(self)
        self.nodes: dict[str, Machine] = {}
        for place, name in enumerate(nodes):
            rate, wall_s = 1 + self.random.uniform(-skew, skew), self.random.uniform(-4000, 4000)
            self.nodes[name] = Machine(self, name, place, rate, wall_s)
        for node in self.nodes.values():
            node.start()
        self.judge = Judge(self)
        self.segment.clients = [Client(self, number) for number in range(clients)]

    def settings(self, name: str) -> Settings:
        """The file's."""
        return Settings(
            name, self._names, self.keepalive_s, self.deadtime_s, self.initdead_s, self._names[0], self._failback
        )

    # ------------------------------------------------------------------------------------------------------- trace

    def trace(self, who: str, what: str, fields: dict[str, object]) -> None:
        """Something that a log would have."""
        line = f"{self.now_s:9.4f} {who:4} {what} {fields or ''}"
        self._digest.update(line.encode())
        self.story.append(line)

    @property
    def digest(self) -> str:
        """The same for two runs in which the same happened."""
        drawn = self.random.getrandbits(64)
        return hashlib.sha256(self._digest.digest() + drawn.to_bytes(8)).hexdigest()[:16]

    def phases(self, group: str = "") -> dict[str, str]:
        """What each node is; a dash where no process runs."""
        return {name: str(node.phase(group)) if node.running else "-" for name, node in self.nodes.items()}

    # ------------------------------------------------------------------------------------------------------ faults

    def do(self, fault: str, name: str) -> None:
        """One of FAULTS, to this node."""
        self.trace(name, f"--- {fault}", {})
        FAULTS[fault](self, name)

    def command(self, name: str, command: GiveUp | Ask, group: str = "") -> bool:
        """Was it accepted?"""
        process = self.nodes[name].process
        return bool(self.nodes[name].running and process and process.command(command, group))

    def command_all(self, name: str, command: GiveUp | Ask) -> None:
        """Without the name of a virtual."""
        for group in self.virtuals:
            self.command(name, command, group)

    def stop(self, name: str) -> None:
        """`lbctl down`"""
        process = self.nodes[name].process
        if process and process.running and not process.stopping:
            process.stop()

    def be_quiet(self) -> None:
        """No client does anything any more, and all are told of what they did."""
        for client in self.segment.clients:
            client.quiet = True
        self.run(1.0)

    @property
    def leaving(self) -> bool:
        """Is `lbctl down` under way on any node?"""
        processes = (node.process for node in self.nodes.values())
        return any(process and process.stopping and not process.ended for process in processes)

    def declare(self, name: str, gone: str) -> None:
        """`name` finds that nobody listens at `gone`."""
        process = self.nodes[name].process
        if process and process.running:
            process.declare(gone)

    def witness(self, name: str, count: int) -> None:
        """So many ping nodes answer."""
        process = self.nodes[name].process
        if process and process.running:
            process.happen(Witnessed(count))

    def order(self, name: str) -> tuple[Target, Override] | None:
        """`lbctl drain`, `weight` or `enable` there, of any real; None if no director runs there."""
        process = self.nodes[name].process
        if not (process and process.running and not process.stopping):
            return None
        real = self.random.choice(REALS)
        override = self.random.choice((Override(), Override(drained=True), Override(weight=self.random.randrange(9))))
        process.order((SERVICE.key, real), override)
        return (SERVICE.key, real), override

    def partition(self, name: str, inward: bool = True, outward: bool = True) -> None:
        """Cut a node off from the others, in either direction or both; clients reach all of them."""
        for other in self.nodes:
            if other != name:
                self.network.cut |= {(other, name)} if inward else set()
                self.network.cut |= {(name, other)} if outward else set()

    def filter(self, name: str) -> None:
        """Its heartbeats and sync are blocked both ways; ARP is not."""
        for other in self.nodes:
            if other != name:
                self.network.filtered |= {(other, name), (name, other)}

    def mend(self) -> None:
        """All links work again."""
        self.network.mend()

    def heal(self) -> None:
        """All links work again, and all nodes run."""
        self.mend()
        for node in self.nodes.values():
            node.thaw()
            node.start()


FAULTS: dict[str, Callable[[World, str], object]] = {
    "crash": lambda w, n: w.nodes[n].crash(),
    "crash and start": lambda w, n: w.nodes[n].restart(),
    "power cut": lambda w, n: w.nodes[n].cut_power(),
    "start": lambda w, n: w.nodes[n].start(),
    "freeze": lambda w, n: w.nodes[n].freeze(),
    "thaw": lambda w, n: w.nodes[n].thaw(),
    "thaw a paused machine": lambda w, n: w.nodes[n].thaw(clock_stood=True),
    "cut off": lambda w, n: w.partition(n),
    "deafen": lambda w, n: w.partition(n, outward=False),
    "mute": lambda w, n: w.partition(n, inward=False),
    "filter": lambda w, n: w.filter(n),
    "unplug": lambda w, n: w.network.unplug(n),
    "spare out": lambda w, n: w.network.without_spare.add(n),
    "mend": lambda w, _: w.mend(),
    "heal": lambda w, _: w.heal(),
    "standby": lambda w, n: w.command_all(n, GiveUp()),
    "takeover": lambda w, n: w.command_all(n, Ask()),
    "standby for its own": lambda w, n: w.command(n, GiveUp(), n if n in w.virtuals else ""),
    "takeover of its own": lambda w, n: w.command(n, Ask(), n if n in w.virtuals else ""),
    "down": lambda w, n: w.stop(n),
    "witness 0": lambda w, n: w.witness(n, 0),
    "witness 1": lambda w, n: w.witness(n, 1),
    "order": lambda w, n: w.order(n),
    "cannot take": lambda w, n: w.take_fails.add(n),
    "can take": lambda w, n: w.take_fails.discard(n),
}
