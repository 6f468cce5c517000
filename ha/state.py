"""What one director knows, hears and does about roles: the values that `ha.role` computes with. Pure.

The phases, of which users see three roles:

    init     finding out: not in sync yet, or nobody was heard          role init
    standby  in sync with the active director, ready to take over      role standby
    taking   the address is being added and announced                  role standby
    active   holds the address                                         role active
    handing  active, and has told an heir to take over                 role active
    left     has said goodbye                                          role init
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal


class Phase(StrEnum):
    """Where in its life a director is; the module's head says what each means."""

    INIT = "init"
    STANDBY = "standby"
    TAKING = "taking"
    ACTIVE = "active"
    HANDING = "handing"
    LEFT = "left"


Role = Literal["init", "standby", "active"]

ROLES: Final[Mapping[Phase, Role]] = {
    Phase.INIT: "init",
    Phase.STANDBY: "standby",
    Phase.TAKING: "standby",
    Phase.ACTIVE: "active",
    Phase.HANDING: "active",
    Phase.LEFT: "init",
}

SERVING: Final = (Phase.ACTIVE, Phase.HANDING)

HANDOVER_S: Final = 5.0
"""How long a handover may take before it has failed, and so may adding the address."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the file says. nodes: all names, in its order; me among them."""

    me: str
    nodes: tuple[str, ...]
    keepalive_s: float
    deadtime_s: float
    initdead_s: float
    preferred: str | None = None
    auto_failback: bool = False

    @property
    def peers(self) -> tuple[str, ...]:
        """The other nodes."""
        return tuple(name for name in self.nodes if name != self.me)


@dataclass(frozen=True, slots=True)
class Report:
    """What a node says of itself in every heartbeat.

    claimed_ns: wall clock of becoming active, 0 unless serving. replaced_ns: the claim that it took over from.
    heir: to whom it hands over. wants: it asks to be handed over to. synced: it holds the active's connections.
    fit: as far as it knows it could add the address, on an interface with a carrier. witnesses: how many ping nodes it
    reaches.
    """

    phase: Phase
    claimed_ns: int = 0
    replaced_ns: int = 0
    heir: str = ""
    wants: bool = False
    synced: bool = False
    fit: bool = True
    witnesses: int = 0


ABSENT: Final = Report(Phase.INIT, fit=False)
"""Of a node that says nothing of a group of addresses: its file has none of them yet, or not any more."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What we know of another node. Once `alive` is False the rest is its last known.

    hears_me: it says that it hears us; deaf_since_s: since when it does not, though we hear it.
    void: it slept while we became active, so its present claim counts for nothing.
    """

    report: Report
    alive: bool = True
    hears_me: bool = True
    voids_me: bool = False
    void: bool = False
    deaf_since_s: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """One node's view. Times are monotonic seconds; None where it is not so.

    claimed_ns, replaced_ns: see Report. claimed_s: the moment of the claim on our own clock.
    heard_claim_ns: the claim of the active peer heard last.
    holding: the address may be on our interface (at first also from an earlier process).
    resigned: a command moved the address away from us.
    rivals: the other actives, when we last announced the address or left that to them.
    started_s: our start; our own stalls move it on. entered_s: when the phase began.
    settled_s: since when every peer was heard once, or initdead is over.
    open_s: from when the first in rank may fill the vacancy, as no peer serves.
    outweighed_s: since when an able peer sees more witnesses than we do.
    ready_s: since when nothing speaks against our taking over.
    asked_s: when we asked to be handed over to.
    rest_s: before it nothing moves by itself.
    unfit_s: until then we leave the address to others, as we could not add it, or were without a carrier.
    impaired_s: since when the service interface is down or has no carrier.
    unheard: not everybody may know that we are active: our carrier was lost and is back, or a peer has returned.
    contested: who else answers for it, of whom we hear no heartbeats; empty: nobody.
    """

    settings: Settings
    started_s: float
    entered_s: float
    phase: Phase = Phase.INIT
    claimed_ns: int = 0
    claimed_s: float = 0.0
    replaced_ns: int = 0
    heard_claim_ns: int = 0
    heir: str = ""
    holding: bool = True
    resigned: bool = False
    peers: Mapping[str, Peer] = field(default_factory=dict)
    synced_with: frozenset[str] = frozenset()
    rivals: frozenset[str] = frozenset()
    witnesses: int = 0
    settled_s: float | None = None
    open_s: float | None = None
    outweighed_s: float | None = None
    ready_s: float | None = None
    asked_s: float | None = None
    rest_s: float = 0.0
    unfit_s: float | None = None
    impaired_s: float | None = None
    unheard: bool = False
    contested: str = ""

    @classmethod
    def initial(cls, settings: Settings, now_s: float) -> State:
        """A node that has just started."""
        return cls(settings, started_s=now_s, entered_s=now_s, open_s=now_s)

    @property
    def role(self) -> Role:
        """What users are told."""
        return ROLES[self.phase]

    @property
    def serving(self) -> Mapping[str, Peer]:
        """Living peers that say they are active, by name."""
        return {name: p for name, p in self.peers.items() if p.alive and p.report.phase in SERVING}

    @property
    def fit(self) -> bool:
        """Could we serve, as far as we know?"""
        return self.unfit_s is None and self.impaired_s is None

    @property
    def synced(self) -> bool:
        """Do we hold the connections of a living active peer?"""
        return any(name in self.synced_with for name in self.serving)

    @property
    def report(self) -> Report:
        """What our heartbeats say."""
        return Report(
            self.phase, self.claimed_ns, self.replaced_ns, self.heir, self.asked_s is not None, self.synced,
            self.fit, self.witnesses,
        )  # fmt: skip

    @property
    def voided(self) -> frozenset[str]:
        """The peers whose present claim we do not honour."""
        return frozenset(name for name, peer in self.peers.items() if peer.void)

    def able(self, name: str) -> bool:
        """Could we hand over to it?"""
        peer = self.peers.get(name)
        return peer is not None and not self.unable(name)

    def unable(self, name: str) -> str:
        """Why we cannot hand over to it; empty if we can."""
        peer = self.peers.get(name)
        if peer is None or not peer.alive:
            return "is not heard"
        if not peer.hears_me:
            return "does not hear us"
        if not peer.report.fit:
            return "could not add the address, or has no carrier"
        if peer.report.phase is not Phase.STANDBY:
            return f"is {peer.report.phase}, not standby"
        return "" if peer.report.synced else "is not in sync"

    @property
    def ables(self) -> tuple[str, ...]:
        """Whom we could hand over to, the best first."""
        names = [name for name in self.settings.peers if self.able(name)]
        return tuple(sorted(names, key=lambda name: (-self.peers[name].report.witnesses, self._place(name))))

    @property
    def rank(self) -> int:
        """How many living peers come before us in filling a vacancy."""
        mine = self._merit(self.settings.me, self.report)
        living = ((name, p.report) for name, p in self.peers.items() if p.alive and p.report.phase in _MERIT)
        return sum(self._merit(name, report) < mine for name, report in living)

    def _merit(self, name: str, report: Report) -> tuple[bool, int, bool, int]:
        return (not report.fit, _MERIT[report.phase], name != self.settings.preferred, self._place(name))

    def _place(self, name: str) -> int:
        return self.settings.nodes.index(name)

    @property
    def others(self) -> frozenset[str]:
        """Peers that serve while we do, and are not just handing over to us."""
        return frozenset(
            name
            for name, peer in self.serving.items()
            if not (peer.report.phase is Phase.HANDING and peer.report.heir == self.settings.me)
        )

    @property
    def mutual(self) -> frozenset[str]:
        """Those of `others` that hear us as we hear them."""
        return frozenset(name for name in self.others if self.peers[name].hears_me)

    def outclaims(self, name: str) -> bool:
        """Is its claim to be active better than ours? Only for a serving peer while we serve."""
        peer = self.peers[name]
        if peer.voids_me or peer.void:
            return peer.voids_me
        theirs = peer.report
        if theirs.fit != self.fit:
            return theirs.fit
        if (theirs.replaced_ns == self.claimed_ns) != (self.replaced_ns == theirs.claimed_ns):
            return self.replaced_ns == theirs.claimed_ns
        return (theirs.claimed_ns, self._place(name)) < (self.claimed_ns, self._place(self.settings.me))


_MERIT: Final = {Phase.TAKING: 0, Phase.STANDBY: 1, Phase.INIT: 2}


# ------------------------------------------------------------------------------------------------------- events

Cause = Literal["silent", "crashed", "restarted", "left"]


@dataclass(frozen=True, slots=True)
class Heard:
    """A heartbeat that proves life. slept_s: for how long the sender was frozen since its last one.

    group: of virtual addresses that the report, and voids_me, are about; see `ha.member`.
    """

    peer: str
    report: Report
    hears_me: bool = True
    voids_me: bool = False
    slept_s: float = 0.0
    group: str = ""


@dataclass(frozen=True, slots=True)
class Lost:
    """A peer is gone: silent for deadtime, its process crashed or was restarted, or it said goodbye."""

    peer: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class Synced:
    """The peers whose connections we hold completely, as of now."""

    peers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Witnessed:
    """How many ping nodes answer."""

    count: int


@dataclass(frozen=True, slots=True)
class Contested:
    """Who answers for the address although no peer is heard to serve, in words; empty: nobody."""

    holder: str


@dataclass(frozen=True, slots=True)
class Impaired:
    """Is the service interface down, or without a carrier?"""

    impaired: bool


@dataclass(frozen=True, slots=True)
class Stalled:
    """We were frozen for so long ourselves."""

    slept_s: float


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The address is up and announced. wall_ns: what the clock on the wall says."""

    wall_ns: int


@dataclass(frozen=True, slots=True)
class TakeFailed:
    """The address could not be added, and is not there."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """`lbctl standby`."""


@dataclass(frozen=True, slots=True)
class Ask:
    """`lbctl takeover`."""


@dataclass(frozen=True, slots=True)
class Leave:
    """`lbctl down`: say goodbye."""


Fact = Heard | Lost | Synced | Witnessed | Contested | Impaired | Stalled | Tick
Event = Fact | Taken | TakeFailed | GiveUp | Ask | Leave
FACTS: Final = (Heard, Lost, Synced, Witnessed, Contested, Impaired, Stalled, Tick)


# ------------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True)
class Take:
    """Add and announce the address; then say Taken or TakeFailed."""


@dataclass(frozen=True, slots=True)
class Release:
    """Remove the address."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Announce the address again."""


@dataclass(frozen=True, slots=True)
class Hush:
    """Leave out what is still to come of an announcement."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A handover, in whichever direction, came to an end; error: why it failed, empty if it did not."""

    error: str = ""


Action = Take | Release | Announce | Hush | Finished
