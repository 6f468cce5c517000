"""Links that we make: macvlans; of a lab cables and switches, and what such a link must be told."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_NEWLINK, RTM_NEWROUTE
from pyroute2.netlink.rtnl.ifinfmsg import XDP_FLAGS_DRV_MODE, ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from lb.addresses import Address, Network
from lb.errors import NetworkError
from lb.netif.links import FAMILIES, link, set_up
from lb.netif.rtnl import Rtnl

_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17
_TABLE_MAIN, _PROTOCOL_STATIC, _UNICAST = 254, 4, 1  # linux/rtnetlink.h
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253


def add_bridge(name: str) -> None:
    """A switch that forwards at once and to whom it must: no spanning tree, no delay. Raises NetworkError."""
    data = [("IFLA_BR_STP_STATE", 0), ("IFLA_BR_FORWARD_DELAY", 0), ("IFLA_BR_MCAST_SNOOPING", 0)]
    _add(name, {"IFLA_LINKINFO": _kind("bridge", data)})


def add_cable(bridge: str, port: str, namespace_fd: int, name: str, mac: bytes) -> None:
    """Plug a link `name` of another namespace into a bridge of this one. Raises NetworkError.

    port: what the bridge's end is called; when it goes the other end does. mac: of the other end.
    """
    peer = {
        "attrs": [
            ("IFLA_IFNAME", name),
            ("IFLA_ADDRESS", mac.hex(":")),
            ("IFLA_NET_NS_FD", namespace_fd),
        ]
    }
    _add(port, {"IFLA_MASTER": link(bridge).index, "IFLA_LINKINFO": _kind("veth", [("VETH_INFO_PEER", peer)])})
    set_up(port)


def add_macvlan(parent: str, name: str, mac: bytes) -> None:
    """A device with another MAC on the link `parent`, down. Raises NetworkError."""
    kind = _kind("macvlan", [("IFLA_MACVLAN_MODE", "private")])
    _add(name, {"IFLA_LINK": link(parent).index, "IFLA_ADDRESS": mac.hex(":"), "IFLA_LINKINFO": kind})


def _kind(kind: str, data: list[tuple[str, Any]]) -> dict[str, Any]:
    return {"attrs": [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", {"attrs": data})]}


def _add(name: str, attrs: Mapping[str, Any]) -> None:
    _request(f"create link {name}", RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, {}, {"IFLA_IFNAME": name, **attrs})


def delete(name: str) -> None:
    """Remove a link, and with a veth's one end the other. Raises NetworkError."""
    _request(f"delete link {name}", RTM_DELLINK, 0, {"index": link(name).index}, {})


def add_route(name: str, network: Network, gateway: Address | None = None) -> None:
    """Reach a network over a link that is up, directly or by a router on it. Raises NetworkError."""
    fields = {
        "family": FAMILIES[network.version],
        "dst_len": network.prefixlen,
        "table": _TABLE_MAIN,
        "proto": _PROTOCOL_STATIC,
        "scope": _SCOPE_UNIVERSE if gateway or network.version == 6 else _SCOPE_LINK,
        "type": _UNICAST,
    }
    attrs: dict[str, Any] = {"RTA_DST": str(network.network_address), "RTA_OIF": link(name).index}
    if gateway:
        attrs["RTA_GATEWAY"] = str(gateway)
    try:
        with Rtnl() as rtnl:
            rtnl.call(rtmsg, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, fields, attrs)
    except OSError as error:
        raise NetworkError(f"cannot add a route to {network} on {name}: {error.strerror}") from None


def attach_xdp(name: str, program_fd: int) -> None:
    """Let a program see what a link receives, in its driver, for as long as the link lives. Raises NetworkError."""
    xdp = {"attrs": [("IFLA_XDP_FD", program_fd), ("IFLA_XDP_FLAGS", XDP_FLAGS_DRV_MODE)]}
    _request(f"attach to link {name}", RTM_NEWLINK, 0, {"index": link(name).index}, {"IFLA_XDP": xdp})


def compute_checksums(name: str) -> None:
    """Have the stack finish checksums before it sends: nobody does it for a frame that XDP turns around.

    Raises NetworkError.
    """
    off = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_STXCSUM, 0))
    request = struct.pack("16sQ16x", os.fsencode(name), ctypes.addressof(off))  # struct ifreq: name and pointer
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
            fcntl.ioctl(handle, _SIOCETHTOOL, request)
    except OSError as error:
        raise NetworkError(f"cannot turn checksum offload of {name} off: {error.strerror}") from None


def _request(what: str, number: int, flags: int, fields: Mapping[str, int], attrs: Mapping[str, Any]) -> None:
    try:
        with Rtnl() as rtnl:
            rtnl.call(ifinfmsg, number, flags, fields, attrs)
    except OSError as error:
        raise NetworkError(f"cannot {what}: {error.strerror}; see `ip link` and the kernel's log") from None
