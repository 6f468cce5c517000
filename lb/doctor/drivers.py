"""Which network drivers run XDP programs themselves."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import socket
import struct

NATIVE = frozenset(
    (
        *(
            "atlantic",
            "bnxt_en",
            "bonding",
            "ena",
            "fsl_enetc",
            "gve",
            "hv_netvsc",
            "i40e",
            "ice",
            "igb",
            "igc",
            "ionic",
        ),
        *("ixgbe", "ixgbevf", "mana", "mlx4_en", "mlx5_core", "mvneta", "mvpp2", "nfp", "qede", "sfc", "stmmac", "tun"),
        *("veth", "virtio_net", "vmxnet3"),
    )
)
"""The usual ones of Linux 6.12 by the name that ethtool shows. The kernel has no question to ask that would not attach
a program, and attaching one restarts many cards."""

SEVERAL_BUFFERS = frozenset(
    ("atlantic", "bnxt_en", "fsl_enetc", "i40e", "ice", "mlx5_core", "mvneta", "veth", "virtio_net")
)
"""Those of Linux 6.12 that show XDP programs frames larger than a page; most of them since 5.18 to 6.4."""

_SIOCETHTOOL = 0x8946
_ETHTOOL_GDRVINFO = 3
_DRVINFO_BYTES = 196
"""struct ethtool_drvinfo of linux/ethtool.h: the command, then the driver's name in 32 bytes."""
_ETHTOOL_GFLAGS = 0x25
_FLAGS_BYTES = 8
_FLAG_RXVLAN = 1 << 8
"""struct ethtool_value: the command, then the flags."""
_ETHTOOL_GCHANNELS = 0x3C
_CHANNELS = struct.Struct("=9I")
"""struct ethtool_channels: the command; most of receive, send, other, combined; and as many as there are of each."""


def driver_of(interface: str) -> str:
    """The name of an interface's driver; "" if it does not tell."""
    return _ask(interface, _ETHTOOL_GDRVINFO, _DRVINFO_BYTES)[4:36].split(b"\0")[0].decode()


def takes_tags_off(interface: str) -> bool:
    """Does it hand frames over without the VLAN tags they had, and the tags beside them?"""
    flags: int = struct.unpack_from("=I", _ask(interface, _ETHTOOL_GFLAGS, _FLAGS_BYTES), 4)[0]
    return bool(flags & _FLAG_RXVLAN)


def queue_pairs(interface: str) -> tuple[int, int]:
    """How many pairs of queues are in use, and how many there may be; zeros where the driver does not tell."""
    numbers = _CHANNELS.unpack(_ask(interface, _ETHTOOL_GCHANNELS, _CHANNELS.size))
    return numbers[8], numbers[4]


def vlans_on(interface: str, config: str) -> list[str]:
    """The VLAN interfaces above this one. config: as /proc/net/vlan/config, `NAME | ID | INTERFACE` a line."""
    rows = [[word.strip() for word in line.split("|")] for line in config.splitlines()]
    return [row[0] for row in rows if len(row) == 3 and row[2] == interface]


def _ask(interface: str, command: int, size: int) -> bytes:
    """ethtool's answer of that size; zeros if there is none."""
    answer = ctypes.create_string_buffer(struct.pack("=I", command), size)
    request = struct.pack("16sQ16x", interface.encode(), ctypes.addressof(answer))
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCETHTOOL, request)
    return answer.raw
