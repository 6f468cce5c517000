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
_INFO_BYTES = 20  # the longer one of in_pktinfo (interface, local address, destination) and in6_pktinfo


def bind(port: int) -> list[socket.socket]:
    """Sockets as this program wants them, on every address of the host: one a family."""
    old = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    old.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    old.bind(("", port))
    if not socket.has_ipv6:
        return [old]
    new = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    new.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    new.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    new.bind(("", port))
    return [old, new]


def answer(asked: socket.socket, name: bytes) -> None:
    """Receive one datagram and answer it."""
    _, ancillary, _, sender = asked.recvmsg(65536, socket.CMSG_SPACE(_INFO_BYTES))
    ((level, kind, info),) = ancillary
    # any interface, the local address
    source = info[:16] + bytes(4) if level == socket.IPPROTO_IPV6 else bytes(4) + info[4:8] + bytes(4)
    with contextlib.suppress(OSError):  # nobody can be reached there: as good as lost on the way
        asked.sendmsg([name], [(level, kind, source)], 0, sender)


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
