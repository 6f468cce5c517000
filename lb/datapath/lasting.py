"""The maps that outlive programs and processes, with the right to write them: reals, services, lease, connections.

Each CPU remembers what the connection table said (bpf/cache.h): who changes the table says so by `raise_epochs`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lb import abi
from lb.abi import RealFlag, ServiceFlag
from lb.bpf import Map
from lb.connections import CONNECTION6, Ours, Rows
from lb.datapath import rows as real_rows
from lb.datapath import templates
from lb.datapath.compiler import EMBRYOS, TABLES
from lb.datapath.embryos import Batch, as_connections
from lb.datapath.loads import Loads
from lb.datapath.rows import Finder, Placement
from lb.datapath.templates import are_templates
from lb.datapath.view import Array, View
from lb.service import PROTOCOL_NUMBERS, Service
from lb.tcp import REUSABLE, State

_NEWER_T = 2
"""Entries seen within so many ticks of each other were seen at about the same time. Clocks and rounding differ by one,
and a state change must not be lost to that."""

_FINISHED = np.isin(np.arange(256), [*REUSABLE])
"""By the number of a state, or what should be one: does it await another connection with the same ports?"""

_THE_LEASE = np.zeros(1, np.uint32)

_UDP = PROTOCOL_NUMBERS["udp"]


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found. live, expired: connections kept and deleted; released: rows of reals that are free again."""

    live: int
    expired: int
    released: int


class _Here(NamedTuple):
    """What is known here of some connections. entries: as in their table, where found; whole: which are there; young:
    the places of those that are half-open; batch: these, in that order."""

    entries: Array
    whole: Array
    found: Array
    young: Array
    batch: Batch


class Lasting(View):
    """One writer a node. Its methods may be called from several threads."""

    def __init__(self, maps: dict[str, Map], timeouts_s: dict[State, float], embryo_seed: tuple[int, ...]) -> None:
        super().__init__(maps, timeouts_s)
        self._embryo_seed = embryo_seed
        self._reals = maps["reals"].read()
        self._ways = maps["ways"].read()
        self._lease = maps["lease"].read()
        self._idle = np.zeros(len(self._reals), np.bool_)
        self._loads = Loads(maps["loads"])
        self._epochs = maps["epochs"].mapped()
        self._finders: dict[bool, Finder] = {}
        self._lock = threading.Lock()

    def reals(self) -> Array:
        """As written last: nobody else writes them."""
        return self._reals

    def add_reals(self, services: Sequence[Service]) -> list[Placement]:
        """Write a row for each destination, new or not; returns where. Raises DataPathError when there is no room."""
        with self._lock:
            wanted, placements = real_rows.place(self._reals, services)
            fresh = np.flatnonzero((self._reals["flags"] == 0) & (wanted["flags"] != 0))
            stats = self.maps["real_stats"]
            stats.update(fresh, stats.empty(len(fresh)))
            self._loads.begin(fresh)
            self._write_ways(real_rows.place_ways(self._ways, services, placements))
            self._write_reals(wanted)
            self._loads.set_limits(services, placements)
            return placements

    def repeats(self, indices: Array) -> Array:
        """See `Loads.repeats`."""
        return self._loads.repeats(indices)

    def retire_reals(self, placements: Iterable[Placement]) -> None:
        """Retire the reals that no service has any more: their connections go on."""
        with self._lock:
            self._write_reals(real_rows.retire(self._reals, placements))

    def _write_ways(self, wanted: Array) -> None:
        """Before the reals: a real that is resolved has a way."""
        changed = np.flatnonzero(wanted != self._ways)
        self.maps["ways"].update(changed, wanted[changed])
        self._ways = wanted

    def _write_reals(self, wanted: Array) -> None:
        changed = np.flatnonzero(wanted != self._reals)
        self.maps["reals"].update(changed, wanted[changed])
        if (wanted["flags"] & ~self._reals["flags"] & (RealFlag.GONE | RealFlag.RETIRED)).any():
            self.raise_epochs()  # what becomes of their connections is for packets that ask the table
        self._reals = wanted
        self._finders = {}
        self._idle &= wanted["flags"] & RealFlag.RETIRED != 0

    def write_services(self, services: Sequence[Service], fallback_active: Sequence[bool]) -> None:
        """For those who read: which services there are, in order, and what else is theirs."""
        opened = self.maps["services"]
        wanted = opened.empty(opened.info.max_entries)
        for row, service, active in zip(wanted, services, fallback_active, strict=False):
            key = service.key
            row["virtual"], row["virtual_port"], row["protocol"] = abi.words(key.address), key.port, key.protocol
            row["flags"] = ServiceFlag.USED | (ServiceFlag.FALLBACK_ACTIVE if active else 0)
            row["flags"] |= abi.service_flags(service.scheduler, service.flags)
            row["flags"] |= ServiceFlag.ONE_PACKET if service.one_packet else 0
            row["persistent_s"], row["netmask"] = service.persistent_s, service.netmask
            row["scheduler"] = np.frombuffer(service.scheduler.encode().ljust(8, b"\0"), np.uint8)
        members = ((place, key) for place, service in enumerate(services) for key in service.also)
        for row, (place, key) in zip(wanted[len(services) :], members, strict=False):
            row["virtual"], row["virtual_port"], row["protocol"] = abi.words(key.address), key.port, key.protocol
            row["flags"], row["leader"] = ServiceFlag.USED | ServiceFlag.MEMBER, place
        changed = np.flatnonzero(wanted != opened.read())
        with self._lock:
            opened.update(changed, wanted[changed])
            self._finders = {}

    def rows_of(self, events: Array) -> tuple[Rows, ...]:
        """Records of the ring in the exchange format; no row of `reals` is freed while an event names it."""
        return abi.connection_rows(events["key"], events, self._reals, self.now_t())

    def renew_lease(self, seconds: float) -> None:
        """Let the kernel answer for the virtual addresses so long from now on; 0 ends it at once."""
        self._lease["until_ns"] = time.monotonic_ns() + int(seconds * 1e9) if seconds > 0 else 0
        self.maps["lease"].update(_THE_LEASE, self._lease)

    def refer_to(self, directors: Sequence[bytes], seconds: float) -> None:
        """For so long ask the first of these MACs about unknown and finished connections; 0 ends it at once.

        directors: all others' (at most 7): what comes from one of them was asked about already. A lease that the packet
        program has ended meanwhile stays ended.
        """
        lease = self.maps["lease"].read()
        macs = b"".join(directors)
        lease["directors"] = np.frombuffer(macs.ljust(lease["directors"].nbytes, b"\0"), np.uint8)
        lease["refer_until_ns"] = time.monotonic_ns() + int(seconds * 1e9) if seconds > 0 else 0
        self.maps["lease"].update(_THE_LEASE, lease)
        self._lease = lease
        self.raise_epochs()

    def install(self, rows: Rows, ours: Ours = Ours.LATER) -> tuple[int, int]:
        """Put in connections that another director knows. Returns how many were, and how many have a real unknown here.

        Neither counts rows that ran out, that make no sense, that others of the same connection follow, or whose
        entries here stay: ours says which, and packets that come meanwhile say the rest. 3 s for a million,
        4.4 where ours is not LATER.
        """
        if rows.dtype != CONNECTION6:
            return self._install(TABLES[0], rows, ours)
        mixed = abi.are_mapped(rows["virtual"])
        if not mixed.any():
            return self._install(TABLES[1], rows, ours)
        parts = zip(TABLES, (rows[mixed], rows[~mixed]), strict=True)
        done = [self._install(name, part, ours) for name, part in parts]
        installed, unknown = map(sum, zip(*done, strict=True))
        return installed, unknown

    def _install(self, name: str, rows: Rows, ours: Ours) -> tuple[int, int]:
        """In the table of that name."""
        now_t, idle_t = self.now_t(), abi.ticks_of(rows["idle_s"])
        live = _are_sane(rows) & (idle_t <= self._timeouts_of(rows))
        rows, idle_t = rows[live], idle_t[live]
        table = self.maps.get(name)
        if table is None:
            return 0, len(rows)
        with self._lock:
            reals = self._find(rows)
            known = reals >= 0
            keys, values = _entries_of(table, rows[known], reals[known], now_t - idle_t[known], now_t)
            last = _last_of_each(keys)
            keys, values = keys[last], values[last]
            here = self._look_up(name, keys)
            taken = ~here.found | _are_news(values, here.entries, ours)
            taken = self._write(name, keys, values, here, taken, ours)
            before = here.entries
            other = np.logical_or.reduce([values[name] != before[name] for name in ("real", "state", "last_seen_t")])
            if (taken & here.found & other).any():
                self.raise_epochs()
            size = len(self._reals)
            self._loads.add((self._by_real(values[taken], size) - self._by_real(before[here.found & taken], size))[:2])
        return int(taken.sum()), int(len(known) - known.sum())

    def _look_up(self, name: str, keys: Array) -> _Here:
        """In the table of that name, and among half-open connections."""
        table, embryos = self.maps[name], self.table_of_embryos(EMBRYOS[TABLES.index(name)])
        entries, whole = table.lookup_each(keys)
        missing = np.flatnonzero(~whole)
        half_open, batch = embryos.find(keys[missing], self._embryo_seed)
        young, found = missing[half_open], whole.copy()
        entries[young], found[young] = as_connections(batch.entries, table.value, time.monotonic_ns())[1], True
        return _Here(entries, whole, found, young, batch)

    def _write(self, name: str, keys: Array, values: Array, here: _Here, wanted: Array, ours: Ours) -> Array:
        """Those wanted, unless packets were faster where these come. Returns which were written."""
        table, embryos = self.maps[name], self.table_of_embryos(EMBRYOS[TABLES.index(name)])
        new, news = np.flatnonzero(wanted & ~here.whole), np.flatnonzero(wanted & here.whole)
        taken = wanted.copy()
        if ours is Ours.LATER:
            table.update(keys[wanted], values[wanted])
        else:
            taken[new] = table.insert(keys[new], values[new])
            taken[news] = table.replace(keys[news], values[news], here.entries[news])
        embryos.let_go(here.batch, taken[here.young])
        begun, _ = embryos.find(keys[taken], self._embryo_seed)  # meanwhile, and so they are younger
        late = np.flatnonzero(taken)[begun]
        taken[late] = ~table.remove(keys[late], values[late])
        return taken

    def _find(self, rows: Rows) -> Array:
        is_ipv6 = rows.dtype == CONNECTION6
        if is_ipv6 not in self._finders:
            self._finders[is_ipv6] = Finder(self._reals, self.maps["services"].read(), is_ipv6)
        return self._finders[is_ipv6].find(rows)

    def _timeouts_of(self, rows: Rows) -> Array:
        timeouts_t: Array = self._timeouts_t[rows["state"]]
        which = are_templates(rows)
        if which.any():
            timeouts_t[which] = templates.timeouts_by_row(self.maps["services"].read(), rows[which])
        return timeouts_t

    def raise_epochs(self) -> None:
        """Let every packet that comes from now on ask the connection table. Costs no more than the next tick does.

        An epoch that a packet raises between being read and being written here loses that step; it is new all the same.
        """
        self._epochs["number"] += np.uint32(abi.EPOCH_STEP)

    def _forget_datagrams(self, reals: Array) -> None:
        """Fragments still to come must not be sent to whoever gets these rows."""
        opened = self.maps["datagrams"]
        for keys, values in opened.batches():
            opened.delete(keys[np.isin(values["real"], reals)])

    def first_has_come(self, datagram: bytes) -> bool:
        """Has the first fragment of this datagram (a struct datagram_key) come, not too long ago?"""
        opened = self.maps["datagrams"]
        found = opened.lookup(np.frombuffer(datagram, opened.key)[0])
        return found is not None and bool(
            found["real"][0] != abi.DATAGRAM_WAITS
            and self.now_t() - int(found["seen_t"][0]) <= abi.ticks(abi.FRAGMENT_TIMEOUT_S)
        )

    def sweep(self) -> Sweep:
        """Delete what ran out, put the counts right that schedulers go by, and free the rows of retired reals without
        connections. 0.3 s a million, and 2 us for each that ran out.

        Who opens anew after being read as run out stays, unless that is within the moment of `Map.remove`.
        A row is freed when it was retired and without connections in two sweeps, so that no packet is on its way there.
        """
        before, size, now_t = self._counts(), len(self._reals), self.now_t()
        counted, ended = np.zeros((3, size), np.int64), np.zeros((3, size), np.int64)
        for table in self.tables():
            overdue = []
            for keys, values, live in self.entries(table, now_t):
                over, waits = ~live, ~live & are_templates(values)
                if waits.any():
                    overdue.append((keys[waits], values[waits]))
                    over &= ~waits
                ends = np.flatnonzero(over)
                over[ends] = table.remove(keys[ends], values[ends])
                counted += self._by_real(values[~over & ~waits], size)
                ended += self._by_real(values[over], size)
            if overdue:
                keys, values = map(templates.joined, zip(*overdue, strict=True))
                lasts = self._prolong(table, keys, values, now_t)
                ends = np.flatnonzero(~lasts)
                lasts[ends] = ~table.remove(keys[ends], values[ends])
                counted += self._by_real(values[lasts], size)
                ended += self._by_real(values[~lasts], size)
        for name in EMBRYOS:
            for batch, _, values, live in self.embryos(name, now_t):
                counted += self._by_real(values[live], size)
                ended += self._by_real(values[~live], size)
                self.table_of_embryos(name).let_go(batch, ~live)
        with self._lock:
            self._loads.add(-ended[:2])
            self._loads.correct(before - ended[:2], counted[:2])
            idle = (self._reals["flags"] & RealFlag.RETIRED != 0) & (counted.sum(axis=0) == 0)
            free = np.flatnonzero(idle & self._idle)
            if ended.any() or len(free):
                self.raise_epochs()
            if len(free):
                self._forget_datagrams(free)
            self._write_reals(real_rows.release(self._reals, free))
            idle[free] = False
            self._idle = idle
        return Sweep(int(counted.sum()), int(ended.sum()), len(free))

    def _prolong(self, table: Map, keys: Array, values: Array, now_t: int) -> Array:
        """Let those templates last on, of some that ran out, that led to connections that are there. Returns which."""
        services, reals = self.maps["services"].read(), self.reals()
        timeouts_t = templates.timeouts_by_real(services, reals)[values["real"] % len(reals)]
        codes = templates.code_of(keys)
        order = np.argsort(codes)
        lasts = np.zeros(len(keys), np.bool_)
        for entries, held, live in self.entries(table, now_t):
            found = templates.code_of(templates.that_led_to(entries[live], held[live], services, reals))
            at = np.minimum(np.searchsorted(codes[order], found), len(codes) - 1)
            lasts[order[at[codes[order][at] == found]]] = True
        lasts &= timeouts_t != templates.NEVER_T
        table.update(keys[lasts], templates.prolonged(values, timeouts_t, now_t)[lasts])
        return lasts

    def recount(self) -> None:
        """Make the counts that schedulers go by those of the table, as after a program that kept none."""
        before = self._counts()
        counted = np.zeros_like(before)
        for table in self.tables():
            for _, values in table.batches():
                counted += self._by_real(values, len(self._reals))[:2]
        for name in EMBRYOS:
            for _, _, values, _ in self.embryos(name, self.now_t()):
                counted += self._by_real(values, len(self._reals))[:2]
        with self._lock:
            self._loads.correct(before, counted)

    def _counts(self) -> Array:
        with self._lock:
            return self._loads.counts()


def _entries_of(table: Map, rows: Rows, reals: Array, last_seen_t: Array, now_t: int) -> tuple[Array, Array]:
    keys, values = np.zeros(len(rows), table.key), np.zeros(len(rows), table.value)
    for name in ("client_port", "virtual_port", "protocol"):
        keys[name] = rows[name]
    for name in ("client", "virtual"):
        mixed = rows[name].ndim > keys[name].ndim
        keys[name] = rows[name][:, 1] & np.uint64(0xFFFF_FFFF) if mixed else rows[name]
    keys["template"] = are_templates(rows)
    values["real"], values["state"] = reals, rows["state"]
    values["last_seen_t"], values["synced_t"] = np.maximum(last_seen_t, 0), now_t
    return keys, values


def _last_of_each(keys: Array) -> Array:
    """Where each key stands for the last time: a connection that opened and was established at once is told twice."""
    words = np.ascontiguousarray(keys).view(np.uint64).reshape(len(keys), keys.dtype.itemsize // 8)
    order = np.lexsort(words.T)  # equal ones keep their order
    ends = np.ones(len(keys), np.bool_)
    ends[:-1] = (words[order[1:]] != words[order[:-1]]).any(axis=1)
    last: Array = np.sort(order[ends])
    return last


def _are_news(theirs: Array, ours: Array, stay: Ours) -> Array:
    """Which of theirs replace ours, the same connections' entries.

    Of two that were seen at about the same time and have different reals, a finished one is of the connection that had
    these ports before, whoever has it. Both directors have opened connections after one was frozen, or cut off, and
    then tell each other all they have at once: what crosses must not change places.
    """
    if stay is Ours.ALL:
        return np.zeros(len(theirs), np.bool_)
    newer_t = theirs["last_seen_t"].astype(np.int64) - ours["last_seen_t"]
    least_t = np.full(len(theirs), -_NEWER_T if stay is Ours.LATER else _NEWER_T + 1)
    theirs_finished, ours_finished = _FINISHED[theirs["state"]], _FINISHED[ours["state"]]
    elsewhere = theirs["real"] != ours["real"]
    least_t[elsewhere & theirs_finished & ~ours_finished] = _NEWER_T + 1
    least_t[elsewhere & ~theirs_finished & ours_finished] = -_NEWER_T
    news: Array = newer_t >= least_t
    return news


def _are_sane(rows: Rows) -> Array:
    """Have they a protocol of ours, and a state that fits it?"""
    state, is_udp = rows["state"], rows["protocol"] == _UDP
    sane = np.where(is_udp, state == State.UDP, (state > 0) & (state < State.UDP))
    sane |= are_templates(rows) & (rows["client_port"] == 0)
    sane &= is_udp | (rows["protocol"] == PROTOCOL_NUMBERS["tcp"])
    return sane
