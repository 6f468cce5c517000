"""The kernel's end of an IP-in-IP tunnel: the device `tunl0`, which takes what is sent to any address of this host."""

from __future__ import annotations

import ctypes
import errno
import threading

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL
from pyroute2.netlink.rtnl import RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from lb.errors import NetworkError
from lb.netif.links import link_names
from lb.netif.rtnl import Rtnl

NAME = "tunl0"

_CLONE_NEWNET = 0x40000000


def create() -> None:
    """Have the device, down, if it is not there; the kernel loads its module for that. Raises NetworkError."""
    if NAME in link_names():
        return
    attrs = {"IFLA_IFNAME": NAME, "IFLA_LINKINFO": {"attrs": [("IFLA_INFO_KIND", "ipip")]}}
    try:
        with Rtnl() as rtnl:
            rtnl.call(ifinfmsg, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, {}, attrs)
    except OSError as error:
        if error.errno == errno.EEXIST:  # the module brought it along
            return
        what = "this kernel has no ipip" if error.errno == errno.EOPNOTSUPP else error.strerror
        raise NetworkError(
            f"cannot create {NAME}: {what}; try `modprobe ipip`, or a kernel with CONFIG_NET_IPIP"
        ) from None


def is_available() -> bool:
    """Can this kernel do it? Tried in a network namespace that only a thread has and that goes with it."""
    done: list[bool] = []

    def attempt() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            return
        try:
            create()
        except NetworkError:
            return
        done.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return bool(done)
