"""Holds the fragments that came before the first of their datagram (bpf/fragment.h), and sends them after it.

The program itself says where they go: a fragment that may leave is put through it once more, by BPF_PROG_TEST_RUN, and
what comes out is sent as it is. So there is one place where packets are forwarded, and one where they are counted.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence

import structlog

from lb import bpf
from lb.datapath.attach import interface_mac
from lb.datapath.path import DataPath
from lb.earlies import Earlies
from lb.errors import DataPathError

log = structlog.get_logger(__name__)


class Fragments:
    """At work in the running loop until closed. interfaces: where the packet path is attached."""

    def __init__(self, data: DataPath, interfaces: Sequence[str]) -> None:
        self._data = data
        self._interfaces = interfaces
        self._earlies = Earlies()
        self._unsent = 0
        self._expiry: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.setblocking(False)
        self._fd = data.early_fd
        self._loop.add_reader(self._fd, self._read)

    @property
    def lost(self) -> int:
        """Frames that nobody came for, or that could not be sent."""
        return self._earlies.given_up + self._unsent

    def close(self) -> None:
        """Hold nothing any more."""
        self._loop.remove_reader(self._fd)
        if self._expiry is not None:
            self._expiry.cancel()
        self._socket.close()

    def _read(self) -> None:
        for datagram, frame in self._data.read_earlies():
            if not frame:
                self._send(self._earlies.take(datagram))
            elif self._data.first_has_come(datagram):
                self._send((frame,))
            else:
                self._earlies.hold(datagram, frame, self._loop.time())
        self._watch_expiry()

    def _watch_expiry(self) -> None:
        until_s = self._earlies.next_s
        if until_s is not None and self._expiry is None:
            self._expiry = self._loop.call_at(until_s, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        self._earlies.expire(self._loop.time())
        self._watch_expiry()

    def _send(self, frames: Iterable[bytes]) -> None:
        for frame in frames:
            try:
                verdict, out = self._data.run(frame)
                if verdict in (bpf.TX, bpf.REDIRECT):
                    self._socket.sendto(out, (self._leaves_by(out), 0))
                    continue
            except (DataPathError, OSError) as error:
                log.debug("a fragment could not be sent", error=str(error))
            self._unsent += 1

    def _leaves_by(self, frame: bytes) -> str:
        """The interface whose MAC the program gave it as its sender's."""
        return next((name for name in self._interfaces if interface_mac(name) == frame[6:12]), self._interfaces[0])
