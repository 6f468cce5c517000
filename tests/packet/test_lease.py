"""The lease: a director answers for the virtual addresses only as long as its control plane says so."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scapy.layers.l2 import ARP, Ether

from tests.packet.world import CLIENT, CLIENT_MAC, OUR_MAC, VIRTUAL, World, dropped, gated, mac_of, passed, real, tcp

REQUEST = Ether(dst="ff:ff:ff:ff:ff:ff", src=CLIENT_MAC) / ARP(op=1, hwsrc=CLIENT_MAC, psrc=CLIENT, pdst=str(VIRTUAL))
QUESTIONS = {
    "broadcast": bytes(REQUEST),
    "to us alone": bytes(Ether(dst=OUR_MAC, src=CLIENT_MAC) / REQUEST[ARP]),
    "a probe": bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=CLIENT_MAC) / ARP(op=1, psrc="0.0.0.0", pdst=str(VIRTUAL))),
    "padded": bytes(REQUEST) + bytes(18),
}


@pytest.mark.parametrize("frame", QUESTIONS.values(), ids=QUESTIONS)
def test_the_kernel_answers_while_the_lease_lasts(world: World, frame: bytes) -> None:
    world.data.renew_lease(60)
    with world.counting(passed=1):
        assert world.send(frame) == passed(frame)


@pytest.mark.parametrize("frame", QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize("until_s", [None, -0.1], ids=["given up", "run out"])
def test_nobody_answers_without_a_lease(world: World, frame: bytes, until_s: float | None) -> None:
    world.data.renew_lease(60)
    if until_s is None:
        world.data.renew_lease(0)
    else:
        held = world.maps["lease"].empty(1)
        held["until_ns"] = time.monotonic_ns() + int(until_s * 1e9)
        world.maps["lease"].update(np.zeros(1), held)
    with world.counting(arp_no_lease=1):
        assert world.send(frame) == dropped(frame)


def test_a_question_that_is_cut_off_is_foreign(world: World) -> None:
    frame = bytes(REQUEST)
    with world.counting():
        for length in range(14, len(frame)):
            assert world.send(frame[:length]) == passed(frame[:length])


def test_connections_are_forwarded_without_a_lease(world: World) -> None:
    world.apply_reals(real(1))
    for flags in ("S", "A", "PA"):
        assert world.send(tcp(flags)) == gated(tcp(flags), mac_of(1))
