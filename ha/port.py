"""One link that heartbeats go over: UDP sockets, bound so that they hear nothing else. Edge.

Between the nodes' own addresses each peer's heartbeats have a socket of their own (`ha.steering`), and so room in the
kernel that nothing else can take. What comes from its address and is not what it sends next goes to a second socket;
what others send goes to the first of all. Of these only so much is read as counting it may cost, however much there is:
the rest is left to the kernel, and its number counted.

A plain socket instead of a loop's transport: a send that fails, as every send does while a link is down, must be as
harmless on every event loop as a lost datagram.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable
from typing import Final

import structlog

from ha.counters import Counters
from ha.steering import Steering
from ha.ways import Way
from lb.errors import NetworkError

log = structlog.get_logger(__name__)

_CONTROL: Final = 0xC0
"""Type of service: network control (DSCP CS6, RFC 4594), so that queues on the way let heartbeats through first."""

_AT_ONCE: Final = 64
"""Datagrams that are read before the loop gets its turn."""

_REST_S: Final = 0.01
"""After so many a socket that anybody can send to is not read for this long."""

_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("9I")
"""Of a socket; the last number says how many datagrams found no room (linux/sock_diag.h, SK_MEMINFO_DROPS)."""

_GONE: Final = frozenset({errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL})
"""The interface that the socket is bound to is not there any more, though one of its name may be."""


def cannot_listen(host: str, protocol: str, port: int, error: OSError) -> NetworkError:
    """What to tell about a port that could not be bound."""
    return NetworkError(
        f"cannot listen on {host} {protocol} port {port}: {error.strerror}; "
        f"the address must be this host's and the port free: `ss -lnp` shows who has it"
    )


class Port:
    """Open from its making, in a running loop, until `close`. received: called with each datagram.

    gone: the interface has left us; a new Port is needed.
    """

    def __init__(self, way: Way, port: int, received: Callable[[bytes], None], counters: Counters) -> None:
        """Raises NetworkError."""
        self.gone = False
        self._way, self._port = way, port
        self._scope = 0
        self._received = received
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._resting: dict[socket.socket, asyncio.TimerHandle] = {}
        self._dropped: dict[socket.socket, int] = {}
        family = socket.AF_INET6 if ":" in way.bind else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._of_peers: list[socket.socket] = []
        self._doubtful: list[socket.socket] = []
        self._steering: Steering | None = None
        self._warned = False
        try:
            self._prepare(self.socket)
            self._bind()
            if way.kind == "unicast" and way.peers:
                self._steer()
        except OSError as error:
            self._close_sockets()
            raise cannot_listen(way.name, "UDP", port, error) from None
        for sock in (self.socket, *self._doubtful):
            self._loop.add_reader(sock, self._read_some, sock)
        for sock in self._of_peers:
            self._loop.add_reader(sock, self._read, sock)

    def _prepare(self, sock: socket.socket) -> None:
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _CONTROL)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _CONTROL)

    def _bind(self) -> None:
        way, sock = self._way, self.socket
        if way.interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the same group on several interfaces
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, way.interface.encode())
            self._join(sock.family, socket.if_nametoindex(way.interface))
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(self.at(way.bind))

    def _steer(self) -> None:
        """Where the kernel does not, heartbeats come with all the rest."""
        hosts = list(self._way.peers.values())
        try:
            self._steering = Steering(self.socket, hosts)
        except OSError as error:
            self._warn(error)
            return
        for sockets in (self._of_peers, self._doubtful):
            for _ in hosts:
                sock = socket.socket(self.socket.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                sockets.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.bind(self.at(self._way.bind))

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            log.warning("heartbeats and floods share sockets", link=self._way.name, reason=error.strerror)
        self._warned = True

    @property
    def steers(self) -> bool:
        """Are there sockets for single peers?"""
        return self._steering is not None

    def expect(self, peer: str, passes: list[int]) -> None:
        """Of what this peer sends next."""
        assert self._steering
        try:
            self._steering.expect(self._way.peers[peer], passes)
        except OSError as error:  # heartbeats come as doubtful ones then
            self._warn(error)

    def at(self, host: str) -> tuple[str, int] | tuple[str, int, int, int]:
        """Where to send for this host; with the interface, which a group of IPv6 has only there."""
        return (host, self._port, 0, self._scope) if self._scope else (host, self._port)

    def _join(self, family: int, index: int) -> None:
        way, sock = self._way, self.socket
        if way.kind == "broadcast":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        elif family == socket.AF_INET:
            member = struct.pack("4s4si", socket.inet_aton(way.bind), bytes(4), index)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, member)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        else:
            self._scope = index
            member = struct.pack("16si", socket.inet_pton(family, way.bind), index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)

    def send(self, host: str, data: bytes) -> None:
        """Send it, if that can be done now."""
        try:
            self.socket.sendto(data, self.at(host))
        except OSError as error:
            self.gone = self.gone or (error.errno in _GONE and bool(self._way.interface))
            self._counters.add("heartbeat_unsent")
            if self._counters.worth_logging("heartbeat_unsent", self._loop.time()):
                reason = errno.errorcode.get(error.errno or 0, str(error))
                log.warning("a heartbeat could not be sent", link=self._way.name, to=host, reason=reason)

    def close(self) -> None:
        """Hear and send nothing more."""
        for resting in self._resting.values():
            resting.cancel()
        for sock in self._sockets:
            self._loop.remove_reader(sock)
        self._close_sockets()

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()
        if self._steering:
            self._steering.close()

    @property
    def _sockets(self) -> list[socket.socket]:
        return [self.socket, *self._of_peers, *self._doubtful]

    def read(self) -> None:
        """What has come, before anything is concluded from silence."""
        for sock in self._sockets:
            if sock not in self._resting:
                self._read(sock)

    def _read_some(self, sock: socket.socket) -> None:
        if self._read(sock) == _AT_ONCE:
            self._loop.remove_reader(sock)
            self._resting[sock] = self._loop.call_later(_REST_S, self._read_on, sock)

    def _read_on(self, sock: socket.socket) -> None:
        del self._resting[sock]
        self._loop.add_reader(sock, self._read_some, sock)

    def _count_dropped(self, sock: socket.socket) -> None:
        numbers = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        dropped = _MEMINFO.unpack(numbers)[-1]
        self._counters.add("heartbeat_unread", dropped - self._dropped.get(sock, 0))
        self._dropped[sock] = dropped

    def _read(self, sock: socket.socket) -> int:
        """What has come, up to so much at once; how many."""
        self._count_dropped(sock)
        for count in range(_AT_ONCE):
            try:
                data = sock.recv(1 << 16)
            except OSError:  # nothing more, or an error report of a datagram sent before
                return count
            self._received(data)
        return _AT_ONCE
