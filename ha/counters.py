"""What came in and what was wrong with it, counted by name. Pure; time is an argument."""

from __future__ import annotations

from typing import Final

MEANINGS: Final[dict[str, str]] = {
    "heartbeat_sent": "heartbeats sent, one for each peer",
    "heartbeat_deputised": "times when the director was late and its deputy, a process of its own, sent for it",
    "heartbeat_unsent": "heartbeats that the kernel would not send: no link or no route",
    "heartbeat_received": "heartbeats that proved a peer's life",
    "heartbeat_copied": "heartbeats that had come over another link before",
    "heartbeat_overtaken": "heartbeats that came behind a later one",
    "heartbeat_late": "heartbeats that came more than warntime after the one before",
    "heartbeat_unread": "datagrams that came faster than they are read, and were thrown away",
    "heartbeat_malformed": "not a heartbeat: random bytes, truncated or too long",
    "heartbeat_version": "a heartbeat of a version that is not spoken here",
    "heartbeat_key": "signed with a key that is not ours, or changed on the way",
    "heartbeat_cluster": "from another cluster that has the same key",
    "heartbeat_own": "our own, which a broadcast brings back",
    "heartbeat_stranger": "from a node that is not in the file, or from another process of this node",
    "heartbeat_misdirected": "from a node whose file does not have us",
    "heartbeat_replayed": "seen before, long out of order, or of an earlier life",
    "heartbeat_posthumous": "on its way when its sender died",
    "stalls": "times when this process was frozen for so long that silence meanwhile does not count",
    "sync_opened": "sync sessions that were established",
    "sync_malformed": "a greeting or message on the sync port that cannot be read",
    "sync_version": "a greeting of a version that is not spoken here",
    "sync_key": "a frame signed with a key that is not ours, changed, repeated or out of order",
    "sync_cluster": "a greeting from another cluster",
    "sync_stranger": "a connection from an address or a name that is not a peer's, or from the wrong side",
    "sync_oversized": "a frame that says it is longer than allowed",
    "sync_refused": "greetings that the other end closed on; its own counters say why",
    "sync_timeout": "a connection that did not finish its greeting in time",
    "sync_crowded": "a connection refused because too many were greeting",
    "sync_unknown": "connections of a peer that were left out: their virtual or real is not in our file",
    "sync_overflow": "times when a peer was too slow and gets everything again",
}
"""Every counter by its name."""

QUIET_S: Final = 10.0
"""A kind is logged at most this often; the counters miss nothing."""


class Counters:
    """A number for each name in MEANINGS; always counting up."""

    def __init__(self) -> None:
        self.values = dict.fromkeys(MEANINGS, 0)
        self._logged_s: dict[str, float] = {}

    def add(self, name: str, count: int = 1) -> None:
        """Raises KeyError for a name that has no meaning."""
        self.values[name] += count

    def worth_logging(self, name: str, now_s: float) -> bool:
        """Was this kind not logged for QUIET_S? Then it counts as logged now."""
        logged_s = self._logged_s.get(name)
        if logged_s is not None and now_s < logged_s + QUIET_S:
            return False
        self._logged_s[name] = now_s
        return True
