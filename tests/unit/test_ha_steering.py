"""What the kernel gives to which socket of a port."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from ha.steering import steer
from tests.unit.ha_pair import PATIENCE_S, addresses


@contextlib.contextmanager
def steered(host: str, *peers: str) -> Iterator[list[socket.socket]]:
    """The sockets of one port: strangers', then each peer's."""
    with contextlib.ExitStack() as stack:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = [stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in ("", *peers)]
        for sock in made:
            sock.settimeout(PATIENCE_S)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made[0].bind((host, 0))
        steer(made[0], peers)
        for sock in made[1:]:
            sock.bind(made[0].getsockname())
        yield made


def say(source: str, to: socket.socket, words: bytes) -> None:
    """A datagram from that address to the port of a socket."""
    with socket.socket(to.family, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.sendto(words, to.getsockname())


def test_each_peer_has_a_socket_and_strangers_share_one() -> None:
    host, peer, stranger = addresses()
    with steered(host, "127.0.0.77", peer) as (strangers, nobodys, peers):
        say(peer, strangers, b"of a peer")
        say(stranger, strangers, b"of a stranger")
        assert strangers.recv(100) == b"of a stranger"
        assert peers.recv(100) == b"of a peer"
        nobodys.setblocking(False)
        with pytest.raises(BlockingIOError):
            nobodys.recv(100)


@pytest.mark.parametrize(("peers", "place"), [(("2001:db8::1", "::1"), 2), (("2001:db8::1", "::2"), 0)])
def test_ipv6(peers: tuple[str, str], place: int) -> None:
    with steered("::1", *peers) as sockets:
        say("::1", sockets[0], b"hello")
        assert sockets[place].recv(100) == b"hello"
