"""The one exit: each outcome is a named counter and a verdict (bpf/stats.h, and OUTCOMES in bpf/abi.h). Pure."""

from __future__ import annotations

from enum import Enum, IntEnum


class Verdict(IntEnum):
    """The kernel's XDP actions, by their numbers."""

    DROP = 1
    PASS = 2
    TX = 3
    REDIRECT = 4


class Undecided(Enum):
    """What a frame may be before it is known how it leaves."""

    FOR_KERNEL = "the kernel's, if we may speak for the virtual address"


class Outcome(Enum):
    """How a packet leaves. The value is its counter's name; FOREIGN alone has none."""

    FOREIGN = "foreign"
    TX = "tx_packets"
    PASSED = "passed"
    REDIRECTED = "redirected"
    REFERRED = "referred"
    TOO_BIG = "too_big"
    UNREACHABLE = "unreachable"
    SET_ASIDE = "set_aside"
    NO_REAL = "drop_no_real"
    NO_NEIGHBOUR = "drop_no_neighbour"
    FRAGMENT = "drop_fragment"
    MALFORMED = "drop_malformed"
    NO_LEASE = "drop_no_lease"
    TABLE_FULL = "drop_table_full"
    DROP_TOO_BIG = "drop_too_big"
    NO_HEADROOM = "drop_no_headroom"
    REAL_GONE = "drop_real_gone"
    DENIED = "drop_denied"
    TOO_FAST = "drop_too_fast"
    ARP_NO_LEASE = "arp_no_lease"
    ND_NO_LEASE = "nd_no_lease"

    @property
    def verdict(self) -> Verdict:
        """What the kernel is told to do with it."""
        if self in (Outcome.TX, Outcome.REFERRED, Outcome.TOO_BIG, Outcome.UNREACHABLE):
            return Verdict.TX
        if self is Outcome.REDIRECTED:
            return Verdict.REDIRECT
        return Verdict.PASS if self in (Outcome.FOREIGN, Outcome.PASSED) else Verdict.DROP
