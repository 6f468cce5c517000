"""The heartbeat port: one UDP socket of this node's own address. Edge.

A plain socket instead of a loop's transport: a send that fails, as every send does while a link is down, must be as
harmless on every event loop as a lost datagram.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final

import structlog

from ha.counters import Counters
from lb.errors import NetworkError

log = structlog.get_logger(__name__)

_CONTROL: Final = 0xC0
"""Type of service: network control (DSCP CS6, RFC 4594), so that queues on the way let heartbeats through first."""

_AT_ONCE: Final = 64
"""Datagrams that are read before the loop gets its turn."""


def cannot_listen(host: str, protocol: str, port: int, error: OSError) -> NetworkError:
    """What to tell about a port that could not be bound."""
    return NetworkError(
        f"cannot listen on {host} {protocol} port {port}: {error.strerror}; "
        f"the address must be this host's and the port free: `ss -lnp` shows who has it"
    )


class Port:
    """Open from its making, in a running loop, until `close`. received: called with each datagram."""

    def __init__(self, host: str, port: int, received: Callable[[bytes], None], counters: Counters) -> None:
        """Raises NetworkError."""
        self._port = port
        self._received = received
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise cannot_listen(host, "UDP", port, error) from None
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _CONTROL)
        self._loop.add_reader(self._socket, self._read)

    def send(self, host: str, data: bytes) -> None:
        """Send it, if that can be done now."""
        try:
            self._socket.sendto(data, (host, self._port))
        except OSError as error:
            self._counters.add("heartbeat_unsent")
            if self._counters.worth_logging("heartbeat_unsent", self._loop.time()):
                reason = errno.errorcode.get(error.errno or 0, str(error))
                log.warning("a heartbeat could not be sent", to=host, reason=reason)

    def close(self) -> None:
        """Hear and send nothing more."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data = self._socket.recv(1 << 16)
            except OSError:  # nothing more, or an error report of a datagram sent before
                return
            self._received(data)
