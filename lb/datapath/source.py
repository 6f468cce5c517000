"""The packet program's text: bpf/*.h spliced into bpf/lb.c, behind the constants of one configuration. Pure but for
reading those files.

bcc rewrites map calls in the main text only, so that there is one text; `#line` keeps the compiler's messages pointing
at the right file. Two programs are the same if their texts are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from lb import abi, tcp
from lb.addresses import Address
from lb.limits import Limits
from lb.options import Options, Persistence
from lb.schedule import LOCALITY_S, SCHEDULERS, TRIES, Scheduling
from lb.service import ServiceKey
from lb.tcp import State

_INCLUDE = re.compile(r'#include "(\w+\.h)"')
_WIRE_FIELD = re.compile(r"^\t__be(?:16|32|64) (\w+)[;[]", re.MULTILINE)
_PROTOCOL_BITS = {6: 1, 17: 2}

_SIZES = ("REALS_MAX", "SERVICES_MAX", "SLOTS_MAX", "EVENTS_BYTES", "TICK_SHIFT", "EPOCHS", "ANSWERS_A_TICK")
_FRAGMENTS = ("DATAGRAMS_MAX", "EARLY_BYTES", "EARLIES_BYTES", "EARLY_A_TICK")

SEED_BYTES = 56

_LOW64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is compiled in.

    services: key and scheduler of each, by index. macs: of the interfaces. connections: entries of the table.
    timeouts_s: seconds by state. cache_set_bits: see `abi.cache_set_bits`; 0: no cache. cpus: how many have one.
    embryo_set_bits: see `abi.embryo_set_bits`. told: is there anybody to be told of events?
    tunnels: the IP versions of those that any real may have, also of those that left and still have connections.
    scheduling: what the schedulers need.
    options: what services want beyond scheduling. limits: who may not, and who not so often.
    virtual_mac: at which the virtual addresses are, if not at those of the interfaces.
    jumbo: frames may be in several buffers.
    """

    services: tuple[tuple[ServiceKey, str], ...]
    macs: tuple[bytes, ...]
    connections: int
    timeouts_s: tuple[tuple[State, float], ...]
    cache_set_bits: int
    cpus: int
    embryo_set_bits: int
    told: bool = True
    tunnels: frozenset[int] = frozenset()
    scheduling: Scheduling = field(default_factory=Scheduling)
    options: Options = field(default_factory=Options)
    limits: Limits = field(default_factory=Limits)
    virtual_mac: bytes = b""
    jumbo: bool = False

    @property
    def families(self) -> frozenset[int]:
        """The IP versions of its virtuals, {4} if it has none. There is nothing of others in the program."""
        return frozenset(key.address.version for key, _ in self.services) or frozenset({4})


def program_text(configuration: Configuration, pins: Path, seed: bytes, lasting_seed: bytes) -> str:
    """The whole text to compile.

    pins: the directory where its lasting maps are pinned. seed, lasting_seed: SEED_BYTES and EMBRYO_SEED_BYTES that
    nobody outside knows; the second one belongs to the lasting maps.
    """
    constants = *_constants(configuration, pins), *_cache(configuration, seed), *_embryos(configuration, lasting_seed)
    return "".join(f"{line}\n" for line in constants) + _spliced()


def probe_text(probes_max: int) -> str:
    """The whole text of bpf/probe.c to compile: the programs of checks by way of the virtual's address."""
    constants = f"#define PROBES_MAX {probes_max}\n#define ASKED_MAX {probes_max}\n"
    return f'{constants}#line 1 "bpf/probe.c"\n{_read("probe.c")}'


def schema(connections: int) -> str:
    """A hash of everything that the meaning of the pinned maps depends on: two programs share maps if it is equal."""
    sizes = (connections, abi.REALS_MAX, abi.SERVICES_MAX, abi.EVENTS_BYTES, abi.TICK_SHIFT, abi.EPOCHS)
    fragments = [getattr(abi, name) for name in _FRAGMENTS]
    flags = [list(abi.RealFlag), list(abi.ServiceFlag), list(State)]
    text = f"{_read('abi.h')}{_read('maps.h')}{sizes}{fragments}{flags}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def wire_fields() -> frozenset[str]:
    """The names of the fields in abi.h that are in wire order."""
    return frozenset(_WIRE_FIELD.findall(_read("abi.h")))


@cache
def _read(name: str) -> str:
    return resources.files("bpf").joinpath(name).read_text()


@cache
def _spliced() -> str:
    lines = ['#line 1 "bpf/lb.c"']
    for number, line in enumerate(_read("lb.c").splitlines(), start=1):
        if found := _INCLUDE.match(line):
            lines += [f'#line 1 "bpf/{found[1]}"', _read(found[1]), f'#line {number + 1} "bpf/lb.c"']
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _constants(configuration: Configuration, pins: Path) -> Iterator[str]:
    yield '#line 1 "configuration"'
    yield f'#define PINS "{pins}"'
    yield f"#define CONNECTIONS_MAX {configuration.connections}"
    for name in (*_SIZES, *_FRAGMENTS):
        yield f"#define {name} {getattr(abi, name)}"
    for name in ("DATAGRAM_WAITS", "DATAGRAM_PASSED", "DATAGRAM_DROPPED"):
        yield f"#define {name} {getattr(abi, name):#x}u"
    for flag in abi.RealFlag:
        yield f"#define REAL_{flag.name} {flag.value}"
    yield f"#define TELLING {int(configuration.told)}"
    for version in (4, 6):
        yield f"#define TUNNELS{version} {int(version in configuration.tunnels)}"
    yield "#define TUNNELS (TUNNELS4 || TUNNELS6)"
    yield f"#define FRAGMENT_TIMEOUT_T {abi.ticks(abi.FRAGMENT_TIMEOUT_S)}"
    yield f"#define SYNC_REFRESH_T {abi.ticks(abi.SYNC_REFRESH_S)}"
    yield _table("OUR_MACS", (np.frombuffer(mac, "<u2").tolist() for mac in configuration.macs))
    yield from _virtual_mac(configuration)
    yield f"#define REDIRECTS {int(len(configuration.macs) > 1)}"
    yield f"#define JUMBO {int(configuration.jumbo)}"
    yield from _states(configuration)
    for version in (4, 6):
        yield f"#define IPV{version}_SERVICES {int(version in configuration.families)}"
    yield from _services(configuration)
    yield from _scheduling(configuration.scheduling)
    yield from _options(configuration.options)
    yield from _limits(configuration.limits)


def _virtual_mac(configuration: Configuration) -> Iterator[str]:
    yield f"#define VIRTUAL_MAC {int(bool(configuration.virtual_mac))}"
    for name, mac in (("VIRTUAL_MAC", configuration.virtual_mac), ("OUR_MAC", configuration.macs[0])):
        for number, halfword in enumerate(np.frombuffer(mac, "<u2").tolist()):
            yield f"#define {name}_{number} {halfword}"


def _states(configuration: Configuration) -> Iterator[str]:
    yield f"#define STATE_SYN_RECV {State.SYN_RECV.value}"
    yield f"#define STATE_UDP {State.UDP.value}"
    yield f"#define STATE_TEMPLATE {State.TEMPLATE.value}"
    yield f"#define REUSABLE_STATES {sum(1 << state for state in tcp.REUSABLE):#x}u"
    yield f"#define SETTLED_STATES {sum(1 << state for state in tcp.SETTLED):#x}u"
    yield f"#define ACTIVE_STATES {sum(1 << state for state in tcp.ACTIVE):#x}u"
    for flag, row in tcp.TRANSITIONS.items():
        yield f"#define TCP_ON_{flag.name or 'NONE'} {tcp.packed(row):#x}ull"
    yield _table("TIMEOUTS", ((state.value, abi.ticks(s)) for state, s in configuration.timeouts_s))


def _cache(configuration: Configuration, seed: bytes) -> Iterator[str]:
    yield f"#define CACHE_CPUS {configuration.cpus}"
    yield f"#define CACHE_SET_BITS {configuration.cache_set_bits}"
    for number in range(SEED_BYTES // 8):
        yield f"#define CACHE_SEED_{number} {int.from_bytes(seed[8 * number : 8 * number + 8], 'little'):#x}ull"


def _embryos(configuration: Configuration, seed: bytes) -> Iterator[str]:
    yield f"#define EMBRYO_SET_BITS {configuration.embryo_set_bits}"
    yield f"#define EMBRYO_WAYS {abi.EMBRYO_WAYS}"
    yield f"#define MOMENT_SHIFT {abi.MOMENT_SHIFT}"
    for number, word in enumerate(abi.embryo_seed(seed)):
        yield f"#define EMBRYO_SEED_{number} {word:#x}ull"
    for number, factor in enumerate(abi.CHECK_FACTORS):
        yield f"#define CHECK_FACTOR_{number} {factor:#x}ull"


def _services(configuration: Configuration) -> Iterator[str]:
    used = {scheduler for _, scheduler in configuration.services}
    matched = [(place, key) for place, (key, _) in enumerate(configuration.services)] + [*configuration.options.also]
    protocols: dict[Address, int] = {}
    for _, key in matched:
        protocols[key.address] = protocols.get(key.address, 0) | _PROTOCOL_BITS[key.protocol]
    virtuals = {address: bits for address, bits in protocols.items() if address.version == 4}
    numbers = {address: n << 2 | bits for n, (address, bits) in enumerate(protocols.items()) if address not in virtuals}
    yield _table("VIRTUALS", ((f"{int(address):#x}u", bits) for address, bits in virtuals.items()))
    yield _table("VIRTUALS6", _by_low_half(numbers))
    names = {address: f"{int(address):#x}u" for address in virtuals} | {a: f"{n}u" for a, n in numbers.items()}
    for name, known in (("SERVICES", virtuals), ("SERVICES6", numbers)):
        yield _table(
            name,
            ((index, names[key.address], key.port, key.protocol) for index, key in matched if key.address in known),
        )
    yield _table("SCHEDULERS_USED", ((name, n) for n, name in enumerate(SCHEDULERS) if name in used))
    yield f"#define ANY_PORT_SERVICES {int(any(key.port == 0 for _, key in matched))}"


def _by_low_half(numbers: dict[Address, int]) -> Iterator[tuple[str, str]]:
    """Each low half of an address once, and which number its address has by the high half: a C expression."""
    choices: dict[int, str] = {}
    for address, number in numbers.items():
        high, low = abi.words(address)
        choices[low] = f"high == be64({high:#x}ull) ? {number}u : {choices.get(low, '0')}"
    return ((f"{low:#x}ull", choice) for low, choice in choices.items())


def _scheduling(scheduling: Scheduling) -> Iterator[str]:
    yield f"#define COUNTING {int(scheduling.counts)}"
    yield f"#define THRESHOLDS {int(scheduling.limits)}"
    yield f"#define TRIES {TRIES if scheduling.limits else 1}"
    yield f"#define LIST_MAX {scheduling.longest}"
    yield f"#define LISTS_MAX {2 * max(1, scheduling.lists)}"
    yield f"#define LOCALITIES_MAX {abi.LOCALITIES_MAX if scheduling.remembers else 1}"
    yield f"#define LOCALITY_T {abi.ticks(LOCALITY_S)}"
    for flag in abi.ServiceFlag:
        yield f"#define SERVICE_{flag.name} {flag.value}"


def _options(options: Options) -> Iterator[str]:
    yield f"#define PERSISTENCE {int(bool(options.persistent))}"
    yield from _persistent(options.persistent)
    yield _table("EXPIRING_QUIESCENT", ((service,) for service in options.expiring_quiescent))
    yield f"#define LEAVING {int(options.leaving)}"
    yield f"#define REPEATS {int(options.repeats)}"
    yield _table("EXPIRING_NODEST", ((service,) for service in options.expiring_nodest))
    yield _table("ONE_PACKET", ((service,) for service in options.one_packet))


def _persistent(persistent: Sequence[Persistence]) -> Iterator[str]:
    rows: dict[int, list[tuple[object, ...]]] = {4: [], 6: []}
    for service, mask, key in persistent:
        number, version = int(key.address), key.address.version
        parts = (mask, number) if version == 4 else (mask >> 64, mask & _LOW64, number >> 64, number & _LOW64)
        suffix = "u" if version == 4 else "ull"
        rows[version].append((service, key.protocol, key.port, *(f"{part:#x}{suffix}" for part in parts)))
    yield _table("PERSISTENT", rows[4])
    yield _table("PERSISTENT6", rows[6])


def _limits(limits: Limits) -> Iterator[str]:
    yield f"#define DENYING {int(bool(limits.deny))}"
    yield f"#define DENIED_MAX {max(1, sum(len(deny.prefixes) for deny in limits.deny))}"
    yield f"#define DENY_LISTS_MAX {abi.DENY_LISTS_MAX if limits.deny else 1}"
    yield f"#define LIMITING {int(bool(limits.burst))}"
    yield f"#define CLIENTS_MAX {abi.CLIENTS_MAX if limits.burst else 1}"
    yield f"#define INTERVAL_NS {limits.interval_ns}ull"
    yield f"#define BURST_NS {limits.interval_ns * limits.burst}ull"


def _table(name: str, rows: Iterable[tuple[object, ...]]) -> str:
    """An X macro: a list that bpf/*.h goes through with a macro of its own."""
    return " ".join([f"#define {name}(_)", *(f"_({', '.join(map(str, row))})" for row in rows)])
