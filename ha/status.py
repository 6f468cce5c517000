"""What `lbctl status` shows of failover, computed from what the parts know. Pure.

The documents are plain dictionaries, as they go out as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypedDict

from ha.heartbeat import LinkLife, PeerLife
from ha.state import ROLES, SERVING, Phase, Role, State
from ha.sync import Sync
from ha.ways import ways
from lb.model import Cluster


def time_of(moment: datetime) -> str:
    """As documents have it: ISO 8601 with milliseconds."""
    return moment.isoformat(timespec="milliseconds")


class LinkStatus(TypedDict):
    """One way for heartbeats from a peer. heard_ms: how long ago one came, None if never.

    state: up (within deadtime), down (not any more), unknown (never).
    """

    name: str
    state: Literal["up", "down", "unknown"]
    heard_ms: float | None


class PeerStatus(TypedDict):
    """state: up (heard within deadtime), down (not any more), left (said goodbye), unknown (never heard).

    role: its last known. able: could be handed over to now. heard_ms: how long ago it was heard, None if never.
    hears_us, in_sync, witnesses: as it says.
    """

    name: str
    address: str
    state: Literal["up", "down", "left", "unknown"]
    role: Role
    able: bool
    heard_ms: float | None
    hears_us: bool
    in_sync: bool
    witnesses: int
    links: list[LinkStatus]


class SyncStatus(TypedDict):
    """state: in-sync (the standby holds what the active has), syncing (not yet all), no-peer (no session).

    connections: rows sent and received in the present sessions. lag_ms: how far the slowest peer is behind.
    """

    state: Literal["in-sync", "syncing", "no-peer"]
    connections: int
    lag_ms: float


class RoleStatus(TypedDict):
    """Of the virtuals that name this preferred node (None: that of `[ha]`, or nobody's). active: who is, as far as
    known; None: nobody."""

    preferred: str | None
    role: Role
    since: str
    active: str | None
    addresses: list[str]


@dataclass(frozen=True, slots=True)
class HaStatus:
    """since: when this role began, by the clock on the wall, ISO 8601. warnings: what an operator should mend.

    roles: one for each node that virtuals prefer; role and since are the first one's.
    """

    role: Role
    since: str
    peers: list[PeerStatus]
    sync: SyncStatus
    counters: dict[str, int]
    warnings: list[str]
    roles: list[RoleStatus]


def peers(cluster: Cluster, state: State, lives: Mapping[str, PeerLife], now_s: float) -> list[PeerStatus]:
    """One entry a peer, in the file's order."""
    found: list[PeerStatus] = []
    for node in cluster.peers_of(state.settings.me):
        peer, life = state.peers.get(node.name), lives.get(node.name, PeerLife())
        found.append(
            {
                "name": node.name,
                "address": str(node.address),
                "state": _state(life),
                "role": ROLES[peer.report.phase] if peer else "init",
                "able": state.able(node.name),
                "heard_ms": round((now_s - life.heard_s) * 1000, 1) if life.life else None,
                "hears_us": bool(peer and peer.alive and peer.hears_me),
                "in_sync": bool(peer and peer.alive and peer.report.synced),
                "witnesses": peer.report.witnesses if peer and peer.alive else 0,
                "links": [_link(way.name, life, now_s) for way in ways(cluster, state.settings.me)],
            }
        )
    return found


def roles(cluster: Cluster, states: Mapping[str, State], since: Mapping[str, str]) -> list[RoleStatus]:
    """That of the addresses without a preferred node of their own, if there are any, and then by that node."""
    return [
        {
            "preferred": group or cluster.ha.preferred,
            "role": states[group].role,
            "since": since[group],
            "active": states[group].settings.me
            if states[group].phase in SERVING
            else next(iter(states[group].serving), None),
            "addresses": [str(address) for address in addresses],
        }
        for group, addresses in cluster.groups.items()
        if group in states and (addresses or not group)
    ]


def _link(name: str, life: PeerLife, now_s: float) -> LinkStatus:
    heard = life.links.get(name)
    if heard is None:
        return {"name": name, "state": "unknown", "heard_ms": None}
    return {
        "name": name,
        "state": "up" if heard.up else "down",
        "heard_ms": round((now_s - heard.heard_s) * 1000, 1),
    }


def _state(life: PeerLife) -> Literal["up", "down", "left", "unknown"]:
    if not life.life:
        return "unknown"
    if life.alive:
        return "up"
    return "left" if life.left else "down"


def _is_done(state: State, sessions: Mapping[str, Sync]) -> bool:
    return all(s.delivered for s in sessions.values()) if state.phase in SERVING else state.synced


def sync(states: Iterable[State], sessions: Mapping[str, Sync], now_s: float) -> SyncStatus:
    """Of all sessions together: an active looks at what its peers hold, the others at what they hold themselves."""
    done = all(_is_done(state, sessions) for state in states)
    return {
        "state": "no-peer" if not sessions else "in-sync" if done else "syncing",
        "connections": sum(s.moved for s in sessions.values()),
        "lag_ms": round(max([s.lag_s(now_s) for s in sessions.values()], default=0.0) * 1000, 1),
    }


def warnings(
    cluster: Cluster,
    states: Mapping[str, State],
    lives: Mapping[str, PeerLife],
    sessions: Iterable[str],
    config: str,
    silent: Iterable[object],
    now_s: float,
) -> list[str]:
    """What is not as it should be. config: our digest; silent: ping nodes that do not answer."""
    port, state = cluster.ha.port, states[""]
    found = [f"ping node {address} does not answer" for address in silent]
    for own in states.values():
        found += _warnings_of(own, port)
    found = list(dict.fromkeys(found))
    for name, life in lives.items():
        peer = state.peers.get(name)
        if not life.alive or peer is None:
            continue
        if now_s > life.began_s + cluster.ha.deadtime:
            found += [
                f"no heartbeats of {name} come by {way.name}; they come by another link"
                for way in ways(cluster, state.settings.me)
                if not life.links.get(way.name, LinkLife()).up
            ]
        if life.config != config:
            found.append(f"the configuration of {name} differs from ours; copy the file and `lbctl reload` on both")
        if not peer.hears_me:
            found.append(f"{name} does not hear us; let UDP port {port} from us to it through")
        if name not in sessions:
            found.append(f"no sync session with {name}; let TCP port {port} through in both directions")
    return found


def _warnings_of(state: State, port: int) -> list[str]:
    """Of one role."""
    found: list[str] = []
    if state.unfit_s is not None and state.phase not in SERVING:
        found.append("the virtual address could not be added; the log says why, and it is tried again")
    if state.impaired_s is not None:
        found.append("the service interface is down or has no carrier: nobody reaches the virtual addresses here")
    if state.contested:
        found.append(f"{state.contested}; do the authkeys differ, or is UDP port {port} blocked?")
    if state.phase is Phase.ACTIVE:
        found += [f"{name} is active too" for name in state.peers if name in state.mutual]
    return found
