"""One link that heartbeats go over: a UDP socket, bound so that it hears nothing else. Edge.

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
from ha.ways import Way
from lb.errors import NetworkError

log = structlog.get_logger(__name__)

_CONTROL: Final = 0xC0
"""Type of service: network control (DSCP CS6, RFC 4594), so that queues on the way let heartbeats through first."""

_AT_ONCE: Final = 64
"""Datagrams that are read before the loop gets its turn."""

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
        family = socket.AF_INET6 if ":" in way.bind else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._bind(family)
        except OSError as error:
            self.socket.close()
            raise cannot_listen(way.name, "UDP", port, error) from None
        self._loop.add_reader(self.socket, self._read)

    def _bind(self, family: int) -> None:
        way, sock = self._way, self.socket
        if family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _CONTROL)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _CONTROL)
        if way.interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the same group on several interfaces
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, way.interface.encode())
            self._join(family, socket.if_nametoindex(way.interface))
        sock.bind(self.at(way.bind))

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
        self._loop.remove_reader(self.socket)
        self.socket.close()

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data = self.socket.recv(1 << 16)
            except OSError:  # nothing more, or an error report of a datagram sent before
                return
            self._received(data)
