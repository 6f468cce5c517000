"""A role for each group of addresses over one heartbeat: each director has its own half, and both if it is alone."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest

from ha.authkeys import AuthKeys
from ha.counters import Counters
from ha.heartbeat import Heartbeats
from ha.member import Member
from ha.share import Share
from ha.state import ABSENT, Ask, GiveUp, Phase, Report, Settings, Synced, Take, Taken
from ha.timing import Timing
from ha.wire import MAX_BYTES
from lb.connections import CONNECTION, CONNECTION6, Rows
from lb.rules import GROUPS_MAX

KEYS = AuthKeys(1, {1: b"shared by the cluster"})
KEEPALIVE_S, DEADTIME_S, INITDEAD_S = 0.1, 0.5, 1.0


class Cluster:
    """a and b; what prefers a is the group "", and b has one of its own. Nothing is lost, and nothing takes time."""

    def __init__(self, *groups: str, auto_failback: bool = True) -> None:
        self.now_s = 100.0
        self.groups, self.auto_failback = groups, auto_failback
        self.members = {name: self._member(name) for name in ("a", "b")}

    def _member(self, name: str, *groups: str) -> Member:
        settings = Settings(name, ("a", "b"), KEEPALIVE_S, DEADTIME_S, INITDEAD_S, "a", self.auto_failback)
        life = int(self.now_s * 1000) + ord(name)
        return Member("test", settings, 0.3, KEYS, life, Counters(), self.now_s, groups or self.groups)

    def start(self, name: str, *groups: str) -> None:
        """A new process, which may have a file with other groups."""
        self.members[name] = self._member(name, *groups)

    def run(self, seconds: float) -> None:
        """All hear each other, and are in sync with whom they hear."""
        for _ in range(round(seconds / 0.01)):
            self.now_s += 0.01
            for name, member in self.members.items():
                member.handle_timer(self.now_s)
                member.happened(Synced(frozenset(self.members) - {name}), self.now_s)
                for peer, data in member.datagrams_to_send(self.now_s):
                    if peer in self.members:
                        self.members[peer].receive_datagram(data, self.now_s)
                while found := member.next_action():
                    group, action = found
                    if isinstance(action, Take):
                        member.happened(Taken(int(self.now_s * 1e9)), self.now_s, group)

    def claims_of(self, group: str) -> list[int]:
        """Since when who is active there."""
        return [member.states[group].claimed_ns for member in self.members.values()]

    def roles(self) -> dict[str, list[str]]:
        return {name: [state.role for state in member.states.values()] for name, member in self.members.items()}


SPLIT = {"a": ["active", "standby"], "b": ["standby", "active"]}


def test_each_is_active_for_what_prefers_it() -> None:
    cluster = Cluster("b")
    cluster.run(3.0)
    assert cluster.roles() == SPLIT


def test_who_is_heard_for_the_first_time_is_answered_before_the_next_turn() -> None:
    cluster = Cluster()
    a, b = cluster.members.values()
    a.datagrams_to_send(cluster.now_s)
    ((_, data),) = b.datagrams_to_send(cluster.now_s)
    due_s = a.timer()
    assert a.receive_datagram(data, cluster.now_s + 0.001)
    assert a.timer() < due_s


def test_what_a_peer_says_again_needs_nothing_done_unless_it_was_lost() -> None:
    cluster = Cluster("b")
    cluster.run(3.0)
    a, b = cluster.members.values()

    def beat(after_s: float) -> bool:
        """Both send, and a hears b."""
        cluster.now_s += after_s
        for member in (a, b):
            member.heartbeats.repeat(cluster.now_s)
            (_, data), *_ = member.datagrams_to_send(cluster.now_s)
        while outdated := a.heartbeats.next_outdated():
            a.heartbeats.passes(*outdated)
        return a.receive_datagram(data, cluster.now_s)

    beat(KEEPALIVE_S)
    assert not beat(KEEPALIVE_S)
    b.happened(GiveUp(), cluster.now_s, "b")
    assert beat(KEEPALIVE_S)
    assert a.states["b"].peers["b"].report.phase is Phase.HANDING
    cluster.members = {"a": a}
    cluster.run(2 * DEADTIME_S)
    assert not a.states[""].peers["b"].alive
    assert beat(KEEPALIVE_S)
    assert a.states[""].peers["b"].alive


def test_alone_it_is_active_for_all_and_gives_back() -> None:
    cluster = Cluster("b")
    cluster.run(3.0)
    del cluster.members["b"]
    cluster.run(2 * DEADTIME_S)
    assert cluster.roles() == {"a": ["active", "active"]}
    cluster.start("b")
    cluster.run(0.5)
    assert cluster.roles() == {"a": ["active", "active"], "b": ["standby", "standby"]}
    cluster.run(5.0)
    assert cluster.roles() == SPLIT


@pytest.mark.parametrize("group", ["", "b"])
def test_a_command_moves_one_group_alone(group: str) -> None:
    cluster = Cluster("b", auto_failback=False)
    cluster.run(3.0)
    giver, heir = ("b", "a") if group else ("a", "b")
    claims = cluster.claims_of("" if group else "b")
    cluster.members[giver].happened(GiveUp(), cluster.now_s, group)
    cluster.run(1.0)
    assert cluster.members[giver].states[group].role == "standby"
    assert cluster.members[heir].states[group].role == "active"
    assert cluster.claims_of("" if group else "b") == claims
    cluster.members[giver].happened(Ask(), cluster.now_s, group)
    cluster.run(1.0)
    assert cluster.roles() == SPLIT


def test_a_director_whose_file_has_not_the_group_is_given_none_of_it() -> None:
    """Its files differ for a while; the other has the group's addresses whatever becomes of that."""
    cluster = Cluster("b")
    cluster.groups = ()
    cluster.start("b")
    cluster.groups = ("b",)
    cluster.run(3.0)
    assert cluster.roles() == {"a": ["active", "active"], "b": ["standby"]}
    assert cluster.members["a"].states["b"].peers["b"].report == ABSENT
    assert cluster.members["a"].states["b"].ables == ()


def test_a_heartbeat_of_the_largest_cluster_fits_into_a_frame() -> None:
    names = tuple(f"a-director-with-a-long-name-{number}" for number in range(8))
    groups = names[: GROUPS_MAX - 1]
    heartbeats = Heartbeats(
        "a-cluster-with-a-long-name", names[0], names[1:], Timing(1, 1, 1), KEYS, 2**63, Counters(), 0.0, groups
    )
    for name in names[1:]:
        heartbeats.peers[name].life = heartbeats.peers[name].sequence = 2**63
    for group in ("", *groups):
        report = Report(Phase.STANDBY, 2**62, 2**62, names[7], True, True, True, 100)
        heartbeats.say(report, frozenset(names[1:2]), 0.0, group)
    (_, data), *_ = heartbeats.datagrams_to_send(1.0)
    assert len(data) <= MAX_BYTES


def rows(*virtuals: str) -> Rows:
    found = np.zeros(len(virtuals), CONNECTION)
    found["virtual"] = [int(IPv4Address(address)) for address in virtuals]
    return found


def rows6(*virtuals: str) -> Rows:
    found = np.zeros(len(virtuals), CONNECTION6)
    for row, address in zip(found, virtuals, strict=True):
        row["virtual"] = int(IPv6Address(address)) >> 64, int(IPv6Address(address)) & 2**64 - 1
    return found


@pytest.mark.parametrize(
    ("led", "count", "count6"),
    [({""}, 2, 1), ({"b"}, 1, 1), ({"c"}, 1, 0), ({"", "b", "c"}, 4, 2), ({"b", "c"}, 2, 1), (set(), 0, 0)],
)
def test_a_director_tells_of_the_groups_that_it_leads(led: set[str], count: int, count6: int) -> None:
    """What goes to an address of no group any more is told by who leads the rest."""
    one, other, third = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"), IPv4Address("10.0.0.3")
    share = Share({"": (one, IPv6Address("::1")), "b": (other, IPv6Address("2001:db8::2")), "c": (third,)})
    families = rows("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9"), rows6("::1", "2001:db8::2")
    assert [len(found) for found in share.within(families, frozenset(led))] == [count, count6]
