"""What a director knows of a TCP connection when it sees the client's side only, as with direct routing.

The table is IPVS's INPUT-ONLY one and the timeouts are its defaults (SEED_TABLES 5.4). Written once, here: the packet
program gets each row packed in a 64-bit constant, and the sweeper gets the timeouts.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag


class State(IntEnum):
    """Of one entry of the connection table. TCP's have IPVS's numbers; UDP has one of its own, and so has a template,
    which is no connection: it says to which real a client belongs (lb.reference.persist)."""

    NONE = 0
    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT = 4
    TIME_WAIT = 5
    CLOSE = 6
    CLOSE_WAIT = 7
    LAST_ACK = 8
    LISTEN = 9
    SYNACK = 10
    UDP = 11
    TEMPLATE = 12


class Flag(IntFlag):
    """The flags of a segment that matter. RFC 9293 section 3.1."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    ACK = 0x10


ACTIVE = frozenset({State.ESTABLISHED, State.SYN_SENT, State.SYN_RECV, State.SYNACK})
"""The states that count as active connections; all others are inactive."""

REUSABLE = frozenset({State.FIN_WAIT, State.TIME_WAIT, State.CLOSE})
"""A SYN to a connection in one of these opens a new one (IPVS with conn_reuse_mode 3)."""

TIMEOUTS_S: dict[State, float] = {
    State.NONE: 2,
    State.ESTABLISHED: 900,
    State.SYN_SENT: 120,
    State.SYN_RECV: 60,
    State.FIN_WAIT: 120,
    State.TIME_WAIT: 120,
    State.CLOSE: 10,
    State.CLOSE_WAIT: 60,
    State.LAST_ACK: 30,
    State.LISTEN: 120,
    State.SYNACK: 120,
    State.UDP: 300,
}
"""Seconds without a packet after which a connection is forgotten. A template's time is its service's `persistent`."""

_SHORT = dict(zip(("NO", "ES", "SS", "SR", "FW", "TW", "CL", "CW", "LA", "LI", "SA"), State, strict=False))


def _row(text: str) -> tuple[State, ...]:
    return tuple(_SHORT[word] for word in text.split())


TRANSITIONS: dict[Flag, tuple[State, ...]] = {
    #             NO ES SS SR FW TW CL CW LA LI SA
    Flag.RST: _row("CL CL CL SR CL CL CL CL LA LI CL"),
    Flag.SYN: _row("SR ES ES SR SR SR SR SR SR SR SR"),
    Flag.FIN: _row("CL FW SS TW FW TW CL CW LA LI TW"),
    Flag.ACK: _row("ES ES SS ES FW TW CL CW CL LI ES"),
    Flag(0): _row("CL CL CL CL CL CL CL CL CL CL CL"),
}
"""Next state by the segment's event and the current state. Order matters: a segment counts as the first row it has the
flag of; the last row is for segments with none of the four."""


SETTLED = frozenset(state for state in _SHORT.values() if TRANSITIONS[Flag.ACK][state] == state) | {State.UDP}
"""The states that a bare ACK leaves as they are, and UDP's, which nothing changes."""


def event(flags: int) -> Flag:
    """Which row of TRANSITIONS a segment with these flags goes by."""
    return next(flag for flag in TRANSITIONS if flags & flag == flag)


def next_state(state: State, flags: int) -> State:
    """Where a TCP connection in `state` goes when the client sends a segment with `flags`."""
    return TRANSITIONS[event(flags)][state]


def opens(flags: int) -> bool:
    """May a segment without a connection be scheduled?"""
    return bool(flags & Flag.SYN) and not flags & Flag.RST


def packed(row: tuple[State, ...]) -> int:
    """A row as one number: the next state of state s in the four bits from bit 4s."""
    return sum(state << (4 * position) for position, state in enumerate(row))
