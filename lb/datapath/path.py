"""The packet path of one director: compiled, attached, kept in step with what is wanted, read back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import structlog

from lb import abi, bpf
from lb.addresses import Address
from lb.connections import Ours, Rows
from lb.datapath import pins, source
from lb.datapath.attach import NATIVE_MTU, Attachments, interface_index, interface_mac, interface_mtu
from lb.datapath.compiler import EMBRYOS, FAMILIES, RINGS, TABLES
from lb.datapath.lasting import Lasting, Sweep
from lb.datapath.load import load
from lb.datapath.program import Program
from lb.datapath.repeats import Repeats
from lb.datapath.source import Configuration
from lb.datapath.view import LASTING, HeldService, Totals, View, typed_maps
from lb.errors import DataPathError
from lb.limits import Limits
from lb.model import Connections
from lb.options import Options
from lb.ring import Ring
from lb.schedule import Scheduling
from lb.service import Service, ServiceKey

log = structlog.get_logger(__name__)

_LRU_RESERVE = 512
"""Entries a CPU below which an LRU map throws out what it should keep: it frees 128 at a time, on each CPU."""


class DataPath:
    """Made by `open`, filled by `apply`; before the first `apply` there is nothing to read and no event.

    Only `apply`, `held`, `snapshot` and `sweep` take more than a few milliseconds; the last three and `install` may run
    in other threads meanwhile.
    settings: may be replaced by others of the same `max`; the next `apply` compiles its timeouts in. limits,
    virtual_mac, told (is there anybody to be told of events?): may be replaced, and so compiled in.
    """

    def __init__(self, node: str, interfaces: Sequence[str], settings: Connections, attachments: Attachments) -> None:
        self.settings = settings
        self.limits = Limits()
        self.virtual_mac = b""
        self._denied_before: Counter[str] = Counter()
        self.told = True
        self._node = node
        self._interfaces = interfaces
        self._attachments = attachments
        self._cpus = bpf.online_cpus()
        self._size = max(settings.max, _LRU_RESERVE * bpf.possible_cpus())
        self._cache_set_bits = abi.cache_set_bits(self._size, self._cpus)
        self._embryo_set_bits = abi.embryo_set_bits(self._size)
        self._directory = pins.home(node) / source.schema(self._size)
        self._seed = self._lasting_seed()
        self._configuration: Configuration | None = None
        self._tunnels: frozenset[int] = frozenset()
        self._program: Program | None = None
        self._lasting: Lasting | None = None
        self._rings: dict[str, Ring] = {}
        self._layouts: dict[str, Any] = {}
        self._repeats = Repeats()
        self._events = select.epoll()
        self._earlies: Ring | None = None

    @classmethod
    async def open(cls, node: str, interfaces: Sequence[str], settings: Connections, attach: str) -> DataPath:
        """A packet path for these interfaces. Loads nothing yet: that is for the first `apply`.

        What an earlier process of this node left in the kernel works on until then, and its connections, reals and
        counters are taken over. attach: auto, native or generic. Raises DataPathError.
        """

        def make() -> DataPath:
            for interface in interfaces:
                interface_index(interface)
            try:
                pins.mount()
                earlier = pins.directory_of(node)
                modes = pins.read_document(earlier).get("modes", {}) if earlier else {}
                return cls(node, interfaces, settings, Attachments(pins.home(node), interfaces, attach, modes))
            except OSError as error:
                raise DataPathError(f"bpf(2) is refused: {error}; run as root") from error

        return await asyncio.to_thread(make)

    async def apply(self, services: Sequence[Service]) -> None:
        """Make the kernel hold these services. The same ones again change nothing. One call at a time.

        Another set of keys and schedulers (or timeouts, or another MAC of the interface) is compiled in a child process
        and swapped in by one step; anything else is a few writes to maps. A failure changes nothing that runs.
        Raises DataPathError.
        """
        try:
            await asyncio.to_thread(self._apply, tuple(services))
        except OSError as error:
            raise DataPathError(f"the packet path cannot be changed: {error}") from error

    def _apply(self, services: tuple[Service, ...]) -> None:
        configuration = self._configure(services)
        if self._program is None or self._lasting is None or configuration != self._configuration:
            self._swap(configuration, services)
            return
        placements = self._lasting.add_reals(services)
        fallbacks = self._program.publish(services, placements)
        self._repeats.watch(self._lasting, services, placements)
        self._lasting.retire_reals(placements)
        self._lasting.write_services(services, fallbacks)
        if not self._attachments.holds():
            self._attachments.put(self._program.fd)

    def _configure(self, services: tuple[Service, ...]) -> Configuration:
        count = sum(len(service.keys) for service in services)
        if count > abi.SERVICES_MAX:
            raise DataPathError(f"{count} services are more than the packet path holds: {abi.SERVICES_MAX}")
        # What a program once had stays in: a real may have left, and its connections go on.
        self._tunnels = self._tunnels.union(self._tunnels_left(), *(service.tunnels for service in services))
        return Configuration(
            services=tuple((service.key, service.scheduler) for service in services),
            macs=tuple(interface_mac(interface) for interface in self._interfaces),
            connections=self._size,
            timeouts_s=tuple(abi.timeouts_s(self.settings).items()),
            cache_set_bits=self._cache_set_bits,
            cpus=self._cpus,
            embryo_set_bits=self._embryo_set_bits,
            told=self.told,
            tunnels=self._tunnels,
            scheduling=Scheduling.of(services),
            options=Options.of(services),
            limits=self.limits,
            virtual_mac=self.virtual_mac,
            jumbo=max(map(interface_mtu, self._interfaces)) > NATIVE_MTU and bpf.takes_jumbo(),
        )

    def _lasting_seed(self) -> bytes:
        """By which half-open connections are found, those of an earlier process too."""
        if (self._directory / "document").exists():
            return bytes.fromhex(pins.read_document(self._directory)["seed"])
        return os.urandom(abi.EMBRYO_SEED_BYTES)

    def _tunnels_left(self) -> frozenset[int]:
        """The IP versions of tunnels to reals that an earlier process left, which may have connections."""
        if self._lasting is not None or not (self._directory / "document").exists():
            return frozenset()
        with contextlib.closing(View.at(self._directory)) as view:
            return view.tunnels()

    def _swap(self, configuration: Configuration, services: tuple[Service, ...]) -> None:
        """Compile, fill the new program's tables, and only then let packets see it."""
        started = time.monotonic()
        earlier = self._earlier() if self._program is None else None
        program = self._compile(configuration)
        try:
            lasting = self._lasting or self._take_over(program)
            self._open_families(program, lasting)
            if configuration.scheduling.counts and not self._counts:
                lasting.recount()
            placements = lasting.add_reals(services)
            if earlier:
                lasting.write_services(services, [False] * len(services))  # what templates and groups are known by
                _take_along(earlier, lasting)
            fallbacks = program.publish(services, placements)
            self._attachments.put(program.fd)
            if earlier:
                _take_along(earlier, lasting, meanwhile=True)
        except BaseException:
            program.close()
            raise
        old, self._program = self._program, program
        self._configuration = configuration
        self._repeats.watch(lasting, services, placements)
        lasting.set_timeouts(dict(configuration.timeouts_s))
        lasting.retire_reals(placements)
        lasting.write_services(services, fallbacks)
        self._write_document()
        if old:
            self._denied_before.update(old.denied())
            old.close()
        log.info("packet program swapped in", services=len(services), seconds=round(time.monotonic() - started, 2))

    @property
    def _counts(self) -> bool:
        """Does the program in force keep counts? An earlier process's is taken for one that does not."""
        return self._configuration is not None and self._configuration.scheduling.counts

    def _compile(self, configuration: Configuration) -> Program:
        made = not self._directory.exists()
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            seed = os.urandom(source.SEED_BYTES)
            text = source.program_text(configuration, self._directory, seed, self._seed)
            return Program(load(text, configuration.jumbo), configuration.limits)
        except DataPathError:
            if made:
                pins.remove(self._directory)
            raise

    def _take_over(self, program: Program) -> Lasting:
        """The lasting maps as the first program opened them; those after it share them by their pins.

        Connections of a family that has no virtuals any more are forgotten.
        """
        for name in FAMILIES:
            if name not in program.layouts:
                (self._directory / name).unlink(missing_ok=True)
        self._lasting = Lasting(
            self._open_pinned(program, (*LASTING, "epochs", "loads", "datagrams", "paces")),
            abi.timeouts_s(self.settings),
            abi.embryo_seed(self._seed),
        )
        kind = abi.dtype(program.layouts["earlies"]["value"], source.wire_fields())
        self._earlies = Ring(bpf.open_pinned(self._directory / "earlies"), kind)
        return self._lasting

    def _open_families(self, program: Program, lasting: Lasting) -> None:
        """The maps of a family as the first program that balances it opened them. They stay as long as this process."""
        self._layouts |= program.layouts
        fresh = {name for name in program.layouts if name not in lasting.maps and name not in self._rings}
        lasting.maps |= self._open_pinned(program, fresh & {*TABLES, *EMBRYOS})
        for name in sorted(fresh & set(RINGS)):
            kind = abi.dtype(program.layouts[name]["value"], source.wire_fields())
            self._rings[name] = Ring(bpf.open_pinned(self._directory / name), kind)
            self._events.register(self._rings[name].fd, select.EPOLLIN)

    def _open_pinned(self, program: Program, names: Iterable[str]) -> dict[str, bpf.Map]:
        fds = {name: bpf.open_pinned(self._directory / name) for name in names}
        return typed_maps(program.layouts, source.wire_fields(), fds)

    def _earlier(self) -> Path | None:
        """Where the node's maps are if they are of another schema: another version's, or of another size."""
        found = pins.directory_of(self._node)
        return None if found == self._directory else found

    def _write_document(self) -> None:
        document = {
            "node": self._node,
            "modes": self._attachments.modes,
            "timeouts_s": [[int(state), seconds] for state, seconds in abi.timeouts_s(self.settings).items()],
            "layouts": self._layouts,
            "wire": sorted(source.wire_fields()),
            "seed": self._seed.hex(),
        }
        pins.write_document(self._directory, document)
        pins.remove_others(self._directory)

    def detach(self) -> None:
        """Forward nothing any more; what there was to know can be read until `close`."""
        self._attachments.close(detach=True)

    def close(self, detach: bool) -> None:
        """Let go. detach: take program, connections and counters out of the kernel; else they work on and wait."""
        self._attachments.close(detach)
        for part in (self._program, self._lasting, self._earlies, *self._rings.values()):
            if part is not None:
                part.close()
        self._events.close()
        self._program = self._lasting = self._earlies = None
        self._rings = {}
        if detach:
            pins.remove_node(self._node)

    # ---------------------------------------------------------------- read and write

    @property
    def modes(self) -> dict[str, str]:
        """Of each interface: native or generic; empty before the first `apply`."""
        return self._attachments.modes

    @property
    def program_fd(self) -> int:
        """The loaded program's, for BPF_PROG_TEST_RUN. Raises DataPathError before the first `apply`."""
        if self._program is None:
            raise _NOTHING_LOADED
        return self._program.fd

    @property
    def event_fd(self) -> int:
        """Readable while events wait, for a `Listener`; the same until `close`."""
        return self._events.fileno()

    @property
    def early_fd(self) -> int:
        """Of the ring of fragments that were set aside; as `event_fd`."""
        if self._earlies is None:
            raise _NOTHING_LOADED
        return self._earlies.fd

    def read_earlies(self) -> list[tuple[bytes, bytes]]:
        """Fragments that came before the first of their datagram: which one, and the frame; "": the first has come."""
        return abi.early_frames(self._earlies.read()) if self._earlies else []

    def first_has_come(self, datagram: bytes) -> bool:
        """Is it known where this datagram goes? datagram: as `read_earlies` calls it."""
        return self._maps().first_has_come(datagram)

    def run(self, frame: bytes) -> tuple[int, bytes]:
        """Put a frame through the program: the verdict, and the frame that leaves. Raises OSError, DataPathError."""
        verdict, out, _ = bpf.run_program(self.program_fd, frame)
        return verdict, out

    @property
    def events_lost(self) -> int:
        """Events that found the ring full, since the maps were made."""
        return self.counters()["events_lost"]

    def read_events(self) -> tuple[Rows, ...]:
        """The connections that opened, changed state or were refreshed, oldest first; each is told once.

        One array for each kind of row of which there are any.
        """
        waiting = [ring.read() for ring in self._rings.values()]
        return tuple(rows for events in waiting if len(events) for rows in self._maps().rows_of(events))

    def renew_lease(self, seconds: float) -> None:
        """Let the kernel answer for the virtual addresses so long from now on; 0 ends it at once."""
        self._maps().renew_lease(seconds)

    def refer_to(self, directors: Sequence[bytes], seconds: float) -> None:
        """See `Lasting.refer_to`."""
        self._maps().refer_to(directors, seconds)

    def held(self) -> tuple[HeldService, ...]:
        """See `View.held`."""
        return self._maps().held()

    def snapshot(self) -> tuple[Rows, ...]:
        """See `View.snapshot`. Half-open connections are not among them."""
        return self._maps().snapshot()

    def counters(self) -> dict[str, int]:
        """See `View.counters`."""
        return self._maps().counters()

    def denied(self) -> dict[str, int]:
        """Packets that each deny list turned away since this process began, by the list's name."""
        now = self._program.denied() if self._program else {}
        return {name: count + self._denied_before[name] for name, count in now.items()}

    def totals(self) -> dict[tuple[ServiceKey, Address], Totals]:
        """See `View.totals`."""
        return self._maps().totals()

    def repeats(self) -> dict[tuple[ServiceKey, Address], int]:
        """See `Repeats.read`. A few microseconds."""
        return self._repeats.read(self._maps())

    def install(self, rows: Rows, ours: Ours = Ours.LATER) -> tuple[int, int]:
        """See `Lasting.install`."""
        return self._maps().install(rows, ours)

    def sweep(self) -> Sweep:
        """See `Lasting.sweep`."""
        return self._maps().sweep()

    def _maps(self) -> Lasting:
        if self._lasting is None:
            raise _NOTHING_LOADED
        return self._lasting


_NOTHING_LOADED = DataPathError("no packet program is loaded yet; the first apply() does it")


def _take_along(earlier: Path, lasting: Lasting, meanwhile: bool = False) -> None:
    """Take the connections along from maps of another schema. meanwhile: only those that were opened while this was
    done before, and until this node's program took over; of all others these tables know better by then.

    Another version may have written what this one cannot read; that must not keep it from starting.
    """
    ours = Ours.ALL if meanwhile else Ours.LATER
    try:
        with contextlib.closing(View.at(earlier)) as view:
            done = [lasting.install(rows, ours) for rows in view.snapshot(half_open=True)]
            installed, unknown = (sum(counts) for counts in zip((0, 0), *done, strict=True))
    except (OSError, LookupError, TypeError, ValueError) as error:
        log.warning("connections in maps of another shape are lost", directory=str(earlier), error=str(error))
    else:
        log.info(
            "connections taken over from maps of another shape",
            installed=installed, unknown=unknown, meanwhile=meanwhile,
        )  # fmt: skip
