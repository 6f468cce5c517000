"""What the rows of `ha.role.TABLE` ask: conditions of a state at a time. Pure.

The docstring of each is what docs/failover.md says of it.
"""

from __future__ import annotations

from ha.state import HANDOVER_S, Phase, State


def joined(state: State, now_s: float) -> bool:  # noqa: ARG001
    """an active peer is heard, and we hold its connections"""
    return state.synced


def dangling(state: State, now_s: float) -> bool:  # noqa: ARG001
    """an active peer is heard while the address may still be here"""
    return state.holding and bool(state.serving)


def my_turn(state: State, now_s: float) -> bool:
    """nobody serves or answers for the address, and it is our turn"""
    if state.open_s is None or state.unfit_s is not None or state.contested:
        return False
    if state.phase is Phase.INIT and state.settled_s is None:
        return False
    begins_s = max(state.open_s, state.settled_s or 0.0) if state.phase is Phase.INIT else state.open_s
    return now_s >= begins_s + state.rank * state.settings.deadtime_s


def is_heir(state: State, now_s: float) -> bool:  # noqa: ARG001
    """an active peer is handing over to us"""
    reports = [peer.report for peer in state.serving.values()]
    return state.fit and any(report.phase is Phase.HANDING and report.heir == state.settings.me for report in reports)


def can_ask(state: State, now_s: float) -> bool:  # noqa: ARG001
    """an active peer hears us, and we are in sync with it"""
    return state.fit and any(name in state.synced_with and peer.hears_me for name, peer in state.serving.items())


def failback_due(state: State, now_s: float) -> bool:
    """auto_failback is on, we are preferred, did not resign by hand, and nothing spoke against it for initdead"""
    s = state.settings
    wanted = s.auto_failback and s.preferred == s.me and not state.resigned
    free = state.asked_s is None and now_s >= state.rest_s
    return wanted and free and state.ready_s is not None and now_s >= state.ready_s + s.initdead_s


def ask_expired(state: State, now_s: float) -> bool:
    """we asked, and nobody handed over in time"""
    return state.asked_s is not None and now_s >= state.asked_s + HANDOVER_S


def yields(state: State, now_s: float) -> bool:
    """another active has the better claim, or has been deaf to us for deadtime and sees no fewer witnesses"""
    if any(state.outclaims(name) for name in state.mutual):
        return True
    return any(
        peer.deaf_since_s is not None
        and now_s >= peer.deaf_since_s + state.settings.deadtime_s
        and peer.report.witnesses >= state.witnesses
        for peer in state.serving.values()
    )


def deferring(state: State, now_s: float) -> bool:  # noqa: ARG001
    """another active was heard, with the better claim, which does not hear us yet"""
    new = state.others - state.rivals
    return bool(new) and state.rivals <= state.others and all(state.outclaims(name) for name in new)


def rivals_changed(state: State, now_s: float) -> bool:  # noqa: ARG001
    """another active with a weaker claim was heard, or is active no more"""
    return state.others != state.rivals


def unheard(state: State, now_s: float) -> bool:  # noqa: ARG001
    """the carrier is back, or a peer has returned, and nobody heard has the better claim"""
    return state.unheard and state.fit and not any(state.outclaims(name) for name in state.others)


def asked(state: State, now_s: float) -> bool:
    """an able standby asks for it"""
    return now_s >= state.rest_s and any(state.peers[name].report.wants for name in state.ables)


def outweighed(state: State, now_s: float) -> bool:
    """an able standby has seen more witnesses for max(2 keepalives, deadtime)"""
    s = state.settings
    patience_s = max(2 * s.keepalive_s, s.deadtime_s)
    return state.outweighed_s is not None and now_s >= max(state.outweighed_s + patience_s, state.rest_s)


def cut_off(state: State, now_s: float) -> bool:
    """the service interface has no carrier, and a peer is able"""
    return state.impaired_s is not None and bool(state.ables) and now_s >= state.rest_s


def has_able(state: State, now_s: float) -> bool:  # noqa: ARG001
    """a peer is able: heard, hearing us, standby, in sync and fit"""
    return bool(state.ables)


def heir_serves(state: State, now_s: float) -> bool:  # noqa: ARG001
    """the heir says that it is active"""
    return state.heir in state.serving


def heir_failed(state: State, now_s: float) -> bool:
    """the heir is gone or could not add the address, or five seconds are over"""
    heir = state.peers.get(state.heir)
    lives = heir is not None and heir.alive and heir.report.fit
    willing = heir is not None and heir.report.phase in (Phase.STANDBY, Phase.TAKING)
    return not (lives and willing) or now_s >= state.entered_s + HANDOVER_S


def always(state: State, now_s: float) -> bool:  # noqa: ARG001
    """always"""
    return True
