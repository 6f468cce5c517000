"""One machine: its clocks, its power, its kernel, and the director's process that runs there or does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ha.member import Member
from ha.state import SERVING, Phase
from lb import byhand
from lb.byhand import Book
from lb.connections import Ours, Rows
from lb.plan import Override, Target
from tests.unit.simulation.kernel import Kernel
from tests.unit.simulation.process import Process
from tests.unit.simulation.queue import START_S

if TYPE_CHECKING:
    from tests.unit.simulation.world import World

BACKLOG = 200
"""Datagrams that a frozen process's socket keeps, the oldest."""


class Machine:
    """rate: seconds of its clock a second of ours. wall_s: what its clock on the wall adds."""

    def __init__(self, world: World, name: str, place: int, rate: float, wall_s: float) -> None:
        self.world, self.name, self.place = world, name, place
        self.rate, self.wall_s = rate, wall_s
        self.powered = True
        self.process: Process | None = None
        self._stood_s = 0.0
        self._backlog: list[tuple[bytes, str]] = []
        self._forget()

    def _forget(self) -> None:
        self.kernel = Kernel(self.place, self.world.random.randrange(7), tuple(self.world.virtuals.values()))
        self.book: Book = {}  # in a file that is gone with the power

    def clock(self) -> float:
        """Its monotonic time."""
        return START_S + (self.world.now_s - START_S) * self.rate - self._stood_s

    def wall(self) -> float:
        """What its clock on the wall says."""
        return self.clock() + self.wall_s

    # -------------------------------------------------------------------------------------------------- to look at

    @property
    def running(self) -> bool:
        """Does a director run here?"""
        return self.powered and self.process is not None and self.process.running

    @property
    def member(self) -> Member:
        """The running director's."""
        assert self.process
        return self.process.member

    def phase(self, group: str = "") -> Phase:
        """What the director is; LEFT where none runs."""
        return self.member.states[group].phase if self.running else Phase.LEFT

    def serves(self, group: str) -> bool:
        """Does it run and say that it is active?"""
        return self.phase(group) in SERVING

    def has_address(self, group: str = "") -> bool:
        """Is the group's virtual address on the interface?"""
        return self.powered and self.world.virtuals[group] in self.kernel.addresses

    @property
    def overrides(self) -> dict[Target, Override]:
        """What is ordered by hand, as far as is known here."""
        return byhand.overrides(self.book)

    @property
    def finished(self) -> list[str]:
        """How handovers ended."""
        assert self.process
        return self.process.finished

    # ------------------------------------------------------------------------------------------------------ events

    def start(self) -> None:
        """A new process; what the old one left in the kernel is still there."""
        if self.process and not self.process.ended:
            return
        self.powered = True
        self._backlog = []
        life = self.world.random.getrandbits(60) + 1
        self.process = Process(self, self.world.settings(self.name), life)
        self.world.pipes.start(self.process)
        self.carrier_changed()

    def crash(self) -> None:
        """The process dies: the kernel closes its sockets, the packet path stays."""
        process = self.process
        if process and not process.ended:
            process.ended = True
            for pipe in process.pipes.values():
                pipe.broken(process)

    def restart(self) -> None:
        """The process dies, and another one begins at once."""
        self.crash()
        self.start()

    def cut_power(self) -> None:
        """Nothing is left, and nobody is told."""
        self.powered = False
        if self.process:
            self.process.ended = True
        self._forget()
        self._know_no_connection()

    def detach(self) -> None:
        """A process has ended in order."""
        self.kernel.detach()
        self._know_no_connection()

    def _know_no_connection(self) -> None:
        for client in self.world.segment.clients:
            client.forgotten_by(self.name)

    def install(self, rows: Rows, ours: Ours) -> None:
        """A peer's connections; the clients whose they are take note."""
        self.kernel.install(rows, ours, self.world.now_s)
        for client in self.world.segment.clients:
            for row in rows[rows["client"] == client.address]:
                client.tell(self.name, int(row["client_port"]), int(row["real"]))

    def freeze(self) -> None:
        """SIGSTOP"""
        if self.process:
            self.process.frozen = True

    def thaw(self, clock_stood: bool = False) -> None:
        """SIGCONT; clock_stood: the whole machine was paused, and so was its clock."""
        process = self.process
        if not process or not process.frozen:
            return
        if clock_stood:
            self._stood_s += max(self.clock() - process.member.timer(), 0.0)
        process.frozen = False
        backlog, self._backlog = self._backlog, []
        for data, link in backlog:
            self.world.at(0.0, lambda data=data, link=link: self.arrived(data, link))  # type: ignore[misc]
        self.world.at(0.0, process.pump)

    def carrier_changed(self) -> None:
        """The kernel tells of the service interface; a frozen process hears it on waking."""
        process = self.process
        if self.powered and process and not process.ended:
            process.later(0.0, lambda: process.impair(self.name in self.world.network.unplugged))

    def arrived(self, data: bytes, link: str) -> None:
        """A datagram for the heartbeat port."""
        process = self.process
        if not self.powered or process is None or process.ended:
            return
        if process.frozen:
            self._backlog = [*self._backlog, (data, link)][:BACKLOG]
        else:
            process.receive_datagram(data, link)
