"""The kernel's ends of IP-in-IP tunnels: devices that take what is sent to any address of this host in a tunnel.

There is one for each pair of families but two, which share theirs: what IPv6 packets carry comes out of `ip6tnl0`, if
its mode is `any`. That it is told by ioctl(2): by netlink older kernels do not let it change.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import threading
from typing import NamedTuple

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL
from pyroute2.netlink.rtnl import RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from lb.errors import NetworkError
from lb.netif.links import link_names
from lb.netif.rtnl import Rtnl


class End(NamedTuple):
    """A device, the kind of link it is, the module that makes it, and the option of kernels that have it."""

    device: str
    kind: str
    module: str
    option: str


IPIP = End("tunl0", "ipip", "ipip", "CONFIG_NET_IPIP")
SIT = End("sit0", "sit", "sit", "CONFIG_IPV6_SIT")
IP6TNL = End("ip6tnl0", "ip6tnl", "ip6_tunnel", "CONFIG_IPV6_TUNNEL")
ENDS = {(4, 4): IPIP, (4, 6): SIT, (6, 4): IP6TNL, (6, 6): IP6TNL}
"""By the IP versions of the outer and of the inner packet."""

_CLONE_NEWNET = 0x40000000
_GET, _CHANGE = 0x89F0, 0x89F3  # linux/if_tunnel.h: SIOCGETTUNNEL, SIOCCHGTUNNEL
_PARAMETERS = struct.Struct("=16siBBBxII16s16s")
"""linux/ip6_tunnel.h, ip6_tnl_parm: name, link, proto, encap_limit, hop_limit, flowinfo, flags, two addresses."""
_PROTO = 2
_ANY = 0


def create(end: End) -> None:
    """Have the device, down, if it is not there; the kernel loads its module for that. Raises NetworkError."""
    if end.device in link_names():
        return
    attrs = {"IFLA_IFNAME": end.device, "IFLA_LINKINFO": {"attrs": [("IFLA_INFO_KIND", end.kind)]}}
    try:
        with Rtnl() as rtnl:
            rtnl.call(ifinfmsg, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, {}, attrs)
    except OSError as error:
        if error.errno == errno.EEXIST:  # the module brought it along
            return
        what = f"this kernel has no {end.module}" if error.errno == errno.EOPNOTSUPP else error.strerror
        raise NetworkError(
            f"cannot create {end.device}: {what}; try `modprobe {end.module}`, or a kernel with {end.option}"
        ) from None


def takes_any() -> bool:
    """Does `ip6tnl0` take IPv4 as well as IPv6? A device of that name that is no tunnel's takes what it is given."""
    found = _exchange(_GET, bytes(_PARAMETERS.size))
    return found is None or _PARAMETERS.unpack(found)[_PROTO] == _ANY


def take_any() -> None:
    """Have `ip6tnl0` take both."""
    found = _exchange(_GET, bytes(_PARAMETERS.size))
    if found is not None:
        fields = list(_PARAMETERS.unpack(found))
        fields[_PROTO] = _ANY
        _exchange(_CHANGE, _PARAMETERS.pack(*fields))


def _exchange(request: int, parameters: bytes) -> bytes | None:
    """None: that device has none."""
    buffer = ctypes.create_string_buffer(parameters, len(parameters))
    interface = struct.pack("16sQ16x", os.fsencode(IP6TNL.device), ctypes.addressof(buffer))  # struct ifreq
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as handle:
            fcntl.ioctl(handle, request, interface)
    except OSError:
        return None
    return buffer.raw


def is_available(end: End) -> bool:
    """Can this kernel do it? Tried in a network namespace that only a thread has and that goes with it."""
    done: list[bool] = []

    def attempt() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            return
        try:
            create(end)
        except NetworkError:
            return
        done.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return bool(done)
