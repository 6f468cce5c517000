"""Who is alive, with time as literals: first contact, silence, replays, lives and lateness."""

from __future__ import annotations

import pytest

from ha.authkeys import AuthKeys
from ha.counters import Counters
from ha.heartbeat import AHEAD, MAX_CANDIDATES, USED, Heartbeats
from ha.state import Heard, Lost, Phase, Report, Stalled
from ha.timing import Timing

KEYS = AuthKeys(1, {1: b"shared"})
TIMING = Timing(keepalive_s=0.1, warntime_s=0.3, deadtime_s=0.5)


class Node:
    """A `Heartbeats` with its counters; datagrams are carried by hand."""

    def __init__(self, name: str, life: int, cluster: str = "demo", keys: AuthKeys = KEYS, now_s: float = 0.0) -> None:
        self.counters = Counters()
        peers = tuple(peer for peer in ("a", "b") if peer != name)
        self.core = Heartbeats(cluster, name, peers, TIMING, keys, life, self.counters, now_s)

    def beat(self, now_s: float) -> bytes:
        """Its heartbeat at that time."""
        self.core.repeat(now_s)
        return self.core.datagrams_to_send(now_s)[0][1]

    def hear(self, data: bytes, now_s: float, link: str = "") -> list[Heard | Lost | Stalled]:
        """What it makes of a datagram."""
        self.core.receive_datagram(data, now_s, link)
        return self.events()

    def tick(self, now_s: float) -> list[Heard | Lost | Stalled]:
        """What it makes of the time."""
        self.core.handle_timer(now_s)
        self.core.datagrams_to_send(now_s)
        return self.events()

    def events(self) -> list[Heard | Lost | Stalled]:
        """All that are waiting."""
        return list(iter(self.core.next_event, None))

    def rejected(self) -> dict[str, int]:
        """The counters of what was ignored that are not zero."""
        kinds = ("malformed", "version", "key", "cluster", "stranger", "misdirected", "replayed", "posthumous")
        return {kind: n for kind in kinds if (n := self.counters.values[f"heartbeat_{kind}"])}


def acquainted() -> tuple[Node, Node]:
    """a and b, which have just proved their lives to each other at time 0.01."""
    a, b = Node("a", 11), Node("b", 22)
    assert b.hear(a.beat(0.0), 0.0) == [], "nothing is proven by a first word"
    assert a.hear(b.beat(0.0), 0.0) == [Heard("b", Report(Phase.INIT), hears_me=False)]
    assert b.hear(a.beat(0.01), 0.01) == [Heard("a", Report(Phase.INIT))]
    assert a.hear(b.beat(0.01), 0.01) == [Heard("b", Report(Phase.INIT))]
    return a, b


def test_two_nodes_know_each_other_after_three_datagrams() -> None:
    a, b = acquainted()
    assert a.rejected() == b.rejected() == {}


def test_first_contact_is_answered_at_once() -> None:
    a, b = Node("a", 11), Node("b", 22)
    first = a.beat(0.0)
    b.beat(0.0)
    b.hear(first, 0.01)
    assert b.core.timer() == pytest.approx(0.025), "a quarter of keepalive after its last one"


def test_silence_for_deadtime() -> None:
    a, _ = acquainted()
    for tenths in range(1, 6):
        assert a.tick(tenths / 10) == []
    assert a.core.timer() == pytest.approx(0.51)
    assert a.tick(0.51) == [Lost("b", "silent")]
    assert a.tick(0.6) == []


def test_a_repeated_datagram_is_a_replay() -> None:
    a, b = acquainted()
    data = b.beat(0.1)
    assert len(a.hear(data, 0.1)) == 1
    assert a.hear(data, 0.11) == []
    assert a.rejected() == {"replayed": 1}


def test_a_datagram_that_was_overtaken_says_nothing_new_once() -> None:
    a, b = acquainted()
    first, second, third = (b.beat(moment_s) for moment_s in (0.1, 0.11, 0.12))
    assert len(a.hear(third, 0.12)) == 1
    deadline_s = a.core.deadline()
    for overtaken in (first, second):
        assert a.hear(overtaken, 0.13) == []
    assert (a.counters.values["heartbeat_overtaken"], a.rejected()) == (2, {})
    for repeated in (first, second, third):
        assert a.hear(repeated, 0.14) == []
    assert (a.counters.values["heartbeat_overtaken"], a.rejected()) == (2, {"replayed": 3})
    assert a.core.deadline() == deadline_s


def test_what_was_overtaken_by_far_is_a_replay() -> None:
    """Nobody remembers whether it came."""
    a, b = acquainted()
    kept = b.beat(0.1)
    for n in range(AHEAD):
        last = b.beat(0.11 + n / 1000)
    a.hear(last, 0.3)
    assert a.hear(kept, 0.3) == []
    assert a.rejected() == {"replayed": 1}


def test_replays_to_a_restarted_node_do_not_raise_the_dead() -> None:
    """All that b ever said to an earlier a is played to the new one, and b is not there any more."""
    _, b = acquainted()
    recorded = [b.beat(n / 10) for n in range(1, 30)]
    new = Node("a", 12, now_s=3.0)
    new.tick(3.0)
    for n, data in enumerate(recorded):
        new.tick(3.0 + n / 100)
        assert new.hear(data, 3.0 + n / 100) == []
    for tenths in range(33, 45):
        assert new.tick(tenths / 10) == []
    assert new.rejected() == {"replayed": len(recorded)}


def test_a_restarted_peer_is_seen_at_once_and_its_old_life_cannot_come_back() -> None:
    a, b = acquainted()
    old = [b.beat(n / 100) for n in range(10, 20)]  # recorded, and kept from a
    new = Node("b", 23, now_s=0.2)
    assert a.hear(new.beat(0.2), 0.2) == []
    new.hear(a.beat(0.21), 0.21)
    assert a.hear(new.beat(0.21), 0.21) == [Lost("b", "restarted"), Heard("b", Report(Phase.INIT))]
    for data in old:
        assert a.hear(data, 0.22) == []
    assert len(a.hear(new.beat(0.23), 0.23)) == 1
    for tenths in range(3, 9):
        a.tick(tenths / 10)
    assert a.rejected() == {"replayed": len(old)}


def test_replays_of_many_lives_do_not_push_out_the_true_peer() -> None:
    a, b = acquainted()
    for life in range(100, 100 + 3 * MAX_CANDIDATES):
        a.hear(Node("b", life).beat(0.02), 0.02)
    assert len(a.core.peers["b"].candidates) == MAX_CANDIDATES
    heard = b.hear(a.beat(0.1), 0.1)
    assert heard == [Heard("a", Report(Phase.INIT))]


@pytest.mark.parametrize(
    ("sender", "kind"),
    [
        (Node("b", 5, keys=AuthKeys(1, {1: b"wrong"})), "key"),
        (Node("b", 5, cluster="other"), "cluster"),
        (Node("c", 5), "stranger"),
        (Node("a", 5), "stranger"),
    ],
    ids=["key", "cluster", "unknown", "myself"],
)
def test_what_is_ignored_is_counted(sender: Node, kind: str) -> None:
    a = Node("a", 11)
    assert a.hear(sender.beat(0.0), 0.0) == []
    assert a.rejected() == {kind: 1}


def test_a_sender_that_does_not_know_us() -> None:
    a, b = Node("a", 11), Node("b", 22)
    b.core.reconfigure(("z",), TIMING, KEYS, "")
    assert a.hear(b.beat(0.0), 0.0) == []
    assert a.rejected() == {"misdirected": 1}


def test_own_lateness_is_no_silence_of_others() -> None:
    a, _ = acquainted()
    a.tick(0.1)
    (stalled,) = a.tick(60.0)
    assert isinstance(stalled, Stalled)
    assert stalled.slept_s == pytest.approx(59.89)
    for n in range(1, 3):
        assert a.tick(60.0 + n / 10) == []
    assert a.tick(60.25) == [Lost("b", "silent")], "but silence from then on does"


def test_own_lateness_makes_no_deadline_earlier() -> None:
    a, b = acquainted()
    a.core.timing = Timing(keepalive_s=0.01, warntime_s=0.04, deadtime_s=0.04)
    a.tick(0.19)
    a.hear(b.beat(0.2), 0.205)
    assert [type(event) for event in a.tick(0.2205)] == [Stalled]
    assert a.tick(0.2445) == []
    assert a.tick(0.245) == [Lost("b", "silent")]


@pytest.mark.parametrize(
    ("keepalive_s", "deadtime_s", "tolerance_s"),
    [(0.1, 0.5, 0.25), (0.05, 0.2, 0.1), (0.01, 0.04, 0.01), (0.01, 0.03, 0.01), (1.0, 2.1, 0.525)],
)
def test_a_lateness_that_counts_leaves_time_for_a_heartbeat(
    keepalive_s: float, deadtime_s: float, tolerance_s: float
) -> None:
    """Where there is time for more than two."""
    assert Timing(keepalive_s, deadtime_s, deadtime_s).tolerance_s == pytest.approx(tolerance_s)


def test_lateness_is_noticed_by_what_arrives_first() -> None:
    a, b = acquainted()
    a.tick(0.1)
    kept = b.beat(0.11)
    events = a.hear(kept, 60.0)
    assert [type(event) for event in events] == [Stalled, Heard]
    assert a.tick(60.05) == []


def test_a_peer_that_slept_is_found_out_even_if_its_clock_stood_still() -> None:
    a, b = acquainted()
    for tenths in range(1, 101):
        a.tick(tenths / 10)
    late = b.beat(0.11)  # b's clock shows 0.11 when it is 10.0
    heard = a.hear(late, 10.0)
    assert isinstance(heard[0], Heard)
    assert heard[0].slept_s == pytest.approx(9.89, abs=0.02)


def test_a_partition_is_no_sleep() -> None:
    a, b = acquainted()
    for tenths in range(1, 1001):
        a.tick(tenths / 10)
        b.tick(tenths / 10)
    heard = a.hear(b.beat(100.0), 100.0)
    assert isinstance(heard[0], Heard)
    assert heard[0].slept_s == 0.0


def test_after_a_crash_what_was_on_its_way_does_not_count() -> None:
    a, b = acquainted()
    on_its_way = b.beat(0.1)
    a.core.declare("b", "crashed")
    assert a.events() == [Lost("b", "crashed")]
    assert a.hear(on_its_way, 0.1) == []
    assert a.rejected() == {"posthumous": 1}


def test_a_crash_that_was_none_is_taken_back() -> None:
    a, b = acquainted()
    a.core.declare("b", "crashed")
    b.hear(a.beat(0.1), 0.1)
    assert a.hear(b.beat(0.11), 0.11)[-1] == Heard("b", Report(Phase.INIT))


def test_goodbye() -> None:
    a, b = acquainted()
    b.core.say(Report(Phase.LEFT), frozenset(), 0.1)
    assert a.hear(b.beat(0.1), 0.1) == [Lost("b", "left")]
    assert a.hear(b.beat(0.11), 0.11) == []


def test_a_change_is_said_at_once() -> None:
    a, b = acquainted()
    assert a.core.timer() > 0.02
    a.core.say(Report(Phase.STANDBY), frozenset({"b"}), 0.02)
    assert a.core.timer() == 0.02
    (heard,) = b.hear(a.core.datagrams_to_send(0.02)[0][1], 0.02)
    assert heard == Heard("a", Report(Phase.STANDBY), voids_me=True)


def test_spares_are_heartbeats_like_any_other_and_none_comes_twice() -> None:
    """One that is sent in our place keeps us alive; our next one is newer than all of them."""
    a, b = acquainted()
    a.core.timing = b.core.timing = Timing(keepalive_s=0.1, warntime_s=0.3, deadtime_s=1.2)
    b.hear(a.beat(10.0), 10.0)
    first, second, third = a.core.spares()
    grace_s = 0.1 / 20 + 0.001
    assert [spare.due_s - grace_s for spare in (first, second, third)] == pytest.approx([10.1, 10.2, 10.3])
    assert third.worthless_s - grace_s == pytest.approx(10.4)
    for spare in (first, second):
        ((peer, data),) = spare.datagrams
        assert peer == "b"
        assert [type(event) for event in b.hear(data, spare.due_s)] == [Heard]
    assert [type(event) for event in b.hear(a.beat(10.25), 10.25)] == [Heard]
    assert b.hear(third.datagrams[0][1], 10.31) == []
    assert (b.counters.values["heartbeat_overtaken"], b.rejected()) == (1, {})


@pytest.mark.parametrize(
    ("keepalive_s", "deadtime_s", "count"),
    [(0.01, 0.04, 11), (0.05, 0.2, 2), (0.1, 0.5, 2), (0.1, 2.0, 5), (1.0, 3.0, 1)],
)
def test_spares_are_for_a_stall_that_counts_for_nothing_or_a_tenth_of_a_second(
    keepalive_s: float, deadtime_s: float, count: int
) -> None:
    core = Heartbeats("test", "a", ("b",), Timing(keepalive_s, deadtime_s, deadtime_s), KEYS, 1, Counters(), 0.0)
    core.datagrams_to_send(0.0)
    spares = core.spares()
    assert len(spares) == count
    assert len({data for spare in spares for _, data in spare.datagrams}) == count


def test_at_a_fast_keepalive_several_are_made_at_once() -> None:
    """Those between our own turns leave at their time, those after the next one only if we are late for it."""
    a, b = acquainted()
    a.core.timing = b.core.timing = Timing(keepalive_s=0.01, warntime_s=0.03, deadtime_s=0.08)
    b.hear(a.beat(0.1), 0.1)
    assert a.core.timing.turns == 3
    assert a.core.timer() == pytest.approx(0.13)
    spares = a.core.spares()
    assert [spare.late for spare in spares] == [False, False, *[True] * 10]
    grace_s = 0.01 / 20 + 0.001
    assert [spare.due_s for spare in spares[:3]] == pytest.approx([0.11, 0.12, 0.13 + grace_s])
    for spare in spares[:2]:
        b.hear(spare.datagrams[0][1], spare.due_s)
    sent = a.counters.values["heartbeat_sent"]
    assert b.hear(a.core.datagrams_to_send(0.131)[0][1], 0.131)
    assert a.counters.values["heartbeat_sent"] == sent + 3
    assert a.core.timer() == pytest.approx(0.16), "lateness does not add up"
    assert b.rejected() == {}


@pytest.mark.parametrize(
    ("keepalive_s", "deadtime_s", "turns"),
    [(0.01, 0.04, 2), (0.01, 0.1, 3), (0.02, 0.1, 1), (0.005, 0.06, 6), (1, 3, 1)],
)
def test_what_is_made_at_once_is_for_half_of_deadtime_at_most(
    keepalive_s: float, deadtime_s: float, turns: int
) -> None:
    assert Timing(keepalive_s, deadtime_s, deadtime_s).turns == turns


def test_who_has_nobody_to_leave_heartbeats_to_sends_each_itself() -> None:
    a, _ = acquainted()
    a.core.timing = Timing(keepalive_s=0.01, warntime_s=0.03, deadtime_s=0.08)
    for hundredths in range(1000, 1005):
        now_s = hundredths / 100 + 0.0001 * (hundredths - 1000)
        before = a.counters.values["heartbeat_sent"]
        assert a.core.datagrams_to_send(now_s)
        assert a.counters.values["heartbeat_sent"] == before + 1
        a.core.spares()
        a.core.unaided()


def outdated(node: Node) -> list[tuple[str, str]]:
    """Whose other passes it wants to be told, and tell it."""
    found = list(iter(node.core.next_outdated, None))
    for name, link in found:
        assert node.core.passes(name, link)
    return found


def test_passes_are_told_when_some_are_used_up() -> None:
    a, b = acquainted()
    assert outdated(a) == [("b", "")]
    heard = [a.hear(b.beat(0.02), 0.02) and outdated(a) for _ in range(2 * USED)]
    assert heard.count([("b", "")]) == 2
    assert heard[USED - 1] == [("b", "")]


def test_passes_that_were_seen_are_void_as_soon_as_anything_else_comes() -> None:
    a, b = acquainted()
    outdated(a)
    said = b.beat(0.02)
    a.hear(said, 0.02)
    assert outdated(a) == []
    a.hear(said, 0.021)
    assert a.rejected() == {"replayed": 1}
    assert outdated(a) == [("b", "")]
    a.hear(said, 0.022)
    assert outdated(a) == [], "it has no pass any more"
    a.hear(b.beat(0.03), 0.03)
    a.hear(b"noise", 0.031)
    assert outdated(a) == [("b", "")]


def test_passes_of_another_key_are_told_at_once() -> None:
    a, b = acquainted()
    outdated(a)
    both = {1: b"shared", 2: b"new"}
    a.core.reconfigure(("b",), TIMING, AuthKeys(1, both), "")
    a.hear(b.beat(0.02), 0.02)
    outdated(a)
    b.core.reconfigure(("a",), TIMING, AuthKeys(2, both), "")
    a.hear(b.beat(0.03), 0.03)
    assert outdated(a) == [("b", "")]
    assert a.rejected() == {}


def test_who_has_left_has_no_spares() -> None:
    a, _ = acquainted()
    a.core.say(Report(Phase.LEFT), frozenset(), 1.0)
    a.beat(1.0)
    assert a.core.spares() == []


def test_late_heartbeats_are_noted_with_their_interval() -> None:
    a, b = acquainted()
    for tenths in range(1, 5):
        a.tick(tenths / 10)
    a.hear(b.beat(0.42), 0.42)
    notes = list(iter(a.core.next_note, None))
    assert [(note.text, note.fields) for note in notes] == [("late heartbeat", {"peer": "b", "interval_ms": 410})]
    assert a.counters.values["heartbeat_late"] == 1


def test_a_copy_over_another_link_proves_the_link_and_nothing_else() -> None:
    a, b = acquainted()
    data = b.beat(0.1)
    assert a.hear(data, 0.1, "x") == [Heard("b", Report(Phase.INIT))]
    assert a.hear(data, 0.11, "y") == []
    assert a.counters.values["heartbeat_copied"] == 1
    assert a.rejected() == {}
    assert [a.core.peers["b"].links[link].heard_s for link in ("x", "y")] == [0.1, 0.11]
    for link in ("x", "y"):
        assert a.hear(data, 0.12, link) == []
    assert a.rejected() == {"replayed": 2}


def test_a_silent_link_is_told_of_once_and_nobody_is_lost() -> None:
    a, b = acquainted()
    for tenths in range(1, 4):
        a.hear(b.beat(tenths / 10), tenths / 10, "y")
    for tenths in range(1, 12):
        a.hear(b.beat(0.3 + tenths / 10), 0.3 + tenths / 10, "x")
        assert a.tick(0.3 + tenths / 10) == []
    notes = [note for note in iter(a.core.next_note, None) if note.fields.get("link") == "y"]
    assert [note.text for note in notes] == ["no heartbeats come any more"]
    assert not a.core.peers["b"].links["y"].up
    a.hear(b.beat(1.5), 1.5, "y")
    assert a.core.peers["b"].links["y"].up


def test_our_own_broadcast_comes_back() -> None:
    a, _ = acquainted()
    assert a.hear(a.beat(0.1), 0.1) == []
    assert a.rejected() == {}
    assert a.counters.values["heartbeat_own"] == 1
