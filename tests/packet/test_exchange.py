"""What directors tell each other: events as connections live, snapshots, and rows installed from another one."""

from __future__ import annotations

from ipaddress import IPv4Address

import numpy as np
import pytest

from lb import abi
from lb.addresses import Address
from lb.bpf import Map
from lb.connections import CONNECTION, Ours, Rows
from lb.datapath.embryos import Embryos
from lb.datapath.view import View
from lb.service import LOCAL, Service
from lb.tcp import REUSABLE, State
from tests.packet.world import (
    CLIENT,
    TCP_KEY,
    UDP_KEY,
    VIRTUAL,
    World,
    ageless,
    gated,
    local,
    mac_of,
    meanwhile,
    passed,
    real,
    tcp,
    udp,
)

FIRST = real(1).address

SIZE = 40
"""Of an event in the ring: a header of 8 bytes and the record."""


def row(
    port: int = 1000,
    to: Address = FIRST,
    protocol: int = 6,
    state: int = State.ESTABLISHED,
    idle_s: int = 0,
    virtual_port: int = 80,
) -> Rows:
    """One connection as another director tells it."""
    address = 0 if to == LOCAL else int(to)
    fields = (int(IPv4Address(CLIENT)), int(VIRTUAL), address, port, virtual_port, protocol, state, idle_s)
    return np.array([fields], CONNECTION)


def test_every_change_of_state_is_told_once(world: World) -> None:
    world.apply_reals(real(1))
    for flags in ("S", "S", "A", "PA", "A", "FA", "A", "R", "R"):
        world.send(tcp(flags))
    events = world.events()
    assert events["state"].tolist() == [State.ESTABLISHED, State.FIN_WAIT, State.CLOSE]
    assert ageless(events) == ageless(np.concatenate([row(state=state) for state in events["state"]]))
    assert len(world.events()) == 0


def test_a_datagrams_connection_is_told_once(world: World) -> None:
    world.apply_reals(real(1))
    for _ in range(3):
        world.send(udp())
    assert ageless(world.events()) == ageless(row(protocol=17, state=State.UDP, virtual_port=53))


def test_a_connection_that_goes_on_is_told_again_each_minute(world: World) -> None:
    world.apply_reals(real(1))
    world.send(tcp("S"))
    world.send(tcp("A"))
    world.events()
    refresh_t = abi.ticks(abi.SYNC_REFRESH_S)
    for age_t, told in ((refresh_t - 2, 0), (refresh_t, 1)):
        world.edit(synced_t=View.now_t() - age_t, last_seen_t=View.now_t() - 3)
        world.send(tcp("A"))
        world.send(tcp("A"))
        assert len(world.events()) == told


def test_a_local_connection_is_told_as_real_0(world: World) -> None:
    world.apply_reals(fallback=local())
    assert [world.send(tcp(flags)) for flags in ("S", "A")] == [passed(tcp("S")), passed(tcp("A"))]
    assert world.events()["real"].tolist() == [0]
    assert world.rows()["real"].tolist() == [0]


def test_events_that_find_the_ring_full_are_counted(world: World) -> None:
    """The reader's position is set back, as if it had not read for long: room for two more events is left."""
    ring = world.data._rings["events"]
    assert ring is not None
    position = int(ring._producer[0])
    for port in range(7):
        world.send(tcp("S", port))
    ring._consumer[0] = np.uint64((position - abi.EVENTS_BYTES + 2 * SIZE + 8) % 2**64)
    try:
        with world.counting(tx_packets=5, events_lost=3):
            for port in range(5):
                world.send(tcp("A", port))
    finally:
        ring._consumer[0] = position
    assert world.events()["client_port"].tolist() == [0, 1]
    assert world.data.events_lost >= 3
    world.send(tcp("A", 6))
    assert world.events()["client_port"].tolist() == [6]


def test_the_ring_goes_round(world: World) -> None:
    """Records lie across the end of the ring as anywhere else."""
    ring = world.data._rings["events"]
    assert ring is not None
    until = int(ring._producer[0]) + abi.EVENTS_BYTES + 3 * SIZE
    states = [State.ESTABLISHED, State.FIN_WAIT, State.CLOSE]
    frames = [tcp(flags) for flags in ("S", "A", "FA", "R")]
    while int(ring._producer[0]) < until:
        for _ in range(500):
            for frame in frames:
                world.send(frame)
        events = world.events()
        assert len(events) == 1500
        assert (events["state"].reshape(-1, 3) == states).all()
        assert (events["client_port"] == 1000).all()


def test_a_snapshot_says_what_packets_said(world: World) -> None:
    world.send(tcp("S", 1))
    world.send(tcp("A", 1))
    world.send(udp(2))
    world.send(tcp("S", 3))
    world.age(10)
    rows = np.sort(world.rows(), order="client_port")
    assert rows["state"].tolist() == [State.ESTABLISHED, State.UDP, State.SYN_RECV]
    assert rows["protocol"].tolist() == [6, 17, 6]
    assert rows["virtual_port"].tolist() == [80, 53, 80]
    assert set(rows["real"].tolist()) <= {int(real(1).address), int(real(2).address)}
    assert all(9 <= idle_s <= 11 for idle_s in rows["idle_s"].tolist())


def test_what_ran_out_is_not_in_a_snapshot(world: World) -> None:
    world.send(tcp("S"))
    world.age(abi.ticks(60) + 1)
    assert len(world.rows()) == 0


def test_a_snapshot_installed_is_the_same_snapshot(world: World) -> None:
    homes = {port: world.real_of(tcp("S", port)) for port in range(1000, 1050)}
    world.age(5)
    before = np.sort(world.rows())
    world.forget()
    assert world.data.install(before) == (50, 0)
    after = np.sort(world.rows())
    assert np.abs(before["idle_s"].astype(int) - after["idle_s"]).max() <= 2
    assert ageless(after) == ageless(before)
    assert {port: world.real_of(tcp("A", port)) for port in homes} == homes


def test_reals_are_found_by_address_whatever_their_index(own: World) -> None:
    """Another director numbered them in another order."""
    own.apply(
        Service(UDP_KEY, "rr", (real(3), real(2), real(1))),
        Service(TCP_KEY, "rr", (real(2), real(9), real(1)), real(8)),
        Service(TCP_KEY._replace(port=0), "rr", (real(5), real(1))),
    )
    numbers = {1: 80, 2: 80, 8: 80, 9: 80, 5: 443}
    rows = [row(1000 + n, real(n).address, virtual_port=port) for n, port in numbers.items()]
    rows += [row(2000, real(3).address, 17, State.UDP, virtual_port=53), row(3000, real(5).address)]
    assert own.data.install(np.concatenate(rows)) == (7, 0)
    for number, port in numbers.items():
        frame = tcp("A", 1000 + number, dport=port)
        assert own.send(frame) == gated(frame, mac_of(number))
    assert own.send(udp(2000)) == gated(udp(2000), mac_of(3))
    assert own.send(tcp("A", 3000)) == gated(tcp("A", 3000), mac_of(5)), "from before its port had a service of its own"


UNKNOWN = {
    "a real of nobody": row(to=real(77).address),
    "a virtual of nobody": row(virtual_port=81),
    "this director, which is no real here": row(to=LOCAL),
}
SENSELESS = {
    "no state": row(state=State.NONE),
    "a state that is none": row(state=12),
    "TCP with UDP's state": row(state=State.UDP),
    "UDP with TCP's state": row(protocol=17, virtual_port=53, state=State.ESTABLISHED),
    "another protocol": row(protocol=47),
    "run out": row(state=State.CLOSE, idle_s=60),
}


@pytest.mark.parametrize("rows", UNKNOWN.values(), ids=UNKNOWN)
def test_rows_of_unknown_reals_are_counted_and_left_out(world: World, rows: Rows) -> None:
    assert world.data.install(rows) == (0, 1)
    assert world.entries() == []


@pytest.mark.parametrize("rows", SENSELESS.values(), ids=SENSELESS)
def test_senseless_rows_are_left_out(world: World, rows: Rows) -> None:
    assert world.data.install(np.concatenate([rows, row(port=7)])) == (1, 0)
    assert [int(key["client_port"]) for key, _ in world.entries()] == [7]


def test_of_several_rows_of_one_connection_the_last_counts_and_once(world: World) -> None:
    """As when it was opened and established since the last message."""
    world.apply(Service(TCP_KEY, "lc", (real(1), real(2))))
    opened, established = (row(to=real(1).address, state=state) for state in (State.SYN_RECV, State.ESTABLISHED))
    assert world.data.install(np.concatenate([opened, row(port=7), established])) == (2, 0)
    assert sorted(world.rows()["state"].tolist()) == [State.ESTABLISHED, State.ESTABLISHED]
    assert world.data._maps()._loads.counts().sum(axis=1).tolist() == [2, 0]


def test_nothing_installed(world: World) -> None:
    assert world.data.install(np.empty(0, CONNECTION)) == (0, 0)


def test_a_retired_real_is_still_known(world: World) -> None:
    world.apply_reals(real(2))
    assert world.data.install(row(to=real(1).address)) == (1, 0)
    assert world.send(tcp("A")) == gated(tcp("A"), mac_of(1))


@pytest.mark.parametrize(
    ("ours_s", "theirs_s", "winner"),
    [(0, 0, "theirs"), (100, 0, "theirs"), (1, 2, "theirs"), (0, 1, "theirs"), (0, 6, "ours"), (5, 100, "ours")],
)
def test_who_saw_the_connection_later_is_right(world: World, ours_s: int, theirs_s: int, winner: str) -> None:
    """Up to about two seconds, the one that tells is right: its news are younger than ours."""
    world.apply_reals(real(1), real(2))
    world.data.install(row(to=real(1).address, state=State.ESTABLISHED, idle_s=ours_s))
    installed, unknown = world.data.install(row(to=real(2).address, state=State.ESTABLISHED, idle_s=theirs_s))
    assert (installed, unknown) == ((1, 0) if winner == "theirs" else (0, 0))
    expected = real(2) if winner == "theirs" else real(1)
    assert world.rows()["real"].tolist() == [int(expected.address)]


@pytest.mark.parametrize("finished", sorted(REUSABLE))
@pytest.mark.parametrize("opened", [State.SYN_RECV, State.ESTABLISHED])
def test_what_crosses_does_not_change_places(world: World, opened: State, finished: State) -> None:
    """The ports were used again here, while the peer still has the connection before, and both tell each other."""
    world.apply_reals(real(1), real(2))
    before = row(to=real(1).address, state=finished)
    since = row(to=real(2).address, state=opened)
    for ours, theirs in ((since, before), (before, since)):
        world.data.install(ours)
        world.data.install(theirs)
        assert ageless(world.rows()) == ageless(since)


@pytest.mark.parametrize("theirs_s", [0, 1, 9])
def test_who_has_the_address_knows_better(world: World, theirs_s: int) -> None:
    """What a peer owes it tells when another is active already, which has seen more of these connections since."""
    world.apply_reals(real(1), real(2))
    ours = row(to=real(1).address, state=State.FIN_WAIT, idle_s=1)
    theirs = row(to=real(1).address, idle_s=theirs_s)
    world.data.install(ours)
    assert world.data.install(theirs, Ours.AS_LATE) == (0, 0)
    assert world.rows()["state"].tolist() == [State.FIN_WAIT]


def test_also_of_who_has_the_address_ports_are_used_again(world: World) -> None:
    """The client opened a connection through the peer, while that was frozen and we were about to take over."""
    world.apply_reals(real(1), real(2))
    world.data.install(row(to=real(1).address, state=State.FIN_WAIT))
    assert world.data.install(row(to=real(2).address, idle_s=1), Ours.AS_LATE) == (1, 0)
    assert world.rows()["real"].tolist() == [int(real(2).address)]


def test_what_is_clearly_later_is_news_to_everybody(world: World) -> None:
    world.apply_reals(real(1), real(2))
    world.data.install(row(to=real(1).address, idle_s=5))
    assert world.data.install(row(to=real(2).address), Ours.AS_LATE) == (1, 0)
    assert world.data.install(row(to=real(1).address), Ours.ALL) == (0, 0)
    assert world.rows()["real"].tolist() == [int(real(2).address)]


def test_a_half_open_connection_is_an_entry_of_ours(world: World) -> None:
    """A peer that was long away tells of the one that had these ports before."""
    world.apply_reals(real(1), real(2))
    assert world.send(tcp("S")) == gated(tcp("S"), mac_of(1))
    assert world.data.install(row(to=real(2).address, idle_s=5), Ours.LATER) == (0, 0)
    assert world.data.install(row(to=real(2).address), Ours.AS_LATE) == (0, 0)
    assert world.send(tcp("A")) == gated(tcp("A"), mac_of(1))


def test_news_of_a_half_open_connection_end_it(world: World) -> None:
    """Its client sent the SYN again, through the peer."""
    world.apply_reals(real(1), real(2))
    world.send(tcp("S"))
    assert world.data.install(row(to=real(2).address)) == (1, 0)
    assert world.send(tcp("A")) == gated(tcp("A"), mac_of(2))
    held = [destination for service in world.data.held() for destination in service.destinations]
    assert {one.address: one.active for one in held if one.active or one.inactive} == {real(2).address: 1}


BEFORE = row(to=real(2).address, state=State.FIN_WAIT)
"""Of the connection that had these ports before, as a peer tells it."""


def test_a_connection_that_becomes_whole_while_rows_are_looked_at_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the table, where it is not yet, and that at half-open ones, where it is no more."""
    world.apply_reals(real(1))
    assert world.send(tcp("S")) == gated(tcp("S"), mac_of(1))
    meanwhile(monkeypatch, Embryos, "find", lambda: world.send(tcp("A")))
    assert world.data.install(BEFORE, Ours.AS_LATE) == (0, 0)
    assert world.send(tcp("A")) == gated(tcp("A"), mac_of(1))
    assert world.rows()["real"].tolist() == [int(real(1).address)]


@pytest.mark.parametrize(("ours", "step"), [(Ours.AS_LATE, "insert"), (Ours.LATER, "update")])
def test_a_connection_that_opens_before_rows_are_written_stays(
    world: World, monkeypatch: pytest.MonkeyPatch, ours: Ours, step: str
) -> None:
    world.apply_reals(real(1))
    meanwhile(monkeypatch, Map, step, lambda: world.send(tcp("S")))
    assert world.data.install(np.concatenate([BEFORE, row(port=7)]), ours) == (1, 0)
    assert world.send(tcp("A")) == gated(tcp("A"), mac_of(1))
    assert sorted(world.rows()["client_port"].tolist()) == [7, 1000]


def test_what_a_packet_changes_before_rows_are_written_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.apply_reals(real(1))
    world.data.install(row(to=real(2).address, state=State.FIN_WAIT, idle_s=9))
    meanwhile(monkeypatch, Map, "replace", lambda: world.send(tcp("S")), lambda: world.send(tcp("A")))
    assert world.data.install(BEFORE, Ours.AS_LATE) == (0, 0)
    assert world.send(tcp("A")) == gated(tcp("A"), mac_of(1))


def test_a_finished_connection_is_news_of_the_same_real(world: World) -> None:
    world.apply_reals(real(1))
    world.data.install(row(state=State.ESTABLISHED))
    world.data.install(row(state=State.FIN_WAIT, idle_s=1))
    assert world.rows()["state"].tolist() == [State.FIN_WAIT]


def test_what_finished_clearly_later_with_another_real_is_news(world: World) -> None:
    world.apply_reals(real(1), real(2))
    world.data.install(row(to=real(1).address, state=State.ESTABLISHED, idle_s=5))
    world.data.install(row(to=real(2).address, state=State.FIN_WAIT))
    assert world.rows()["real"].tolist() == [int(real(2).address)]


def test_what_another_clock_told_a_moment_ago_is_not_told_again(world: World) -> None:
    """User space and other CPUs may be a tick ahead of the program's clock."""
    world.apply_reals(real(1))
    world.send(tcp("S"))
    world.send(tcp("A"))
    world.events()
    world.edit(last_seen_t=View.now_t() + 2, synced_t=View.now_t() + 2)
    assert world.send(tcp("A")) == gated(tcp("A"), mac_of(1))
    assert len(world.events()) == 0


def test_installed_connections_are_not_told_back(world: World) -> None:
    world.apply_reals(real(1))
    world.data.install(row())
    world.send(tcp("A"))
    assert len(world.events()) == 0


def test_tens_of_thousands(world: World) -> None:
    """More than one batch, more than one client: nothing is lost, nothing is double."""
    count = 50_000
    rows = np.repeat(row(), count)
    rows["client"] += np.arange(count, dtype="u4") % 7
    rows["client_port"] = np.arange(count) // 7 + 1024
    rows["real"][::2] = int(real(2).address)
    assert world.data.install(rows) == (count, 0)
    snapshot = world.rows()
    assert snapshot["idle_s"].max() <= 5
    snapshot["idle_s"] = 0
    assert np.sort(snapshot).tolist() == np.sort(rows).tolist()
    held = world.data.held()[0]
    assert [(d.active, d.inactive) for d in held.destinations] == [(count // 2, 0)] * 2
    sweep = world.data.sweep()
    assert (sweep.live, sweep.expired) == (count, 0)
    world.edit_all(last_seen_t=View.now_t() - abi.ticks(900) - 1)
    sweep = world.data.sweep()
    assert (sweep.live, sweep.expired) == (0, count)
    assert world.entries() == []
