"""Which network drivers run XDP programs themselves."""

from __future__ import annotations

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

_SIOCETHTOOL = 0x8946
_ETHTOOL_GDRVINFO = 3
_DRVINFO_BYTES = 196
"""struct ethtool_drvinfo of linux/ethtool.h: the command, then the driver's name in 32 bytes."""


def driver_of(interface: str) -> str:
    """The name of an interface's driver; "" if it does not tell."""
    answer = ctypes.create_string_buffer(struct.pack("=I", _ETHTOOL_GDRVINFO), _DRVINFO_BYTES)
    request = struct.pack("16sQ16x", interface.encode(), ctypes.addressof(answer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        try:
            fcntl.ioctl(handle, _SIOCETHTOOL, request)
        except OSError:
            return ""
    return answer.raw[4:36].split(b"\0")[0].decode()
