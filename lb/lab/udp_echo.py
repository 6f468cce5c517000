"""Answers every datagram with the host's name, from the address it was sent to.

    python udp_echo.py NAME FD…      FD: bound UDP sockets, inherited

The address matters: a real's answer must come from the virtual address, which the kernel would not choose by itself.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys

IP_PKTINFO = 8
_INFO_BYTES = 12  # struct in_pktinfo: interface index, local address, destination address


def bind(port: int) -> socket.socket:
    """A socket as this program wants it, on every address of the host."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    bound.bind(("", port))
    return bound


def answer(asked: socket.socket, name: bytes) -> None:
    """Receive one datagram and answer it."""
    _, ancillary, _, sender = asked.recvmsg(65536, socket.CMSG_SPACE(_INFO_BYTES))
    info = next(data for level, kind, data in ancillary if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO))
    source = bytes(4) + info[4:8] + bytes(4)  # any interface, the local address
    with contextlib.suppress(OSError):  # nobody can be reached there: as good as lost on the way
        asked.sendmsg([name], [(socket.IPPROTO_IP, IP_PKTINFO, source)], 0, sender)


def main() -> None:
    """Serve until killed."""
    name = sys.argv[1].encode() + b"\n"
    selector = selectors.DefaultSelector()
    for number in sys.argv[2:]:
        selector.register(socket.socket(fileno=int(number)), selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            answer(key.fileobj, name)


if __name__ == "__main__":
    main()
