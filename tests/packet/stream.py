"""Connections whose packets never stop while everything changes around them: `script/fuzz stream`.

The real program, under BPF_PROG_TEST_RUN, through the link by which it hangs on its interface: what is sent sees what
that interface's packets would see. Reals come and go, are drained, weighed and move to other MACs; configurations, and
with them programs, are swapped; processes end, or are killed between two system calls, and others take over. Packets
come between any two of these system calls. Whatever is done:

- a connection's packets go to the real that its first one went to, also ICMP about it, and also if that real has left;
- no packet is lost, and none is passed to the kernel;
- the counters say how many there were, and the table holds exactly these connections.

Everything is decided by a seed, and the clock stands still between steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import secrets
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import click
import numpy as np
import structlog

from lb import abi, bpf
from lb.datapath import DataPath, pins
from lb.datapath.slots import Lists, SlotTables
from lb.datapath.view import View
from lb.model import Connections
from lb.reference.maps import address_of, numbered
from lb.service import Destination, Service, ServiceKey, Way
from tests.packet import frames
from tests.packet.clock import START_NS, Clock
from tests.packet.frames import TCP, UDP, Ends, Shape
from tests.packet.fuzz import parse_limit
from tests.packet.steps import CLIENTS, CLIENTS6
from tests.packet.world import INTERFACE, OUR_MAC, VIRTUAL, VIRTUAL6, World, network_namespace, on_cpu, real, real6

SETTINGS = Connections(max=16_384)
REALS = 9
"""The first is always there and takes new connections: somebody must."""
MOST_CONNECTIONS = 4_000
STEPS = 20
"""Of one run."""
STEPS_T = (0, 0, 0, 0, 0, 1)
"""Ticks between two steps: long enough for what CPUs know by heart to be void now and then, and for no timeout."""
SYN, ACK, PUSH = 0x02, 0x10, 0x18
_WRITES = frozenset(
    (bpf._UPDATE, bpf._UPDATE_BATCH, bpf._DELETE_BATCH, bpf._LINK_UPDATE, bpf._LINK_CREATE, bpf._OBJ_PIN)
)
_GET_PROGRAM = 13
_SCHEDULERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("rr", "wrr", "wlc", "lblcr"), ()),
    "sh": ("sh-fallback",),
    "mh": ("mh-fallback", "mh-port"),
}
"""With their flags: so that a client is never refused while anybody serves."""
_COUNTING = frozenset({"wlc", "lblcr"})
_KEYS = (
    ServiceKey(VIRTUAL, 80, TCP),
    ServiceKey(VIRTUAL, 53, UDP),
    ServiceKey(VIRTUAL6, 80, TCP),
    ServiceKey(VIRTUAL6, 53, UDP),
)
_PASSERBY = ServiceKey(VIRTUAL + 1, 443, TCP)
"""A service that comes and goes, and with it the places of all others."""


class Killed(BaseException):
    """The process, between two system calls."""


class WrongError(AssertionError):
    """What must never happen."""


@dataclass
class Member:
    """A real of all services, and how it is reached at present."""

    number: int
    there: bool = True
    weight: int = 1
    moves: int = 0

    @property
    def mac(self) -> bytes:
        """Of it, or of the router to it: its number is the last byte."""
        return bytes((2, 0, 0, self.moves % 256, 1, self.number))

    def of(self, key: ServiceKey) -> Destination:
        """In a service: some in tunnels of either family, the others neighbours."""
        is_ipv6 = key.address.version == 6
        plain = replace((real6 if is_ipv6 else real)(self.number), weight=self.weight, share=max(1, self.weight))
        if self.number % 3:
            return replace(plain, mac=self.mac)
        far = (real if self.number % 2 else real6)(self.number).address
        source = address_of(numbered(far) ^ 0x80)
        return replace(plain, address=far, mac=self.mac, forward="ipip", way=Way(source, 1500))


@dataclass
class Connection:
    """One of a client. real: its number, as the first packet showed it; the ends: of its packets."""

    ends: Ends
    real: int
    answered: bool = False


@dataclass
class Stream:
    """Open within `opened`."""

    rng: random.Random
    clock: Clock
    node: str
    members: list[Member] = field(default_factory=lambda: [Member(n) for n in range(1, REALS + 1)])
    connections: list[Connection] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.schedulers = dict.fromkeys(_KEYS, "rr")
        self.persistent = dict.fromkeys(_KEYS, 0)
        self.order = list(_KEYS)
        self.passerby = False
        self.story: list[str] = []
        self._names = set[tuple[ServiceKey, int, int]]()
        self._program: tuple[int, int] | None = None
        self._calls_left: int | None = None
        self._busy = False
        self._world = World.open(self.node, SETTINGS)
        self._apply()
        self._link = bpf.open_pinned(pins.home(self.node) / f"link_{INTERFACE}")
        self._counted = self._world.data.counters()

    def close(self) -> None:
        """Leave nothing."""
        if self._program:
            os.close(self._program[1])
        os.close(self._link)
        self._world.close()

    # ---------------------------------------------------------------- packets

    def burst(self, known: int = 12, new: int = 1) -> None:
        """So many packets, of connections that are known and of new ones."""
        program = self._attached()
        for _ in range(new):
            self._open(program)
        for connection in self.rng.choices(self.connections, k=known) if self.connections else ():
            self._go_on(program, connection)

    def everybody(self) -> None:
        """A packet of each connection."""
        program = self._attached()
        for connection in self.connections:
            self._go_on(program, connection)

    def _attached(self) -> int:
        """The program that the interface's next packet would see."""
        number = struct.unpack_from("<III", bpf._info(self._link, 64))[2]
        if not self._program or self._program[0] != number:
            fd = bpf.call(_GET_PROGRAM, struct.pack("<III", number, 0, 0))
            if self._program:
                os.close(self._program[1])
            self._program = number, fd
        return self._program[1]

    def _open(self, program: int) -> None:
        if len(self.connections) >= MOST_CONNECTIONS:
            return
        key = self.rng.choice(_KEYS)
        place, port = self.rng.randrange(2), self.rng.randrange(1, 65_536)
        if (key, place, port) in self._names:
            return
        self._names.add((key, place, port))
        clients = CLIENTS if key.address.version == 4 else CLIENTS6
        mac = bytes.fromhex(OUR_MAC.replace(":", ""))
        ends = Ends(mac, clients[place], numbered(key.address), port, key.port, key.protocol)
        found = self._send(program, frames.packet(ends, Shape(flags=SYN)))
        self.connections.append(Connection(ends, found))

    def _go_on(self, program: int, connection: Connection) -> None:
        ends, dice = connection.ends, self.rng.random()
        if dice < 0.05:
            frame = frames.error(ends, Shape(flags=ACK), 2 if ends.virtual >> 128 else 3, 4, 0, 20)
        elif dice < 0.1 and not connection.answered:
            frame = frames.packet(ends, Shape(flags=SYN))
        else:
            connection.answered = True
            frame = frames.packet(ends, Shape(flags=self.rng.choice((ACK, PUSH)), payload=self.rng.randrange(40)))
        found = self._send(program, frame)
        if found != connection.real:
            raise WrongError(f"a packet of {connection} went to real {found}")

    def _send(self, program: int, frame: bytes) -> int:
        """The number of the real that gets it."""
        verdict, out, _ = bpf.run_program(program, frame)
        self.sent["packets"] += 1
        if verdict != bpf.TX:
            raise WrongError(f"verdict {verdict} of {frame.hex()}")
        self.sent[f"to {out[5]}"] += 1
        return out[5]

    # ---------------------------------------------------------------- what is done

    def step(self) -> None:
        """Something, with packets all the while; then some more packets. Raises WrongError."""
        self.do(self.rng.choice(_STEPS), self.rng.randrange(12) if self.rng.random() < 0.25 else None)

    def do(self, done: Callable[[Stream], None], killed_after: int | None = None) -> None:
        """This; the process is killed after so many of its system calls, if there are as many. Raises WrongError."""
        self.story.append(done.__name__)
        if killed_after is not None:
            self.story.append(f"killed after {killed_after} calls")
        self._calls_left = killed_after
        try:
            with self._watched():
                done(self)
        except Killed:
            self.sent["killed"] += 1
            self.burst(known=40)
            self._next_process()
        finally:
            self._calls_left = None
        self.sent[done.__name__] += 1
        self.clock.now_ns += self.rng.choice(STEPS_T) << abi.TICK_SHIFT
        self.clock.set_program(self.node)
        self.burst(known=40, new=4)

    def check(self) -> None:
        """Counters and table. Raises WrongError."""
        after = self._world.data.counters()
        moved = {name: after[name] - self._counted[name] for name in after if after[name] != self._counted[name]}
        if moved != {"rx_packets": self.sent["packets"], "tx_packets": self.sent["packets"]}:
            raise WrongError(f"{self.sent['packets']} packets were sent, and counted: {moved}")
        held = {}
        maps = self._world.data._maps()
        reals = maps.maps["reals"].read()
        for key, value in self._world.entries():
            if not key["template"]:
                ends = tuple(np.atleast_1d(key[name]).tolist() for name in ("client", "virtual", "client_port"))
                held[(*map(_number, ends), int(key["protocol"]))] = int(reals[value["real"]]["mac"][5])
        wanted = {(e.client, e.virtual, e.client_port, e.protocol): c.real for c in self.connections for e in (c.ends,)}
        if held != wanted:
            wrong = dict(held.items() ^ wanted.items())
            raise WrongError(f"in the table are {len(held)} connections; other than they should be: {wrong}")
        if _COUNTING.intersection(self.schedulers.values()):
            self._check_loads(maps)

    def _check_loads(self, maps: View) -> None:
        loads, count = maps.maps["loads"].read(), maps.count()
        for name, counted in (("active", count.active), ("inactive", count.inactive)):
            found = loads[name].astype(np.int64) + loads[f"{name}_fix"]
            if (found != counted).any():
                raise WrongError(f"{name} connections are counted {found[found != counted]}")

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Packets between any two system calls that change something, and around each store to shared memory."""
        call = bpf.call

        def hooked(command: int, attr: bytes | bytearray) -> int:
            done = call(command, attr)
            if command in _WRITES:
                self._between()
            return done

        def around(publish: Callable[..., None]) -> Callable[..., None]:
            def hooked(*args: Any) -> None:
                self._between()
                publish(*args)
                self._between()

            return hooked

        with (
            mock.patch.object(bpf, "call", hooked),
            mock.patch.object(SlotTables, "publish", around(SlotTables.publish)),
            mock.patch.object(Lists, "publish", around(Lists.publish)),
        ):
            yield

    def _between(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            self.burst(known=2, new=self.rng.random() < 0.2)
            if self._calls_left is not None:
                self._calls_left -= 1
                if self._calls_left < 0:
                    raise Killed
        finally:
            self._busy = False

    def _services(self) -> tuple[Service, ...]:
        there = [member for member in self.members if member.there]
        made = [
            Service(
                key,
                self.schedulers[key],
                tuple(member.of(key) for member in there),
                flags=_SCHEDULERS[self.schedulers[key]],
                persistent_s=self.persistent[key],
                netmask=key.address.max_prefixlen,
            )
            for key in self.order
        ]
        place = self.rng.randrange(len(made) + 1)
        return tuple(made[:place] + [Service(_PASSERBY, "rr", (real(1),))] * self.passerby + made[place:])

    def _apply(self) -> None:
        self._world.apply(*self._services())
        self.clock.set_program(self.node)

    def _next_process(self) -> None:
        self._world.data.close(detach=False)
        self.burst()
        self._world.data = asyncio.run(DataPath.open(self.node, (INTERFACE,), SETTINGS, "auto"))
        self.burst()
        self._apply()

    def _some_member(self) -> Member:
        return self.rng.choice(self.members[1:])

    def come_and_go(self) -> None:
        """Some reals leave, others are there again."""
        for _ in range(self.rng.randrange(1, 4)):
            member = self._some_member()
            member.there = not member.there
        self._apply()

    def drain_or_fill(self) -> None:
        """A real goes down, is drained, comes back, gets another weight."""
        self._some_member().weight = self.rng.choice((0, 0, 1, 2, 5))
        self._apply()

    def move(self) -> None:
        """A real, or the router to it, gets another MAC."""
        self._some_member().moves += 1
        self._apply()

    def reschedule(self) -> None:
        """Another program."""
        key = self.rng.choice(_KEYS)
        self.schedulers[key] = self.rng.choice(list(_SCHEDULERS))
        self.persistent[key] = self.rng.choice((0, 0, 300))
        self._apply()

    def reorder(self) -> None:
        """The services in another order, with one more or less: another program, too."""
        self.rng.shuffle(self.order)
        self.passerby = not self.passerby
        self._apply()

    def restart(self) -> None:
        """An orderly one."""
        self._next_process()

    def sweep(self) -> None:
        """Twice: rows of reals that left and have no connections are free then."""
        for _ in range(2):
            self._world.data.sweep()

    def hear_of_all(self) -> None:
        """Another director tells all connections."""
        for rows in self._world.data.snapshot():
            self._world.data.install(rows)


_STEPS: tuple[Callable[[Stream], None], ...] = (
    *(Stream.come_and_go, Stream.come_and_go, Stream.drain_or_fill, Stream.drain_or_fill, Stream.move),
    *(Stream.reschedule, Stream.reorder, Stream.restart, Stream.sweep, Stream.sweep, Stream.hear_of_all),
)


def _number(words: list[int]) -> int:
    return words[0] if len(words) == 1 else 1 << 128 | words[0] << 64 | words[1]


@contextlib.contextmanager
def opened(seed: int) -> Iterator[Stream]:
    """In a namespace of its own; leaves nothing."""
    rng, clock = random.Random(seed), Clock(START_NS)
    with network_namespace(), on_cpu(0), clock.in_force(), mock.patch.object(os, "urandom", rng.randbytes):
        stream = Stream(rng, clock, f"test-{os.getpid()}-stream")
        try:
            yield stream
        finally:
            stream.close()


def run(seed: int, steps: int) -> Counter[str]:
    """So many steps. Raises WrongError, whose notes say which steps these were. Returns what was done."""
    with opened(seed) as stream:
        try:
            stream.burst(new=500)
            for _ in range(steps):
                stream.step()
            stream.everybody()
            stream.check()
        except WrongError as error:
            error.add_note(f"{', '.join(stream.story)}; to see it again: script/fuzz stream 1 {seed}")
            raise
        return stream.sent


@click.command()
@click.argument("limit", default="500", callback=lambda _context, _parameter, text: parse_limit(text))
@click.argument("seed", type=int, required=False)
def main(limit: tuple[int, bool], seed: int | None) -> None:
    """Take so many steps (500), or as many as there is time for (60s). SEED repeats an earlier run."""
    amount, in_seconds = limit
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    seed = secrets.randbits(32) if seed is None else seed
    started, done, seen = time.monotonic(), 0, Counter[str]()
    while (time.monotonic() - started if in_seconds else done) < amount:
        seen += run(seed + done, STEPS)
        done += STEPS
    for what, count in sorted(seen.items()):
        print(f"{count:9}  {what}")
    seconds = time.monotonic() - started
    print(f"{done} steps in {seconds:.0f} s, seed {seed}: every packet of {seen['packets']} went where it had to")


if __name__ == "__main__":
    main()
