"""Another host at the same address, on real wires."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address

import pytest
import uvloop

from ha import rivals
from ha.rivals import Rivals
from ha.takeover import announcement_frames
from lb import namespaces
from lb.errors import NetworkError
from tests.netns.conftest import ip

VIP = IPv4Address("10.77.0.100")
NOBODYS = IPv4Address("10.77.0.101")
OTHERS = IPv4Address("10.77.0.102")


def run_in(namespace: str, main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(main(), 30)

    with namespaces.inside(namespace, "here"):
        uvloop.run(bounded())


def nothing(*_: object) -> None:
    """Is told, and does nothing."""


def mac_in(namespace: str) -> bytes:
    return bytes.fromhex(ip("netns", "exec", namespace, "cat", "/sys/class/net/eth0/address").strip().replace(":", ""))


def test_a_holder_is_found_by_asking(segment: tuple[str, str]) -> None:
    here, there = segment
    mine, theirs = mac_in(here), mac_in(there)

    async def main() -> None:
        looking = Rivals("eth0", mine, nothing, nothing)
        assert await looking.holder([VIP]) is None
        ip("-n", here, "address", "add", f"{VIP}/32", "dev", "eth0")
        assert await looking.holder([VIP]) is None, "what we have ourselves is nobody else's"
        ip("-n", there, "address", "add", f"{VIP}/32", "dev", "eth0")
        assert await looking.holder([NOBODYS, VIP]) == (VIP, theirs)
        ip("-n", here, "link", "set", "eth0", "down")
        assert await looking.holder([VIP]) is None, "nobody can be asked"
        looking.close()

    run_in(here, main)


def test_a_rival_is_told_of_until_it_has_gone(segment: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "ROUND_S", 0.05)
    here, there = segment
    mine, theirs = mac_in(here), mac_in(there)
    told: asyncio.Queue[tuple[IPv4Address, bytes]] = asyncio.Queue()
    claims: list[bytes] = []

    async def main() -> None:
        defending = Rivals("eth0", mine, lambda: claims.append(mine), lambda *rival: told.put_nowait(rival))
        defending.defend([VIP], [VIP])
        with namespaces.inside(there, "there"):
            rival = Rivals("eth0", theirs, nothing, nothing)
        ip("-n", there, "address", "add", f"{VIP}/32", "dev", "eth0")
        for frame in announcement_frames(theirs, VIP):
            rival._sockets[4].send(frame)
        for _ in range(3):
            assert await told.get() == (VIP, theirs)
            assert claims
            claims.clear()
            assert defending.rival == (VIP, theirs)
        ip("-n", there, "address", "del", f"{VIP}/32", "dev", "eth0")
        while defending.rival:
            await told.get()
        assert defending._round is None
        defending.close()
        rival.close()

    run_in(here, main)


def test_who_holds_nothing_defends_nothing(segment: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "ROUND_S", 0.0)
    here, there = segment
    mine, theirs = mac_in(here), mac_in(there)
    told: list[object] = []

    async def main() -> None:
        looking = Rivals("eth0", mine, nothing, lambda *rival: told.append(rival))
        looking.defend([VIP], [VIP])
        looking.defend([], [VIP])
        ip("-n", there, "address", "add", f"{VIP}/32", "dev", "eth0")
        assert await looking.holder([VIP]) == (VIP, theirs), "it was heard"
        await asyncio.sleep(0)
        assert (told, looking._round) == ([], None)
        looking.close()

    run_in(here, main)


def test_a_claim_of_what_is_anothers_by_right_is_told_of_and_no_more(segment: tuple[str, str]) -> None:
    """With split roles both announce: the packet path has ended our lease, which is for our own address, too."""
    here, there = segment
    mine, theirs = mac_in(here), mac_in(there)
    claims: asyncio.Queue[bytes] = asyncio.Queue()

    async def main() -> None:
        defending = Rivals("eth0", mine, lambda: claims.put_nowait(mine), nothing)
        defending.defend([VIP], [VIP, OTHERS])
        with namespaces.inside(there, "there"):
            other = Rivals("eth0", theirs, nothing, nothing)
        for frame in (*announcement_frames(theirs, NOBODYS), *announcement_frames(theirs, OTHERS)):
            other._sockets[4].send(frame)
        for _ in announcement_frames(theirs, OTHERS):
            await claims.get()
        assert claims.empty()
        assert defending._round is None
        defending.close()
        other.close()

    run_in(here, main)


def test_no_such_interface(segment: tuple[str, str]) -> None:
    async def main() -> None:
        with pytest.raises(NetworkError, match="eth7"):
            Rivals("eth7", bytes(6), nothing, nothing)

    run_in(segment[0], main)
