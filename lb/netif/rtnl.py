"""Two rtnetlink sockets: `Rtnl` asks and gets its answer, `Listener` hands events to the running loop.

A request blocks only in name: the kernel works it off inside send(), so that the answer waits when recv() is
called (well under a millisecond); nothing here ever waits for the network.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

Message = Any
"""A decoded pyroute2 message: `['field']`, `.get_attr('NLA')` and `['header']`."""

_SOL_NETLINK = 270
_NETLINK_EXT_ACK = 11
_SO_RCVBUFFORCE = 33
_RECEIVE_BYTES = 1 << 17  # the kernel's dumps use at most 32 KiB a datagram, one link at most some more
_EVENT_BUFFER_BYTES = 4 << 20
_BATCH = 64  # datagrams a turn, so that a storm of events cannot hold the loop


def encode(
    kind: type[Message],
    number: int,
    flags: int = 0,
    fields: Mapping[str, int] = MappingProxyType({}),
    attrs: Mapping[str, Any] = MappingProxyType({}),
) -> bytes:
    """One request.

    kind: pyroute2's message class. number: RTM_…. flags: NLM_F_…. fields, attrs: as that class names them.
    """
    message = kind()
    message.update(fields)
    message["attrs"] = list(attrs.items())
    message["header"] |= {"type": number, "flags": flags | NLM_F_REQUEST, "sequence_number": 0, "pid": 0}
    message.encode()
    return bytes(message.data)


class Rtnl:
    """Asks the kernel and waits for what it says. Use it as a context manager."""

    def __init__(self) -> None:
        self._marshal = MarshalRtnl()
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._socket.bind((0, 0))

    def __enter__(self) -> Rtnl:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def call(
        self,
        kind: type[Message],
        number: int,
        flags: int = 0,
        fields: Mapping[str, int] = MappingProxyType({}),
        attrs: Mapping[str, Any] = MappingProxyType({}),
    ) -> list[Message]:
        """Send one request (see `encode`) and return its answer, empty for a mere acknowledgement.

        Raises OSError with the kernel's errno and, where it gives one, its own explanation.
        """
        dump = flags & NLM_F_DUMP == NLM_F_DUMP
        self._socket.send(encode(kind, number, flags if dump else flags | NLM_F_ACK, fields, attrs))
        answer: list[Message] = []
        while True:
            for message in self._marshal.parse(self._socket.recv(_RECEIVE_BYTES)):
                if message["header"]["type"] not in (NLMSG_ERROR, NLMSG_DONE):
                    answer.append(message)
                    continue
                _raise_for(message)
                return answer


def _raise_for(message: Message) -> None:
    if error := message["header"].get("error"):
        code = abs(getattr(error, "code", None) or error.errno)
        raise OSError(code, message.get_attr("NLMSGERR_ATTR_MSG") or os.strerror(code))


class Listener:
    """Events of some multicast groups, as callbacks of the running loop.

    groups: RTMGRP_… bits. on_event: each message. on_overrun: events were lost (ENOBUFS), read the state.
    on_refused: the errno of a `send` that the kernel refused.
    """

    def __init__(
        self,
        groups: int,
        on_event: Callable[[Message], None],
        on_overrun: Callable[[], None],
        on_refused: Callable[[int], None] | None = None,
    ) -> None:
        self._on_event = on_event
        self._on_overrun = on_overrun
        self._on_refused = on_refused
        self._marshal = MarshalRtnl()
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _EVENT_BUFFER_BYTES)
        self._socket.bind((0, groups))
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._readable)

    def send(self, request: bytes) -> None:
        """Send a request whose success nobody waits for; the effect comes back as an event."""
        self._socket.send(request)

    def close(self) -> None:
        """Stop listening; safe to call twice."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _readable(self) -> None:
        for _ in range(_BATCH):
            if self._socket.fileno() < 0:  # a callback closed us
                return
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._on_overrun()
                continue
            for message in self._marshal.parse(data):
                if message["header"]["type"] != NLMSG_ERROR:
                    self._on_event(message)
                elif message["error"] and self._on_refused:
                    self._on_refused(abs(message["error"]))
