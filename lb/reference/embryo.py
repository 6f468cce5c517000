"""Half-open connections: those of which one packet came, until the next one makes them whole (bpf/embryo.h). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lb import abi, tcp
from lb.tcp import State

if TYPE_CHECKING:
    from lb.reference.maps import ConnectionKey, RealKey

_LOW32, _LOW64 = (1 << 32) - 1, (1 << 64) - 1
_TICK = abi.TICK_SHIFT - abi.MOMENT_SHIFT


@dataclass(slots=True)
class Embryo:
    """One entry. seen_m: moments, not cut to 32 bits.

    gone: it grew up, or ran out and was swept; it stays in its place until another is put there.
    """

    key: ConnectionKey
    real: RealKey
    state: State
    seen_m: int
    gone: bool = False

    @property
    def last_seen_t(self) -> int:
        """In ticks."""
        return self.seen_m >> _TICK


@dataclass
class Embryos:
    """The tables of both families. seed: the program's; set_bits: log2 of the sets that each table has."""

    seed: tuple[int, ...] = (0,) * (abi.EMBRYO_SEED_BYTES // 8)
    set_bits: int = 0
    sets: dict[tuple[bool, int], list[Embryo | None]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Embryo]:
        """Those that are there."""
        return iter([one for ways in self.sets.values() for one in ways if one is not None and not one.gone])

    def find(self, key: ConnectionKey) -> Embryo | None:
        """The one of this key."""
        return next((one for one in self._ways(key) if one is not None and one.key == key and not one.gone), None)

    def put(self, fresh: Embryo) -> Embryo | None:
        """In the place of one of its key, else in a free one, else in the oldest one's. Returns who had to go."""
        ways = self._ways(fresh.key)

        def fitness(place: int) -> tuple[bool, bool, int, int]:
            held = ways[place]
            if held is None or held.gone:
                return False, True, 0, -place
            return held.key == fresh.key, False, fresh.seen_m - held.seen_m, -place

        place = max(range(len(ways)), key=fitness)
        before, ways[place] = ways[place], fresh
        return None if before is None or before.gone else before

    def forget(self, ipv6: bool, ipv4: bool) -> None:
        """All of these families."""
        self.sets = {place: ways for place, ways in self.sets.items() if not (ipv6 if place[0] else ipv4)}

    def _ways(self, key: ConnectionKey) -> list[Embryo | None]:
        return self.sets.setdefault((key.is_ipv6, self.set_of(key)), [None] * abi.EMBRYO_WAYS)

    def set_of(self, key: ConnectionKey) -> int:
        """Pair-multiply-shift, as in bpf/cache.h, of the key's words."""
        data, seeds = key.packed, iter(self.seed)
        words = (int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8))
        total = sum((next(seeds) + (word & _LOW32)) * (next(seeds) + (word >> 32)) for word in words)
        return (total & _LOW64) >> (64 - self.set_bits)


def grows_up(embryo: Embryo, flags: int) -> bool:
    """Is it whole now? A second datagram does, and a segment that changes the state: an ACK above all."""
    return embryo.state is not State.SYN_RECV or tcp.next_state(embryo.state, flags) is not embryo.state
