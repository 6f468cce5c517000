"""Reads what the data plane holds, from its pinned maps; with a living director or without."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lb import abi, bpf, tcp
from lb.abi import RealFlag, ServiceFlag
from lb.addresses import Address
from lb.bpf import Map
from lb.connections import Rows
from lb.datapath import pins, templates
from lb.datapath.compiler import EMBRYOS, TABLES
from lb.datapath.embryos import Batch, Embryos, as_connections
from lb.datapath.rows import key_of
from lb.datapath.templates import are_templates
from lb.errors import NotRunningError
from lb.service import ServiceKey
from lb.tcp import State

Array = npt.NDArray[Any]

LASTING = ("reals", "ways", "real_stats", "services", "counters", "answered", "lease")
"""The pinned maps that are there to be read, beside the tables of connections and of half-open ones
(`lb.datapath.compiler.TABLES`, `EMBRYOS`) of those families that are balanced. Pinned too, for the one who writes:
rings, epochs, datagrams."""

find_pinned = pins.find_node

_NO_LOADS: Array = np.zeros(0)
_STATES = 256
"""Of a byte."""


class Totals(NamedTuple):
    """Connections ever scheduled, packets, and bytes of IP."""

    connections: int
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class HeldDestination:
    """A real of a service.

    active, inactive: connections as IPVS counts them; persistent: clients that belong to it; upper, lower: its
    thresholds in force, 0 without; the rest: totals since it was added. gone: it is as if not there.
    repeats: SYNs that it left unanswered and that came again, where they are counted.
    """

    address: Address
    local: bool
    mac: bytes | None
    weight: int
    active: int
    inactive: int
    persistent: int
    packets: int
    bytes: int
    connections: int
    forward: str = "gate"
    gone: bool = False
    upper: int = 0
    lower: int = 0
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class HeldService:
    """A service. destinations: all but the fallback and the retired, in the order in which they were added.

    flags: the scheduler's, as ipvsadm names them. persistent_s, netmask, one_packet, also: see `lb.service.Service`.
    """

    key: ServiceKey
    scheduler: str
    fallback_active: bool
    destinations: tuple[HeldDestination, ...]
    fallback: HeldDestination | None
    flags: tuple[str, ...] = ()
    persistent_s: int = 0
    netmask: int = 32
    one_packet: bool = False
    also: tuple[ServiceKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Count:
    """Connections and templates by index of their real, and entries that ran out."""

    active: Array
    inactive: Array
    persistent: Array
    expired: int


class View:
    """The lasting maps of one node. Every method reads anew; none writes."""

    def __init__(self, maps: dict[str, Map], timeouts_s: dict[State, float]) -> None:
        self.maps = maps
        self._embryos: dict[str, Embryos] = {}
        self.set_timeouts(timeouts_s)

    @classmethod
    def open(cls, node: str) -> View:
        """What is pinned for a node. Raises NotRunningError when nothing is."""
        directory = pins.directory_of(node)
        if directory is None:
            raise NotRunningError(f"no data plane of {node!r} below {pins.ROOT}; start it: lbctl up CONF --node {node}")
        return cls.at(directory)

    @classmethod
    def at(cls, directory: Path) -> View:
        """What is pinned in one directory of maps, whatever version wrote it."""
        document = pins.read_document(directory)
        tables = [name for name in (*TABLES, *EMBRYOS, "loads") if name in document["layouts"]]
        fds = {name: bpf.open_pinned(directory / name) for name in (*LASTING, *tables)}
        maps = typed_maps(document["layouts"], frozenset(document["wire"]), fds)
        return cls(maps, {State(state): seconds for state, seconds in document["timeouts_s"]})

    def close(self) -> None:
        """Give the descriptors back."""
        for opened in self.maps.values():
            opened.close()

    def set_timeouts(self, timeouts_s: dict[State, float]) -> None:
        """Seconds by state, as the program has them compiled in."""
        self._timeouts_s = timeouts_s
        self._timeouts_t = np.zeros(_STATES, np.int64)
        self._active = np.zeros(_STATES, np.bool_)
        for state, seconds in timeouts_s.items():
            self._timeouts_t[state] = abi.ticks(seconds)
            self._active[state] = state in tcp.ACTIVE

    def timeouts_s(self, rows: Rows) -> Array:
        """Seconds after which each of these connections and templates, if idle, is forgotten."""
        seconds = np.zeros(_STATES, np.int64)
        for state, timeout_s in self._timeouts_s.items():
            seconds[state] = timeout_s
        timeouts_s: Array = seconds[rows["state"]]
        which = are_templates(rows)
        timeouts_s[which] = templates.seconds_by_row(self.maps["services"].read(), rows[which])
        return timeouts_s

    def services(self) -> tuple[Array, Array]:
        """The rows of services in use, in the configuration's order, and those of what else belongs to groups."""
        rows = self.maps["services"].read()
        members = rows["flags"] & ServiceFlag.MEMBER != 0
        return rows[(rows["flags"] != 0) & ~members], rows[members]

    def reals(self) -> Array:
        """All their rows, used or not, by index."""
        return self.maps["reals"].read()

    def tunnels(self) -> frozenset[int]:
        """The IP versions of those to reals, also to those that left and still have connections."""
        reals = self.reals()
        behind = reals["address"][reals["flags"] & RealFlag.TUNNEL != 0]
        return frozenset(abi.address_of(address).version for address in behind)

    def held(self) -> tuple[HeldService, ...]:
        """What is balanced, by service and real. Reads the whole connection table: 0.3 s for a million."""
        reals, count = self.reals(), self.count()
        used = np.flatnonzero(reals["flags"])
        at = {int(index): n for n, index in enumerate(used)}
        stats = {name: column.sum(axis=1) for name, column in _columns(self.maps["real_stats"].read_at(used))}
        loads = self.maps["loads"].read_at(used) if "loads" in self.maps else _NO_LOADS
        known = loads.dtype.names or ()  # an older version's row may lack some

        def held(index: int) -> HeldDestination:
            row = reals[index]
            flags = RealFlag(int(row["flags"]))
            return HeldDestination(
                address=abi.address_of(row["address"]),
                forward="ipip" if RealFlag.TUNNEL in flags else "gate",
                local=RealFlag.LOCAL in flags,
                mac=row["mac"].tobytes() if RealFlag.RESOLVED in flags else None,
                weight=int(row["weight"]),
                active=int(count.active[index]),
                inactive=int(count.inactive[index]),
                persistent=int(count.persistent[index]),
                **{name: int(loads[name][at[index]]) for name in ("upper", "lower", "repeats") if name in known},
                **{name: int(column[at[index]]) for name, column in stats.items()},
                gone=RealFlag.GONE in flags,
            )

        members: dict[ServiceKey, list[int]] = {}
        for index in used[reals["flags"][used] & RealFlag.RETIRED == 0]:
            members.setdefault(key_of(reals[index]), []).append(int(index))
        services, (leaders, others) = [], self.services()
        for place, service in enumerate(leaders):
            scheduler = service["scheduler"].tobytes().rstrip(b"\0").decode()
            indices = members.get(key_of(service), [])
            fallbacks = [held(i) for i in indices if reals["flags"][i] & RealFlag.FALLBACK]
            services.append(
                HeldService(
                    key=key_of(service),
                    scheduler=scheduler,
                    fallback_active=bool(service["flags"] & ServiceFlag.FALLBACK_ACTIVE),
                    destinations=tuple(held(i) for i in indices if not reals["flags"][i] & RealFlag.FALLBACK),
                    fallback=fallbacks[0] if fallbacks else None,
                    flags=abi.scheduler_flags(scheduler, int(service["flags"])),
                    persistent_s=int(service["persistent_s"]),
                    netmask=int(service["netmask"]),
                    one_packet=bool(service["flags"] & ServiceFlag.ONE_PACKET),
                    also=tuple(map(key_of, others[others["leader"] == place])),
                )
            )
        return tuple(services)

    def snapshot(self, half_open: bool = False) -> tuple[Rows, ...]:
        """Every connection that has not run out, one array a kind of row.

        half_open: those of which one packet came, too; first, so that they make room for others where they are put.
        """
        reals, now_t = self.reals(), self.now_t()
        kinds: dict[np.dtype[Any], list[Rows]] = {}
        young = (found[1:] for name in EMBRYOS if half_open for found in self.embryos(name, now_t))
        entries = chain.from_iterable(self.entries(table, now_t) for table in self.tables())
        for keys, values, live in chain(young, entries):
            for rows in abi.connection_rows(keys[live], values[live], reals, now_t):
                kinds.setdefault(rows.dtype, []).append(rows)
        return tuple(np.concatenate(rows) for rows in kinds.values())

    def counters(self) -> dict[str, int]:
        """Packets of the virtuals by how they left, since the maps were made; rx_packets is the sum of all those."""
        counted = {name: int(column.sum()) for name, column in _columns(self.maps["counters"].read())}
        received = sum(count for name, count in counted.items() if name != "events_lost")
        return {"rx_packets": received, **counted}

    def totals(self) -> dict[tuple[ServiceKey, Address], Totals]:
        """What each real got since it was added, by service and address. Cheap: the connections are not read."""
        reals = self.reals()
        used = np.flatnonzero(reals["flags"])
        stats = self.maps["real_stats"].read_at(used)
        columns = [stats[name].sum(axis=1).tolist() for name in Totals._fields]
        keys = [(key_of(row), abi.address_of(row["address"])) for row in reals[used]]
        return dict(zip(keys, map(Totals, *columns), strict=True))

    def count(self) -> Count:
        """Connections by real, read in batches and without an object for each."""
        size = self.maps["reals"].info.max_entries
        counts, expired = np.zeros((3, size), np.int64), 0
        now_t = self.now_t()
        young = ((values, live) for name in EMBRYOS for _, _, values, live in self.embryos(name, now_t))
        entries = ((values, live) for table in self.tables() for _, values, live in self.entries(table, now_t))
        for values, live in chain(entries, young):
            expired += int(len(live) - live.sum())
            counts += self._by_real(values[live], size)
        active, inactive, persistent = counts
        return Count(active, inactive, persistent, expired)

    def _by_real(self, values: Array, size: int) -> Array:
        """Active ones (row 0), inactive ones (row 1) and templates (row 2) of some entries, by index of their real."""
        active, template = self._active[values["state"]], are_templates(values)
        kinds = active, ~active & ~template, template
        return np.stack([np.bincount(values["real"][kind], minlength=size)[:size] for kind in kinds])

    def tables(self) -> tuple[Map, ...]:
        """The connection tables, one a family."""
        return tuple(self.maps[name] for name in TABLES if name in self.maps)

    def entries(self, table: Map, now_t: int) -> Iterator[tuple[Array, Array, Array]]:
        """A connection table in batches: keys, values, and which have not run out."""
        of_templates = functools.cache(self._template_timeouts_t)
        for keys, values in table.batches():
            yield keys, values, self._are_live(values, of_templates, now_t)

    def embryos(self, name: str, now_t: int) -> Iterator[tuple[Batch, Array, Array, Array]]:
        """Half-open connections in batches, and as `entries` would have them; none where there is no such family."""
        if name in self.maps:
            of_templates = functools.cache(self._template_timeouts_t)
            value = self.maps[TABLES[EMBRYOS.index(name)]].value
            for batch in self.table_of_embryos(name).batches():
                keys, values = as_connections(batch.entries, value, time.monotonic_ns())
                yield batch, keys, values, self._are_live(values, of_templates, now_t)

    def table_of_embryos(self, name: str) -> Embryos:
        """Of one family; sharing its memory takes longer than reading it, and is done once."""
        if name not in self._embryos:
            self._embryos[name] = Embryos(self.maps[name])
        return self._embryos[name]

    def _template_timeouts_t(self) -> Array:
        return templates.timeouts_by_real(self.maps["services"].read(), self.reals())

    def _are_live(self, values: Array, of_templates: Callable[[], Array], now_t: int) -> Array:
        """of_templates: costs more than reading a small table, and is asked where there are any."""
        timeouts_t = self._timeouts_t[values["state"]]
        which = are_templates(values)
        if which.any():
            by_real = of_templates()
            timeouts_t[which] = by_real[values["real"][which] % len(by_real)]
        live: Array = abi.age_t(values["last_seen_t"], now_t) <= timeouts_t
        return live

    @staticmethod
    def now_t() -> int:
        """The packet program's time, in ticks."""
        return abi.tick(time.monotonic_ns())


def typed_maps(layouts: dict[str, Any], wire: frozenset[str], fds: dict[str, int]) -> dict[str, Map]:
    """The maps behind these descriptors, which they then own. wire: the fields in wire order."""
    return {
        name: Map(fd, abi.dtype(layouts[name]["key"], wire), abi.dtype(layouts[name]["value"], wire))
        for name, fd in fds.items()
    }


def _columns(values: Array) -> Iterator[tuple[str, Array]]:
    """The fields of a per-CPU map's values, each a matrix of one column a CPU."""
    return ((name, values[name]) for name in values.dtype.names or ())
