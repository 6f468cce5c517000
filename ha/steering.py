"""Datagrams to one port sorted by the kernel: what a peer has just sent to a socket of its own. Edge.

Sockets that share a port (SO_REUSEPORT) are chosen by a program of the classic packet filter, which answers with the
place of a socket in the order of their binding. It sees the sender's address, which anybody may forge, and the
datagram's pass (`ha.wire`), which nobody can: it is good for one datagram. So whatever is made up, recorded or changed
on the way goes to another socket than heartbeats do, however much there is of it, before it costs us anything.

Connected sockets would sort by address, too, but collect errors: one, and libuv listens to them no more.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final

import numpy as np

from ha.wire import PASS_AT

_SO_ATTACH_REUSEPORT_CBPF: Final = 51
_NETWORK: Final = 0xFFF0_0000
"""SKF_NET_OFF: offsets from here on are of the IP header."""
_SOURCE: Final = {4: 12, 6: 8}
_LOAD, _JUMP, _IS_EQUAL, _RETURN = 0x20, 0x05, 0x15, 0x06
_INSTRUCTION: Final = struct.Struct("=HBBI")
_LAID_OUT: Final = np.dtype([("code", "u2"), ("if_true", "u1"), ("if_false", "u1"), ("operand", "u4")])
"""The same, for many at once."""

_PROGRAM: Final = struct.Struct("@HP")
MOST: Final = 200
"""Passes of one host: a conditional jump goes over 255 instructions at most."""


def program(hosts: Mapping[str, list[int]]) -> bytes:
    """Answers with the place of the sender among these addresses, counted from 1, if the datagram has one of its
    passes; with that place and the number of addresses added if it has not; 0: it is none of them."""
    code = b""
    for place, (host, passes) in enumerate(hosts.items(), start=1):
        body = _passing(passes[:MOST], place, place + len(hosts))
        length = len(body) // _INSTRUCTION.size
        address = ip_address(host)
        words = struct.unpack(f"!{len(address.packed) // 4}I", address.packed)
        for number, word in enumerate(words):
            code += _INSTRUCTION.pack(_LOAD, 0, 0, _NETWORK + _SOURCE[address.version] + 4 * number)
            code += _INSTRUCTION.pack(_IS_EQUAL, 1, 0, word)
            code += _INSTRUCTION.pack(_JUMP, 0, 0, length + 3 * (len(words) - number - 1))  # to the next address
        code += body
    return code + _INSTRUCTION.pack(_RETURN, 0, 0, 0)


def _passing(passes: list[int], right: int, wrong: int) -> bytes:
    """Past its end a datagram has no pass: the filter ends with 0 there by itself."""
    if not passes:
        return _INSTRUCTION.pack(_RETURN, 0, 0, wrong)
    code = np.zeros(len(passes) + 3, _LAID_OUT)
    code[0] = _LOAD, 0, 0, PASS_AT
    comparing = code[1:-2]
    comparing["code"], comparing["operand"] = _IS_EQUAL, passes
    comparing["if_true"] = np.arange(len(passes), 0, -1)
    code[-2], code[-1] = (_RETURN, 0, 0, wrong), (_RETURN, 0, 0, right)
    return code.tobytes()


def steer(first: socket.socket, hosts: Mapping[str, list[int]]) -> None:
    """Sockets that are bound to the port of this one get what these hosts send, in their order: with one of these
    passes, then as many for what comes from there without. May be called again, with other passes.

    All of them need SO_REUSEPORT before they are bound, this one too. Raises OSError.
    """
    code = program(hosts)
    text = ctypes.create_string_buffer(code, len(code))
    described = _PROGRAM.pack(len(code) // _INSTRUCTION.size, ctypes.addressof(text))
    first.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, described)
