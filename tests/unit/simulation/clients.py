"""Clients with connections to a virtual address, on ports that they use again, and which reals get their packets.

A director that was told of a connection, or opened it, must never send it to another real. One that could not be told
may know an earlier one of the same port: the other real resets it then, and it is lost.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final

from lb.reference.stats import Outcome
from lb.tcp import Flag
from tests.unit.simulation.kernel import REAL_OF, segment

if TYPE_CHECKING:
    from tests.unit.simulation.machine import Machine
    from tests.unit.simulation.world import World

PORTS: Final = 3
"""Of one client."""
SILENT: Final = 3
"""Packets without an answer after which a client asks anew who has the address."""
HOPELESS: Final = 12
REST_S: Final = 4.0
"""Until a port is used again, also by a client that gave the connection before up without a word. Rows tell ages in
whole seconds and tables in ticks, so an entry gets up to two seconds younger on its way from one director to another:
of two that were seen less than three apart, neither finished, they cannot say which is the later."""


class Connection:
    """real: who answers, None while nobody does. told: the directors that know it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.real: IPv4Address | None = None
        self.unanswered = 0
        self.told: set[str] = set()
        self.ended_s = 0.0


class Client:
    """One host. group: of virtuals, to whose address all connections go. lost: those that were reset or fell silent."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.address = int(IPv4Address("10.0.2.0")) + number
        self.group = list(world.virtuals)[number % len(world.virtuals)]
        self.lost = 0
        self.opened = 0
        self.quiet = False
        self._at: Machine | None = None
        self._by = ""  # who forwarded last
        self.connections = [Connection(1000 + n) for n in range(PORTS)]
        for connection in self.connections:
            self._later(connection)

    @property
    def at(self) -> str:
        """Where it sends to."""
        return self._at.name if self._at else ""

    def learns(self, machine: Machine) -> None:
        """It heard an announcement."""
        if self.world.random.random() < 0.95:  # the rounds are for the others
            self._at = machine

    def tell(self, director: str, port: int, real: int) -> None:
        """It has taken over a row."""
        for connection in self.connections:
            if connection.port == port and connection.real is not None and int(connection.real) == real:
                connection.told.add(director)

    def forgotten_by(self, director: str) -> None:
        """Its table is gone."""
        for connection in self.connections:
            connection.told.discard(director)

    def _later(self, connection: Connection) -> None:
        self.world.at(self.world.random.uniform(0.05, 0.5), lambda: self._act(connection))

    def _act(self, connection: Connection) -> None:
        if not self.quiet:
            if connection.real is None:
                self._open(connection)
            elif self.world.random.random() < 0.1:
                self._close(connection)
            else:
                self._talk(connection, Flag.ACK)
        self._later(connection)

    def _open(self, connection: Connection) -> None:
        if self.world.now_s < connection.ended_s + REST_S:
            return
        real = self._send(connection, Flag.SYN)
        if isinstance(real, IPv4Address):
            connection.real, connection.told = real, {self._by}
            self.opened += 1
            self._talk(connection, Flag.ACK)

    def _close(self, connection: Connection) -> None:
        self._talk(connection, Flag.FIN | Flag.ACK)
        self._end(connection)

    def _end(self, connection: Connection) -> None:
        connection.real, connection.unanswered, connection.ended_s = None, 0, self.world.now_s

    def _talk(self, connection: Connection, flags: Flag) -> None:
        answer = self._send(connection, flags)
        if answer is Outcome.PASSED or connection.unanswered >= HOPELESS:  # reset
            self.lost += 1
            self._end(connection)
        elif isinstance(answer, IPv4Address) and answer != connection.real:
            if self._by in connection.told:
                who = f"{self.address:x}:{connection.port}"
                self.world.judge.accuse(f"{self._by} sent {who} to {answer}, knowing that it is with {connection.real}")
            self.lost += 1
            self._end(connection)

    def _send(self, connection: Connection, flags: Flag) -> IPv4Address | Outcome | None:
        """Who gets it: a real, or PASSED where a director's own kernel answers with a reset; None: nobody."""
        if self._at is None or connection.unanswered >= SILENT:
            self._at = self.world.segment.ask(self.group) or self._at
        answer = self._travel(connection, flags)
        connection.unanswered = connection.unanswered + 1 if answer is None else 0
        return answer

    def _travel(self, connection: Connection, flags: Flag) -> IPv4Address | Outcome | None:
        machine = self._at
        if machine is None or machine.name in self.world.network.unplugged:
            return None
        virtual = self.world.virtuals[self.group]
        frame = segment(self.address, connection.port, virtual, machine.kernel.mac, flags)
        for _ in range(len(self.world.nodes) + 1):
            if not machine.powered:
                return None
            outcome, frame = machine.kernel.receive(frame, self.world.now_s)
            if outcome is Outcome.REFERRED:
                machine = self._next(machine, frame)
                if machine is None:
                    return None
                continue
            if outcome is Outcome.TX:
                self._by = machine.name
                return REAL_OF[frame[:6]]
            return Outcome.PASSED if outcome is Outcome.PASSED and virtual in machine.kernel.addresses else None
        self.world.judge.accuse(f"{frame.hex()} goes round between directors")
        return None

    def _next(self, machine: Machine, frame: bytes) -> Machine | None:
        for other in self.world.nodes.values():
            if other.kernel.mac == frame[:6]:
                return other if self.world.segment.reaches(machine.name, other.name) else None
        return None
