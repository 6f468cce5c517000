"""Announcements as the neighbours receive them, and what the kernel makes of them."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address

import pytest
import uvloop

from ha import takeover
from ha.takeover import Announcer, announcement_frames
from lb import namespaces
from lb.errors import NetworkError
from tests.netns.conftest import ip, wait_for

VIP = IPv4Address("10.77.0.100")
MAC = bytes.fromhex("02000000dead")
ETH_P_ARP = 0x0806
ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA = 263, 8


def run_in(namespace: str, main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(main(), 30)

    with namespaces.inside(namespace, "here"):
        uvloop.run(bounded())


def listener(namespace: str, protocol: int = ETH_P_ARP) -> socket.socket:
    """Receives every ARP frame that arrives in a namespace, or every one of another protocol."""
    with namespaces.inside(namespace, "there"):
        heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(protocol))
        heard.bind(("eth0", protocol))
        return heard


def frames(heard: socket.socket) -> list[bytes]:
    """What has arrived about the virtual address."""
    found: list[bytes] = []
    while True:
        try:
            frame = heard.recv(2000)
        except BlockingIOError:
            return found
        if frame[28:32] == VIP.packed:
            found.append(frame)


def test_every_round_arrives_whole(segment: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "ANNOUNCE_AT_S", (0.0, 0.02, 0.04))
    here, there = segment

    with listener(there) as heard:

        async def main() -> None:
            announcer = Announcer("eth0", MAC)
            announcer.announce([VIP])
            assert frames(heard) == list(announcement_frames(MAC, VIP)), "the first round goes out at once"
            arrived: list[bytes] = []
            while len(arrived) < 4:
                arrived += frames(heard)
                await asyncio.sleep(0.005)
            assert arrived == 2 * list(announcement_frames(MAC, VIP))
            announcer.close()

        run_in(here, main)


def test_who_slept_does_not_go_on_announcing(segment: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another may have taken over meanwhile."""
    monkeypatch.setattr(takeover, "ANNOUNCE_AT_S", (0.0, 0.02, 0.3))
    here, there = segment

    with listener(there) as heard:

        async def main() -> None:
            announcer = Announcer("eth0", MAC)
            announcer.announce([VIP])
            time.sleep(0.03 + takeover.TOO_LATE_S)  # noqa: ASYNC251
            await asyncio.sleep(0)
            assert len(frames(heard)) == 2
            arrived = 0
            while arrived < 2:  # the last round is not late
                arrived += len(frames(heard))
                await asyncio.sleep(0.005)
            assert arrived == 2
            announcer.close()

        run_in(here, main)


def test_in_vlans_too(segment: tuple[str, str]) -> None:
    """A packet socket gets the frame without its tag, and the tag beside it."""
    here, there = segment

    with listener(there, ETH_P_ALL) as heard:
        heard.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)

        async def main() -> None:
            announcer = Announcer("eth0", MAC)
            announcer.vlans = (10, 4094)
            announcer.announce([VIP])
            announcer.close()
            arrived: list[tuple[int, bytes]] = []
            while len(arrived) < 6:
                arrived += tagged_frames(heard)
                await asyncio.sleep(0.005)
            plain = list(announcement_frames(MAC, VIP))
            assert arrived == [(vlan, frame) for vlan in (0, 10, 4094) for frame in plain]

        run_in(here, main)


def tagged_frames(heard: socket.socket) -> list[tuple[int, bytes]]:
    """VLAN, 0 for none, and frame of each that has arrived about the virtual address."""
    found: list[tuple[int, bytes]] = []
    while True:
        try:
            frame, control, _, _ = heard.recvmsg(2000, 64)
        except BlockingIOError:
            return found
        ((_, _, auxiliary),) = control
        tci = struct.unpack_from("=IIIHHHH", auxiliary)[5]  # struct tpacket_auxdata, linux/if_packet.h
        if frame[28:32] == VIP.packed:
            found.append((tci, frame))


def test_who_is_hushed_leaves_out_rounds_and_repeats_itself_all_the_same(
    segment: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "ANNOUNCE_AT_S", (0.0, 0.02))
    here, there = segment

    with listener(there) as heard:

        async def main() -> None:
            hushed = Announcer("eth0", MAC, repeat_s=0.3)
            begun_s = asyncio.get_running_loop().time()
            hushed.announce([VIP])
            hushed.hush()
            arrived = frames(heard)
            while len(arrived) < 4:
                arrived += frames(heard)
                await asyncio.sleep(0.005)
            assert asyncio.get_running_loop().time() > begun_s + 0.3, "the second round was left out"
            hushed.close()

        run_in(here, main)


def test_after_cancel_there_is_silence(segment: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "ANNOUNCE_AT_S", (0.0, 0.02))
    here, there = segment

    with listener(there) as heard:

        async def main() -> None:
            cancelled, witness = Announcer("eth0", MAC), Announcer("eth0", bytes.fromhex("020000000bad"))
            cancelled.announce([VIP])
            cancelled.cancel()
            witness.announce([VIP])
            arrived = frames(heard)
            while len(arrived) < 6:  # one round of the cancelled, two of the witness
                arrived += frames(heard)
                await asyncio.sleep(0.005)
            assert [frame[6:12] for frame in arrived].count(MAC) == 2
            cancelled.close()
            witness.close()

        run_in(here, main)


def test_a_neighbour_moves_to_the_announced_mac(segment: tuple[str, str]) -> None:
    here, there = segment
    ip("-n", there, "neigh", "add", str(VIP), "lladdr", "02:00:00:00:00:01", "dev", "eth0", "nud", "stale")

    async def main() -> None:
        announcer = Announcer("eth0", MAC)
        announcer.announce([VIP])
        announcer.close()

    run_in(here, main)
    wait_for("the new MAC", lambda: MAC.hex(":") in ip("-n", there, "neigh", "show", "to", str(VIP)))


def test_a_link_that_is_down_ends_nothing(segment: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "ANNOUNCE_AT_S", (0.0, 0.05))
    here, there = segment
    ip("-n", here, "link", "set", "eth0", "down")

    with listener(there) as heard:

        async def main() -> None:
            announcer = Announcer("eth0", MAC)
            announcer.announce([VIP])
            ip("-n", here, "link", "set", "eth0", "up")
            arrived: list[bytes] = []
            while len(arrived) < 2:
                arrived += frames(heard)
                await asyncio.sleep(0.005)
            announcer.close()

        run_in(here, main)


def test_no_such_interface(segment: tuple[str, str]) -> None:
    async def main() -> None:
        with pytest.raises(NetworkError, match="cannot announce on eth7"):
            Announcer("eth7", MAC)

    run_in(segment[0], main)
