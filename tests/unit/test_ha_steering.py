"""What the kernel gives to which socket of a port."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from ha.heartbeat import AHEAD
from ha.steering import MOST, Steering
from ha.wire import PASS_AT
from tests.unit.ha_pair import PATIENCE_S, addresses

CHANGES = 2_000


@contextlib.contextmanager
def steered(host: str, *peers: str) -> Iterator[tuple[Steering, list[socket.socket]]]:
    """With the sockets of one port: strangers', then each peer's, then those for what has no pass of its peer."""
    with contextlib.ExitStack() as stack:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = [stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in ("", *peers, *peers)]
        for sock in made:
            sock.settimeout(PATIENCE_S)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made[0].bind((host, 0))
        steering = stack.enter_context(contextlib.closing(Steering(made[0], peers)))
        for sock in made[1:]:
            sock.bind(made[0].getsockname())
        yield steering, made


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
    with steered(host, "127.0.0.77", peer) as (steering, sockets):
        strangers, nobodys, peers, doubtful_of_nobody, doubtful = sockets
        steering.expect("127.0.0.77", [1, 2])
        steering.expect(peer, [7, 2**32 - 1, 9])
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
        steering.expect("127.0.0.77", [])
        steering.expect(peer, range(1000, 1000 + MOST + 1))
        for word in (7, 1000, 1000 + MOST - 1, 1000 + MOST):
            say(peer, strangers, passing(word))
        assert [peers.recv(100), peers.recv(100)] == [passing(1000), passing(1000 + MOST - 1)]
        assert [doubtful.recv(100), doubtful.recv(100)] == [passing(7), passing(1000 + MOST)]
        assert_empty(strangers, nobodys, peers, doubtful_of_nobody, doubtful)


@pytest.mark.parametrize(("peers", "place"), [(("2001:db8::1", "::1"), 2), (("2001:db8::1", "::2"), 0)])
def test_ipv6(peers: tuple[str, str], place: int) -> None:
    with steered("::1", *peers) as (steering, sockets):
        for peer in peers:
            steering.expect(peer, [3, 4])
        say("::1", sockets[0], passing(4))
        assert sockets[place].recv(100) == passing(4)
        say("::1", sockets[0], passing(5))
        assert sockets[place and place + 2].recv(100) == passing(5)


def test_the_largest_cluster_has_room() -> None:
    """More than eight directors are not accepted. All passes of all, and others after them."""
    peers = [f"2001:db8::{n}" for n in range(6)] + ["::1"]
    with steered("::1", *peers) as (steering, sockets):
        for first in (0, 2**32 - MOST):
            for peer in peers:
                steering.expect(peer, range(first, first + MOST))
        for word in (0, MOST - 1, 2**32 - MOST, 2**32 - 1):
            say("::1", sockets[0], passing(word))
        assert [sockets[7].recv(100), sockets[7].recv(100)] == [passing(2**32 - MOST), passing(2**32 - 1)]
        assert [sockets[14].recv(100), sockets[14].recv(100)] == [passing(0), passing(MOST - 1)]


def test_what_has_a_pass_that_stays_comes_as_before_while_others_change() -> None:
    """Also what another CPU judges while they change; with programs that were replaced Linux 5.10 panicked here."""
    host, peer, _ = addresses()
    with steered(host, peer) as (steering, (strangers, peers, doubtful)):
        steering.expect(peer, [7])
        with talking(peer, strangers, passing(7)):
            for turn in range(1000, 1000 + CHANGES * AHEAD, AHEAD):
                steering.expect(peer, [7, *range(turn, turn + AHEAD - 1)])
                assert peers.recv(100) == passing(7)
        assert_empty(strangers, doubtful)


@contextlib.contextmanager
def talking(source: str, to: socket.socket, words: bytes) -> Iterator[None]:
    """A process that says it again and again."""
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            while True:
                say(source, to, words)
        os._exit(1)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
