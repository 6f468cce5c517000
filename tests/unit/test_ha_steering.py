"""What the kernel gives to which socket of a port."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from ha.heartbeat import AHEAD
from ha.steering import MOST, steer
from ha.wire import PASS_AT
from tests.unit.ha_pair import PATIENCE_S, addresses


@contextlib.contextmanager
def steered(host: str, *peers: str) -> Iterator[list[socket.socket]]:
    """The sockets of one port: strangers', then each peer's, then those for what has no pass of its peer."""
    with contextlib.ExitStack() as stack:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = [stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in ("", *peers, *peers)]
        for sock in made:
            sock.settimeout(PATIENCE_S)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made[0].bind((host, 0))
        steer(made[0], {peer: [] for peer in peers})
        for sock in made[1:]:
            sock.bind(made[0].getsockname())
        yield made


def say(source: str, to: socket.socket, words: bytes) -> None:
    """A datagram from that address to the port of a socket."""
    with socket.socket(to.family, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.sendto(words, to.getsockname())


def passing(word: int) -> bytes:
    """A datagram with that pass."""
    return bytes(PASS_AT) + word.to_bytes(4) + b"and more"


def assert_empty(*sockets: socket.socket) -> None:
    """Nothing has come there."""
    for sock in sockets:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(100)


def test_each_peer_has_two_sockets_and_strangers_share_one() -> None:
    host, peer, stranger = addresses()
    with steered(host, "127.0.0.77", peer) as (strangers, nobodys, peers, doubtful_of_nobody, doubtful):
        steer(strangers, {"127.0.0.77": [1, 2], peer: [7, 2**32 - 1, 9]})
        for word in (1, 8, 7, 2**32 - 1, 9, 0):
            say(peer, strangers, passing(word))
        say(stranger, strangers, passing(7))
        for word in (7, 2**32 - 1, 9):
            assert peers.recv(100) == passing(word)
        for word in (1, 8, 0):
            assert doubtful.recv(100) == passing(word)
        assert strangers.recv(100) == passing(7)
        say(peer, strangers, bytes(PASS_AT) + (7).to_bytes(4)[:3])
        assert len(strangers.recv(100)) == PASS_AT + 3, "too short to have one"
        steer(strangers, {"127.0.0.77": [], peer: list(range(1000, 1000 + MOST + 1))})
        for word in (7, 1000, 1000 + MOST - 1, 1000 + MOST):
            say(peer, strangers, passing(word))
        assert [peers.recv(100), peers.recv(100)] == [passing(1000), passing(1000 + MOST - 1)]
        assert [doubtful.recv(100), doubtful.recv(100)] == [passing(7), passing(1000 + MOST)]
        assert_empty(strangers, nobodys, peers, doubtful_of_nobody, doubtful)


@pytest.mark.parametrize(("peers", "place"), [(("2001:db8::1", "::1"), 2), (("2001:db8::1", "::2"), 0)])
def test_ipv6(peers: tuple[str, str], place: int) -> None:
    with steered("::1", *peers) as sockets:
        steer(sockets[0], {peer: [3, 4] for peer in peers})
        say("::1", sockets[0], passing(4))
        assert sockets[place].recv(100) == passing(4)
        say("::1", sockets[0], passing(5))
        assert sockets[place and place + 2].recv(100) == passing(5)


def test_the_largest_cluster_fits_into_a_program() -> None:
    """More than eight directors are not accepted; Linux takes 4,096 instructions."""
    peers = [f"2001:db8::{n}" for n in range(7)]
    with steered("::1", *peers) as sockets:
        steer(sockets[0], {peer: list(range(2**32 - AHEAD, 2**32)) for peer in peers})
