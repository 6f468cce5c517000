"""Takes packets out of tunnels where the kernel cannot: in its modules' place, with tun devices of the same names.

    python tunnel_end.py OUTER RAW TUN ...      for each of them: the outer packet's IP version; descriptors, inherited,
                                                of a raw socket of the tunnel's protocol, and of the device

The rest of a real is as `lbctl realserver up` makes it: what comes out of the device is the kernel's to deliver.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import socket
import struct
import sys

_PROTOCOLS = {4: 4, 6: 41}
"""By the inner packet's IP version."""
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_LARGEST = 65_536


def make_device(name: str) -> None:
    """A tun device that stays. Raises OSError."""
    fd = open_device(name)
    try:
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
    finally:
        os.close(fd)


def open_device(name: str) -> int:
    """A descriptor of the device, from which packets go up this host's stack. Raises OSError."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return fd


def open_socket(outer: int, inner: int) -> socket.socket:
    """Receives what is sent to this host in tunnels of these IP versions."""
    return socket.socket(_FAMILIES[outer], socket.SOCK_RAW, _PROTOCOLS[inner])


def main() -> None:
    """Unwrap until killed."""
    waiting = selectors.DefaultSelector()
    words = iter(sys.argv[1:])
    for outer, raw, device in zip(words, words, words, strict=True):
        waiting.register(socket.socket(fileno=int(raw)), selectors.EVENT_READ, (outer, int(device)))
    while True:
        for key, _ in waiting.select():
            assert isinstance(key.fileobj, socket.socket)
            outer, device = key.data
            packet = key.fileobj.recv(_LARGEST)
            header = (packet[0] & 15) * 4 if outer == "4" else 0  # IPv6's is kept back
            with contextlib.suppress(OSError):  # what is no packet inside is nobody's
                os.write(device, packet[header:])


if __name__ == "__main__":
    main()
