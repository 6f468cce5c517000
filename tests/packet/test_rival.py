"""Another director at the same address: its claim ends our lease, and after a takeover it is asked what it knows."""

from __future__ import annotations

import pytest
from scapy.layers.l2 import ARP, Ether

from ha.takeover import announcement_frames
from tests.packet.world import (
    CLIENT,
    OUR_MAC,
    VIRTUAL,
    World,
    gated,
    mac_of,
    passed,
    real,
    tcp,
    udp,
)

RIVAL_MAC = bytes.fromhex("020000000bad")
OTHER_MACS = [bytes((2, 0, 0, 0, 9, n)) for n in range(6)]
QUESTION = bytes(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, psrc=CLIENT, pdst=str(VIRTUAL)))
REQUEST, REPLY = announcement_frames(RIVAL_MAC, VIRTUAL)


def answers(world: World) -> bool:
    """Does this host answer for the address?"""
    return world.send(QUESTION) == passed(QUESTION)


@pytest.mark.parametrize("frame", [REQUEST, REPLY], ids=["request", "reply"])
def test_an_announcement_of_another_host_ends_the_lease(world: World, frame: bytes) -> None:
    world.data.renew_lease(60)
    with world.counting(arp_no_lease=1):
        assert world.send(frame) == passed(frame), "whoever listens here shall know"
        assert not answers(world)


def test_who_means_to_stay_renews_it(world: World) -> None:
    world.data.renew_lease(60)
    world.send(REPLY)
    world.data.renew_lease(60)
    assert answers(world)


@pytest.mark.parametrize(
    "frame",
    [
        *announcement_frames(bytes.fromhex(OUR_MAC.replace(":", "")), VIRTUAL),
        *announcement_frames(RIVAL_MAC, VIRTUAL + 1),
        bytes(Ether(dst=OUR_MAC, src=RIVAL_MAC) / ARP(op=1, hwsrc=RIVAL_MAC, psrc="0.0.0.0", pdst=str(VIRTUAL))),
        REPLY[:-1],
    ],
    ids=["our own question", "our own reply", "a question for another", "another's reply", "a probe", "cut off"],
)
def test_nothing_else_does(world: World, frame: bytes) -> None:
    world.data.renew_lease(60)
    assert world.send(frame) == passed(frame)
    assert answers(world)


def referring(world: World, seconds: float = 60) -> World:
    """As after a takeover from the rival."""
    world.data.refer_to([RIVAL_MAC, *OTHER_MACS], seconds)
    world.data.renew_lease(60)
    return world


def test_the_predecessor_is_asked_about_unknown_segments(world: World) -> None:
    with referring(world).counting(referred=2):
        for flags in ("A", "FA"):
            assert world.send(tcp(flags)) == gated(tcp(flags), RIVAL_MAC)
    assert world.entries() == []


def test_the_predecessor_is_asked_whether_a_finished_connection_is_a_new_one(world: World) -> None:
    """Its client may have begun anew on that port, which only the predecessor was told."""
    world.apply_reals(real(1))
    for flags in ("S", "A", "FA"):
        world.send(tcp(flags))
    with referring(world).counting(referred=1):
        assert world.send(tcp("A")) == gated(tcp("A"), RIVAL_MAC)
    world.data.refer_to([RIVAL_MAC], 0)
    assert world.send(tcp("A")) == gated(tcp("A"), mac_of(1))


def test_known_and_new_connections_are_our_own(world: World) -> None:
    referring(world).apply_reals(real(1))
    for frame in (tcp("S"), tcp("A"), udp()):
        assert world.send(frame) == gated(frame, mac_of(1))


@pytest.mark.parametrize("mac", [RIVAL_MAC, *OTHER_MACS])
def test_what_a_director_sends_is_referred_no_further(world: World, mac: bytes) -> None:
    """Three that took over from each other, and are all active for a moment, would send it in a circle."""
    frame = tcp("A")[:6] + mac + tcp("A")[12:]
    with referring(world).counting(passed=1):
        assert world.send(frame) == passed(frame)


def test_after_a_while_the_kernel_resets_again(world: World) -> None:
    with referring(world, 0).counting(passed=1):
        assert world.send(tcp("A")) == passed(tcp("A"))


def test_who_has_lost_the_lease_asks_too(world: World) -> None:
    """A rival's announcement has ended it, or the role has gone back: the other one may know all the better."""
    referring(world).data.renew_lease(0)
    with world.counting(referred=1):
        assert world.send(tcp("A")) == gated(tcp("A"), RIVAL_MAC)


def test_a_predecessor_forwards_what_it_knows_without_a_lease(world: World) -> None:
    """The other half: what it is asked about goes to the real of the connection, under its own MAC."""
    world.apply_reals(real(1))
    world.send(tcp("S"))
    frame = tcp("A")[:6] + RIVAL_MAC + tcp("A")[12:]
    assert world.send(frame) == gated(frame, mac_of(1))
