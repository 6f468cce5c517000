"""Datagrams to one port sorted by the kernel: each peer's to a socket of its own, all others' to the first. Edge.

Sockets that share a port (SO_REUSEPORT) are chosen by a program of the classic packet filter, which sees the sender's
address and answers with the place of a socket in the order of their binding. Connected sockets would do the same, but
collect errors: one, and libuv listens to them no more.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import count
from typing import Final

_SO_ATTACH_REUSEPORT_CBPF: Final = 51
_NETWORK: Final = 0xFFF0_0000
"""SKF_NET_OFF: offsets from here on are of the IP header."""
_SOURCE: Final = {4: 12, 6: 8}
_LOAD, _IS_EQUAL, _RETURN = 0x20, 0x15, 0x06
_INSTRUCTION: Final = struct.Struct("=HBBI")
_PROGRAM: Final = struct.Struct("@HP")


def program(hosts: Sequence[str]) -> bytes:
    """Answers with the place of the sender among these addresses, counted from 1; 0: it is none of them."""
    code = b""
    for place, host in zip(count(1), hosts, strict=False):
        address = ip_address(host)
        words = struct.unpack(f"!{len(address.packed) // 4}I", address.packed)
        for number, word in enumerate(words):
            others = 2 * (len(words) - number) - 1  # instructions until the next address
            code += _INSTRUCTION.pack(_LOAD, 0, 0, _NETWORK + _SOURCE[address.version] + 4 * number)
            code += _INSTRUCTION.pack(_IS_EQUAL, 0, others, word)
        code += _INSTRUCTION.pack(_RETURN, 0, 0, place)
    return code + _INSTRUCTION.pack(_RETURN, 0, 0, 0)


def steer(first: socket.socket, hosts: Sequence[str]) -> None:
    """Sockets that are bound to the port of this one from now on get what these hosts send, in their order.

    All of them need SO_REUSEPORT before they are bound, this one too. Raises OSError.
    """
    code = program(hosts)
    text = ctypes.create_string_buffer(code, len(code))
    described = _PROGRAM.pack(len(code) // _INSTRUCTION.size, ctypes.addressof(text))
    first.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, described)
