"""Takes packets out of tunnels, where the kernel cannot: in the place of `ipip`, with a tun device of the same name.

    python tunnel_end.py RAW TUN      descriptors, inherited: a raw socket of protocol 4, and the device

The rest of a real is as `lbctl realserver up` makes it: what comes out of the device is the kernel's to deliver.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import sys

_IPIP = 4
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


def open_socket() -> socket.socket:
    """Receives what is sent to this host in tunnels."""
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, _IPIP)


def main() -> None:
    """Unwrap until killed."""
    raw, device = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    while True:
        packet = raw.recv(_LARGEST)
        with contextlib.suppress(OSError):  # what is no packet inside is nobody's
            os.write(device, packet[(packet[0] & 15) * 4 :])


if __name__ == "__main__":
    main()
