"""Datagrams to one port sorted by the kernel: what a peer has just sent to a socket of its own. Edge.

Sockets that share a port (SO_REUSEPORT) are chosen by a program, which answers with the place of a socket in the order
of their binding. It sees the sender's address, which anybody may forge, and the datagram's pass (`ha.wire`), which
nobody can: it is good for one datagram. So whatever is made up, recorded or changed on the way goes to another socket
than heartbeats do, however much there is of it, before it costs us anything.

The program looks passes up in a map and stays the same for as long as its port. A program of the classic packet filter,
with the passes in its text, would have to be replaced for every few heartbeats, and until 2026 Linux freed the memory
of a replaced one while another CPU might still run it, and panicked (net/core/filter.c, sk_reuseport_prog_free; mended
by "bpf: Free reuseport cBPF prog after RCU grace period"). One of eBPF waits, but need not be replaced at all.

Connected sockets would sort by address, too, but collect errors: one, and libuv listens to them no more.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Final

import numpy as np

from ha.wire import PASS_AT
from lb import bpf

_SO_ATTACH_REUSEPORT_EBPF: Final = 52

MOST: Final = 200
"""Passes of one host."""

_HOST: Final = np.dtype("V16")
"""An address as on the wire, of IPv4 with zeros behind it."""
_PLACE: Final = np.dtype("u4")
_PASS: Final = np.dtype([("place", "u4"), ("pass", ">u4")])
_GIVEN: Final = np.dtype("u1")


class Steering:
    """Of the port that `first` alone is bound to. Sockets that are bound to it later get what these hosts send with one
    of their passes, in the order of the hosts; then as many what comes from there without. `first` gets all the rest.

    All of them need SO_REUSEPORT before they are bound, `first` too. Raises OSError.
    """

    def __init__(self, first: socket.socket, hosts: Sequence[str]) -> None:
        self._places = {host: place for place, host in enumerate(hosts, start=1)}
        self._given: dict[str, set[int]] = {host: set() for host in hosts}
        # Twice as many as there ever are: new ones come before old ones go.
        self._passes = _hash(_PASS, _GIVEN, 2 * MOST * len(hosts))
        try:
            self._attach(first)
        except OSError:
            self.close()
            raise

    def _attach(self, first: socket.socket) -> None:
        addresses = [ip_address(host) for host in self._places]
        with contextlib.closing(_hash(_HOST, _PLACE, len(addresses))) as sources:
            keys = np.array([address.packed.ljust(_HOST.itemsize, b"\0") for address in addresses], _HOST)
            sources.update(keys, np.array(list(self._places.values()), _PLACE))
            text = _text(addresses[0].version, sources.fd, self._passes.fd, len(addresses))
            program = bpf.load_program(bpf.PROG_TYPE_SOCKET_FILTER, text)
        try:
            first.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_EBPF, program)
        finally:
            os.close(program)

    def expect(self, host: str, passes: Iterable[int]) -> None:
        """At most MOST, and no others any more. What has one that stays comes as before meanwhile. Raises OSError."""
        given, wanted = self._given[host], set(list(passes)[:MOST])
        new, old = wanted - given, given - wanted
        given |= new  # should that fail half way, they go with the next ones
        self._passes.update(self._keys(host, new), np.ones(len(new), _GIVEN))
        self._passes.delete(self._keys(host, old))
        given -= old

    def _keys(self, host: str, passes: set[int]) -> bpf.Array:
        keys = np.empty(len(passes), _PASS)
        keys["place"], keys["pass"] = self._places[host], list(passes)
        return keys

    def close(self) -> None:
        """Give the map back. The program goes with the port's last socket."""
        self._passes.close()


def _hash(key: np.dtype[np.void], value: np.dtype[np.generic], entries: int) -> bpf.Map:
    fd = bpf.create_map(bpf.MAP_TYPE_HASH, key.itemsize, value.itemsize, entries)
    return bpf.Map(fd, key, value)


# ---------------------------------------------------------------------------------------------------- the program

_SOURCE: Final = {4: (12, 4), 6: (8, 16)}
"""Where in an IP header the sender's address is, and its bytes."""

_LOOKUP, _LOAD, _LOAD_FROM = 1, 26, 68
"""bpf_map_lookup_elem, bpf_skb_load_bytes, bpf_skb_load_bytes_relative (linux/bpf.h)."""
_IP_HEADER: Final = 1
"""BPF_HDR_START_NET"""
_MAP: Final = 1
"""BPF_PSEUDO_MAP_FD"""

_R0, _R1, _R2, _R3, _R4, _R5, _CONTEXT, _ANSWER, _SENDER, _STACK = *range(9), 10
_MOVE, _SET, _ADD, _POINT, _CALL, _EXIT = 0xBF, 0xB7, 0x07, 0x18, 0x85, 0x95
_STORE, _CLEAR, _FETCH = 0x63, 0x7A, 0x61
_IF_ZERO, _UNLESS_ZERO = 0x15, 0x55

_KEY: Final = -_PASS.itemsize
_ADDRESS: Final = _KEY - _HOST.itemsize
"""Where on the stack they are put together."""

_Row = tuple[int, int, int, int, int]
"""Operation, register written, register read, offset, number."""


def _text(version: int, sources: int, passes: int, hosts: int) -> bytes:
    """The program; see `Steering`. sources, passes: its maps. It is shown a datagram from its content on
    (net/core/sock_reuseport.c, run_bpf_filter); what cannot be read, or is of nobody, is 0."""
    source, size = _SOURCE[version]
    rows: list[_Row] = [
        (_MOVE, _CONTEXT, _R1, 0, 0),
        (_SET, _ANSWER, 0, 0, 0),
        *((_CLEAR, _STACK, 0, at, 0) for at in range(_ADDRESS, _KEY, 8)),
        (_SET, _R5, 0, 0, _IP_HEADER),
        *_load(_LOAD_FROM, source, _ADDRESS, size),
        *_look_up(sources, _ADDRESS, _IF_ZERO),
        (_FETCH, _SENDER, _R0, 0, 0),
        (_STORE, _STACK, _SENDER, _KEY, 0),
        *_load(_LOAD, PASS_AT, _KEY + _PLACE.itemsize, _PASS["pass"].itemsize),
        (_MOVE, _ANSWER, _SENDER, 0, 0),
        *_look_up(passes, _KEY, _UNLESS_ZERO),
        (_ADD, _ANSWER, 0, 0, hosts),
    ]
    text = b""
    for number, (operation, written, read, offset, value) in enumerate(rows, start=1):
        if operation in (_IF_ZERO, _UNLESS_ZERO):
            offset = len(rows) - number
        text += bpf.INSTRUCTION.pack(operation, read << 4 | written, offset, value)
    return text + bpf.INSTRUCTION.pack(_MOVE, _ANSWER << 4 | _R0, 0, 0) + bpf.INSTRUCTION.pack(_EXIT, 0, 0, 0)


def _load(helper: int, at: int, to: int, size: int) -> tuple[_Row, ...]:
    """So many bytes of the packet to the stack; where there are none, to the end."""
    return (
        (_MOVE, _R1, _CONTEXT, 0, 0),
        (_SET, _R2, 0, 0, at),
        *_stack(_R3, to),
        (_SET, _R4, 0, 0, size),
        (_CALL, 0, 0, 0, helper),
        (_UNLESS_ZERO, _R0, 0, 0, 0),
    )


def _look_up(fd: int, key: int, end: int) -> tuple[_Row, ...]:
    """The key on the stack in a map: to the end if it is not there (_IF_ZERO), or if it is."""
    return (
        (_POINT, _R1, _MAP, 0, fd),
        (0, 0, 0, 0, 0),
        *_stack(_R2, key),
        (_CALL, 0, 0, 0, _LOOKUP),
        (end, _R0, 0, 0, 0),
    )


def _stack(register: int, at: int) -> tuple[_Row, ...]:
    return (_MOVE, register, _STACK, 0, 0), (_ADD, register, 0, 0, at)
