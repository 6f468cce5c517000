"""Who is active: one director's role as a table over what it knows of the others. Pure; time is an argument.

`TABLE` holds every change. Its rows are tried in order after the event's facts were written down, and the first whose
condition holds is taken; `docs/failover.md` prints it. What it promises:

* Make before break: nobody says active before its address is up, and who hands over releases only when it hears
  that the heir is active. Until then the two are no conflict. If the heir fails or stays silent, nothing has moved.
* Two actives that hear each other: both compare the same two immutable claims, so exactly one stays: the one that
  is longer in service. A claim says when it began and which claim it took over from: who was taken over from is the
  older, whatever the clocks say; else the earlier by the clock on the wall, then the first in the file. A stall renews
  the claim ("in service" means uninterrupted), and a peer that was seen to have slept (its count of waking time lags
  behind ours) is told that its claim is void. So whoever was frozen yields to whoever replaced it, and after a
  partition the one longer in service stays. The winner announces again, when it sees the rival and when that is gone.
* An active that hears another which has been deaf to it for deadtime is the only one that can resolve it: it yields,
  unless it sees more witnesses (then the other one's receiver is broken).
* A vacancy is filled in one order: taking, standby, init; able before unable; preferred; place in the file.
  The first acts at once when an active was lost, else after two keepalives; each further one waits deadtime more.
* A node in init claims nothing that somebody else answers for, whose heartbeats it cannot hear or believe.
* What an operator moved by hand stays there: auto_failback takes nothing back that was given up by a command.
* A director whose interface loses its carrier hands over at once, if it reaches an able one by another link. If it does
  not, it counts as unfit for a moment when the carrier is back, so that it yields to whoever took over meanwhile.
* Nothing moves for equal witnesses, and a handover that failed is not tried again before initdead (by command it is).

Source: SEED_TABLES 3.4, 3.5, 3.8 and 3.9 describe what heartbeat and ipfail did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, get_args

from ha import conditions
from ha.state import (
    FACTS,
    HANDOVER_S,
    SERVING,
    Action,
    Announce,
    Ask,
    Contested,
    Event,
    Finished,
    GiveUp,
    Heard,
    Hush,
    Impaired,
    Leave,
    Lost,
    Peer,
    Phase,
    Release,
    Stalled,
    State,
    Synced,
    Take,
    TakeFailed,
    Taken,
    Witnessed,
)  # fmt: skip
from lb.errors import FailoverError

RETRY_S: Final = 1.0
"""How long a node that could not add the address leaves it to others."""


class IllegalTransition(FailoverError):  # noqa: N818
    """The event has no row for this phase. Nothing has changed."""


class Refused(FailoverError):  # noqa: N818
    """A command cannot be carried out now; the message says why. Nothing has changed."""


def step(state: State, event: Event, now_s: float) -> tuple[State, tuple[Action, ...]]:
    """Advance by one event; no I/O.

    now_s: monotonic seconds. Returns the new state and the actions to carry out, in order. Raises IllegalTransition
    or, for a command, Refused; `state` is a value and stays as it was.
    """
    legal = _LEGAL[state.phase, type(event)]
    if not legal and not isinstance(event, FACTS):
        raise IllegalTransition(f"{type(event).__name__} is not possible while {state.phase}")
    state = _watch(_absorb(state, event, now_s), now_s)
    for row in legal:
        if row.when(state, now_s):
            return _follow(row, state, event, now_s)
    if isinstance(event, GiveUp | Ask):
        raise Refused(_why_not(state))
    return state, ()


# ------------------------------------------------------------------------------------------- taking facts down


def _absorb(state: State, event: Event, now_s: float) -> State:
    match event:
        case Heard(report=report):
            before = state.peers.get(event.peer)
            returned = state.phase in SERVING and not (before and before.alive)
            serves = report.phase in SERVING
            return replace(
                state,
                peers={**state.peers, event.peer: _heard(state, event, now_s)},
                unheard=state.unheard or returned,
                heard_claim_ns=report.claimed_ns if serves else state.heard_claim_ns,
                contested="" if serves else state.contested,
            )
        case Lost(peer=name) if name in state.peers:
            was_serving = name in state.serving
            gone = replace(state.peers[name], alive=False, voids_me=False, void=False, deaf_since_s=None)
            state = replace(state, peers={**state.peers, name: gone})
            return replace(state, open_s=now_s) if was_serving else state
        case Synced(peers=names):
            return replace(state, synced_with=names)
        case Witnessed(count=count):
            return replace(state, witnesses=count)
        case Contested(holder=holder):
            return replace(state, contested=holder if state.phase is Phase.INIT and not state.serving else "")
        case Impaired(impaired=True):
            return replace(state, impaired_s=now_s if state.impaired_s is None else state.impaired_s)
        case Impaired() if state.impaired_s is not None:
            return _recover(state, now_s - state.impaired_s, now_s)
        case Stalled() if state.phase in SERVING and event.slept_s >= state.settings.deadtime_s / 2:
            return _interrupt(state, now_s)
        case Stalled():
            return replace(state, started_s=state.started_s + event.slept_s)
    return state


def _interrupt(state: State, now_s: float) -> State:
    """The claim begins anew."""
    interrupted_ns = state.claimed_ns + int((now_s - state.claimed_s) * 1e9)
    return replace(state, claimed_ns=interrupted_ns, claimed_s=now_s)


def _recover(state: State, impaired_for_s: float, now_s: float) -> State:
    """There is a carrier again. Whoever took over in so long a time is not known yet."""
    s, holds = state.settings, state.phase is Phase.TAKING or state.phase in SERVING
    state = replace(state, impaired_s=None, unheard=holds)
    if state.phase not in SERVING or impaired_for_s < s.deadtime_s / 2:
        return state
    return replace(_interrupt(state, now_s), unfit_s=now_s + s.deadtime_s + 2 * s.keepalive_s)


def _heard(state: State, event: Heard, now_s: float) -> Peer:
    before = state.peers.get(event.peer)
    known = before is not None and before.alive
    rivals = state.phase in SERVING and event.report.phase in SERVING
    slept = rivals and event.slept_s > state.settings.deadtime_s / 2
    same_claim = before is not None and before.report.claimed_ns == event.report.claimed_ns
    deaf_since_s = before.deaf_since_s if before and known and before.deaf_since_s is not None else now_s
    return Peer(
        event.report,
        hears_me=event.hears_me,
        voids_me=event.voids_me,
        void=slept or bool(before and before.void and same_claim),
        deaf_since_s=None if event.hears_me else deaf_since_s,
    )


def _watch(state: State, now_s: float) -> State:
    """Since when is what the conditions ask for so?"""

    def since(before_s: float | None, holds: bool) -> float | None:
        return (now_s if before_s is None else before_s) if holds else None

    s = state.settings
    settled = state.settled_s is not None or now_s >= state.started_s + s.initdead_s
    outweighed = any(state.peers[name].report.witnesses > state.witnesses for name in state.ables)
    open_s = since(state.open_s, not state.serving)
    if state.open_s is None and open_s is not None:
        open_s += 2 * s.keepalive_s
    seen: dict[str, Any] = {
        "settled_s": since(state.settled_s, settled or all(name in state.peers for name in s.peers)),
        "open_s": open_s,
        "outweighed_s": since(state.outweighed_s, outweighed),
        "ready_s": since(state.ready_s, _ready(state)),
        "unfit_s": None if state.unfit_s is None or now_s >= state.unfit_s else state.unfit_s,
    }
    changed = {name: value for name, value in seen.items() if value != getattr(state, name)}
    return replace(state, **changed) if changed else state


def _ready(state: State) -> bool:
    if not state.fit:
        return False
    served = [peer for name, peer in state.serving.items() if name in state.synced_with and peer.hears_me]
    return any(peer.report.witnesses <= state.witnesses for peer in served)


# ------------------------------------------------------------------------------------------------------ effects

Effect = Callable[[State, Event, float], tuple[State, Action | None]]


def _take(state: State, event: Event, now_s: float) -> tuple[State, Action | None]:  # noqa: ARG001
    """add and announce the address"""
    return replace(state, holding=True), Take()


def _release(state: State, event: Event, now_s: float) -> tuple[State, Action | None]:  # noqa: ARG001
    """remove the address"""
    return replace(state, holding=False), Release()


def _announce(state: State, event: Event, now_s: float) -> tuple[State, Action | None]:  # noqa: ARG001
    """announce the address again"""
    return replace(state, rivals=state.others, unheard=False), Announce()


def _defer(state: State, event: Event, now_s: float) -> tuple[State, Action | None]:  # noqa: ARG001
    """say nothing of the address for now"""
    return replace(state, rivals=state.others), Hush()


def _defer_if_silent(state: State, event: Event, now_s: float) -> tuple[State, Action | None]:
    """if a peer fell silent, say nothing of the address for now: it may have taken over"""
    assert isinstance(event, Lost)
    return _defer(state, event, now_s) if event.cause == "silent" else (state, None)


def _claim(state: State, event: Event, now_s: float) -> tuple[State, Action | None]:
    """begin a claim"""
    assert isinstance(event, Taken)
    asked = state.asked_s is not None
    state = replace(state, claimed_ns=event.wall_ns, claimed_s=now_s, replaced_ns=state.heard_claim_ns, asked_s=None)
    return state, Finished() if asked else None


def _unfit(state: State, event: Event, now_s: float) -> tuple[State, Action | None]:  # noqa: ARG001
    """leave the address to others for a second"""
    error = "the address could not be added; the log says why" if state.asked_s is not None else ""
    state = replace(state, unfit_s=now_s + RETRY_S, holding=False, asked_s=None)
    return state, Finished(error) if error else None


def _ask(state: State, event: Event, now_s: float) -> tuple[State, Action | None]:  # noqa: ARG001
    """ask to be handed over to"""
    return replace(state, asked_s=now_s), None


def _give_up_asking(state: State, event: Event, now_s: float) -> tuple[State, Action | None]:  # noqa: ARG001
    """stop asking, rest for initdead"""
    names = ", ".join(state.serving) or "no peer that is active"
    error = f"{names} did not hand over within {HANDOVER_S:g} s; its log says why"
    return replace(state, asked_s=None, rest_s=_rest(state, now_s)), Finished(error)


def _resign(state: State, event: Event, now_s: float) -> tuple[State, Action | None]:  # noqa: ARG001
    """do not fail back by itself"""
    return replace(state, resigned=True), None


def _choose_heir(state: State, event: Event, now_s: float) -> tuple[State, Action | None]:  # noqa: ARG001
    """tell the heir to take over"""
    asking = [name for name in state.ables if state.peers[name].report.wants]
    return replace(state, heir=(asking or state.ables)[0]), None


def _finish(state: State, event: Event, now_s: float) -> tuple[State, Action | None]:  # noqa: ARG001
    """the handover has come to its end"""
    return state, Finished()


def _fail(state: State, event: Event, now_s: float) -> tuple[State, Action | None]:  # noqa: ARG001
    """the handover has failed; rest for initdead"""
    why = state.unable(state.heir) or f"did not take over within {HANDOVER_S:g} s"
    return replace(state, rest_s=_rest(state, now_s)), Finished(f"{state.heir} {why}")


def _rest(state: State, now_s: float) -> float:
    return now_s + max(state.settings.initdead_s, HANDOVER_S)


# -------------------------------------------------------------------------------------------------------- table


@dataclass(frozen=True, slots=True)
class Row:
    """In `phase`, on one of the events `on`, if `when` holds: do `do` in order, and be in phase `to`.

    The docstrings of `when` and `do` are the words of the printed table.
    """

    phase: Phase
    on: tuple[type[Event], ...]
    when: Callable[[State, float], bool]
    to: Phase
    do: tuple[Effect, ...] = ()


INIT, STANDBY, TAKING, ACTIVE, HANDING, LEFT = Phase

TABLE: Final = (
    Row(INIT, FACTS, conditions.dangling, INIT, (_release,)),
    Row(INIT, FACTS, conditions.joined, STANDBY),
    Row(INIT, FACTS, conditions.my_turn, TAKING, (_take,)),
    Row(INIT, (Leave,), conditions.always, LEFT, (_release,)),
    #
    Row(STANDBY, FACTS, conditions.is_heir, TAKING, (_take,)),
    Row(STANDBY, FACTS, conditions.my_turn, TAKING, (_take,)),
    Row(STANDBY, FACTS, conditions.ask_expired, STANDBY, (_give_up_asking,)),
    Row(STANDBY, FACTS, conditions.failback_due, STANDBY, (_ask,)),
    Row(STANDBY, (Ask,), conditions.can_ask, STANDBY, (_ask,)),
    Row(STANDBY, (Leave,), conditions.always, LEFT, (_release,)),
    #
    Row(TAKING, (Taken,), conditions.always, ACTIVE, (_claim,)),
    Row(TAKING, (TakeFailed,), conditions.always, INIT, (_unfit,)),
    Row(TAKING, (Leave,), conditions.always, LEFT, (_release,)),
    #
    Row(ACTIVE, FACTS, conditions.yields, INIT, (_release,)),
    Row(ACTIVE, FACTS, conditions.deferring, ACTIVE, (_defer,)),
    Row(ACTIVE, FACTS, conditions.rivals_changed, ACTIVE, (_announce,)),
    Row(ACTIVE, FACTS, conditions.unheard, ACTIVE, (_announce,)),
    Row(ACTIVE, FACTS, conditions.cut_off, HANDING, (_choose_heir,)),
    Row(ACTIVE, FACTS, conditions.asked, HANDING, (_choose_heir, _resign)),
    Row(ACTIVE, FACTS, conditions.outweighed, HANDING, (_choose_heir,)),
    Row(ACTIVE, (Lost,), conditions.always, ACTIVE, (_defer_if_silent,)),
    Row(ACTIVE, (GiveUp,), conditions.has_able, HANDING, (_choose_heir, _resign)),
    Row(ACTIVE, (Leave,), conditions.always, LEFT, (_release,)),
    #
    Row(HANDING, FACTS, conditions.heir_serves, STANDBY, (_release, _finish)),
    Row(HANDING, FACTS, conditions.yields, INIT, (_fail, _release)),
    Row(HANDING, FACTS, conditions.heir_failed, ACTIVE, (_fail, _announce)),
    Row(HANDING, (Leave,), conditions.always, LEFT, (_fail, _release)),
    #
    Row(LEFT, (Taken, TakeFailed), conditions.always, LEFT),
)

_LEGAL: Final = {
    (phase, kind): [row for row in TABLE if row.phase is phase and kind in row.on]
    for phase in Phase
    for kind in get_args(Event)
}


def _follow(row: Row, state: State, event: Event, now_s: float) -> tuple[State, tuple[Action, ...]]:
    actions = []
    for effect in row.do:
        state, action = effect(state, event, now_s)
        if action is not None:
            actions.append(action)
    return _enter(state, row.to, now_s), tuple(actions)


def _enter(state: State, phase: Phase, now_s: float) -> State:
    """What a phase has no use for is forgotten on entering it."""
    if phase is state.phase:
        return state
    serves = phase in SERVING
    return replace(
        state,
        phase=phase,
        entered_s=now_s,
        claimed_ns=state.claimed_ns if serves else 0,
        claimed_s=state.claimed_s if serves else 0.0,
        replaced_ns=state.replaced_ns if serves else 0,
        heir=state.heir if phase is HANDING else "",
        resigned=state.resigned and phase is not ACTIVE,
        unheard=state.unheard and serves,
        rivals=state.rivals if serves else frozenset(),
        outweighed_s=state.outweighed_s if phase is ACTIVE and state.phase is not HANDING else None,
        asked_s=state.asked_s if phase is TAKING else None,
    )


def _why_not(state: State) -> str:
    """Why a command is refused."""
    s = state.settings
    if state.phase in SERVING:
        reasons = [f"{name} {state.unable(name)}" for name in s.peers] or ["the cluster has no other director"]
        return f"nobody can take over from {s.me}: {'; '.join(reasons)}; `lbctl status` shows when that changes"
    if state.impaired_s is not None:
        return f"the interface of {s.me} has no carrier"
    if state.unfit_s is not None:
        return f"{s.me} could not add the address just now; its log says why"
    reasons = [
        f"{name} {'does not hear us' if not peer.hears_me else 'has not sent us all connections yet'}"
        for name, peer in state.serving.items()
    ]
    return f"{s.me} cannot take over: {'; '.join(reasons) or 'no active peer is heard'}; `lbctl status` shows more"


def markdown() -> str:
    """`TABLE` for people: the text between the marks of docs/failover.md."""
    lines = ["| phase | on | if | then | phase |", "|---|---|---|---|---|"]
    for row in TABLE:
        on = "any fact" if row.on == FACTS else ", ".join(event.__name__ for event in row.on)
        do = ", ".join(effect.__doc__ or "" for effect in row.do) or "-"
        lines.append(f"| {row.phase} | {on} | {row.when.__doc__} | {do} | {row.to} |")
    return "\n".join(lines)
