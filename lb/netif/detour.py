"""The kernel's side of checks by way of the virtual's address: routes for probe addresses, and two programs of traffic
control on one interface (`bpf/probe.c`).

A route leads to a neighbour that does not exist and has a MAC for good: whom a frame is for is written into it by
the program that it passes as it leaves.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Network, IPv6Network

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from pyroute2.netlink.rtnl import (
    RTM_DELNEIGH,
    RTM_DELQDISC,
    RTM_DELROUTE,
    RTM_DELTFILTER,
    RTM_NEWNEIGH,
    RTM_NEWQDISC,
    RTM_NEWROUTE,
    RTM_NEWTFILTER,
)
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from lb.addresses import Address
from lb.errors import NetworkError
from lb.netif.links import FAMILIES, link
from lb.netif.rtnl import Rtnl

PRIORITY = 0x6C62
"""Of our filters, among those of others."""
PROTOCOL = 0x6C
"""Marks our route in the routing table ('l'); see /etc/iproute2/rt_protos."""
_CLSACT = {"handle": 0xFFFF0000, "parent": 0xFFFFFFF1}
_EGRESS, _INGRESS = 0xFFFFFFF3, 0xFFFFFFF2
_ETH_P_ALL = 3
_DIRECT_ACTION = 1
_NUD_PERMANENT = 0x80
_NOBODY = "02:00:00:00:00:00"
_RTNH_F_ONLINK = 4
_GONE = (errno.ENOENT, errno.ESRCH, errno.EINVAL, errno.ENODEV)


Network = IPv4Network | IPv6Network


class Detour:
    """From its making until `close`."""

    def __init__(self, interface: str, ask_fd: int, answer_fd: int) -> None:
        """Attach the programs. Raises NetworkError; whatever was there of ours is replaced."""
        self._index = link(interface).index
        self._networks: list[Network] = []
        try:
            with Rtnl() as rtnl:
                self._ours = self._make_qdisc(rtnl)
                for parent, fd, name in ((_EGRESS, ask_fd, "lbctl-ask"), (_INGRESS, answer_fd, "lbctl-answer")):
                    with contextlib.suppress(OSError):
                        self._filter(rtnl, RTM_DELTFILTER, parent)
                        self._ours = True  # an earlier process of ours made all this, and did not end in order
                    self._filter(rtnl, RTM_NEWTFILTER, parent, fd, name)
        except OSError as error:
            raise _not_set_up(error) from None

    def lead(self, network: Network, source: Address | None) -> None:
        """Let probe addresses of this network pass the programs; again changes nothing. Its last but one is the
        neighbour's.

        source: this host's address that is asked from, None leaves that to the kernel. Raises NetworkError.
        """
        if network in self._networks:
            return
        try:
            with Rtnl() as rtnl:
                self._networks.append(network)
                self._neighbour(rtnl, network, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE)
                self._route(rtnl, network, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, source)
        except OSError as error:
            raise _not_set_up(error) from None

    def close(self) -> None:
        """Remove all of it."""
        with Rtnl() as rtnl:
            steps: list[Callable[[], object]] = [
                *(partial(self._route, rtnl, network, RTM_DELROUTE, 0) for network in self._networks),
                *(partial(self._neighbour, rtnl, network, RTM_DELNEIGH, 0) for network in self._networks),
                *(partial(self._filter, rtnl, RTM_DELTFILTER, parent) for parent in (_EGRESS, _INGRESS)),
            ]
            if self._ours:
                steps.append(partial(rtnl.call, tcmsg, RTM_DELQDISC, 0, {"index": self._index, **_CLSACT}))
            for step in steps:
                try:
                    step()
                except OSError as error:
                    if error.errno not in _GONE:
                        raise NetworkError(f"what checks left could not be removed: {error.strerror}") from None

    def _make_qdisc(self, rtnl: Rtnl) -> bool:
        """The place for filters; False if somebody else's is there."""
        try:
            rtnl.call(
                tcmsg,
                RTM_NEWQDISC,
                NLM_F_CREATE | NLM_F_EXCL,
                {"index": self._index, **_CLSACT},
                {"TCA_KIND": "clsact"},
            )
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
            return False
        return True

    def _filter(self, rtnl: Rtnl, number: int, parent: int, fd: int = -1, name: str = "") -> None:
        fields = {"index": self._index, "parent": parent, "info": PRIORITY << 16 | socket.htons(_ETH_P_ALL)}
        flags, attrs = 0, {}
        if fd >= 0:
            flags = NLM_F_CREATE | NLM_F_EXCL
            options = [("TCA_BPF_FD", fd), ("TCA_BPF_NAME", name), ("TCA_BPF_FLAGS", _DIRECT_ACTION)]
            attrs = {"TCA_KIND": "bpf", "TCA_OPTIONS": {"attrs": options}}
        rtnl.call(tcmsg, number, flags, fields, attrs)

    def _neighbour(self, rtnl: Rtnl, network: Network, number: int, flags: int) -> None:
        fields = {"family": FAMILIES[network.version], "ifindex": self._index, "state": _NUD_PERMANENT}
        rtnl.call(ndmsg, number, flags, fields, {"NDA_DST": str(network[-2]), "NDA_LLADDR": _NOBODY})

    def _route(self, rtnl: Rtnl, network: Network, number: int, flags: int, source: Address | None = None) -> None:
        fields = {
            "family": FAMILIES[network.version], "dst_len": network.prefixlen, "table": 254, "proto": PROTOCOL,
            "type": 1, "scope": 0, "flags": _RTNH_F_ONLINK,
        }  # fmt: skip
        attrs = {
            "RTA_DST": str(network.network_address),
            "RTA_GATEWAY": str(network[-2]),
            "RTA_OIF": self._index,
        }
        rtnl.call(rtmsg, number, flags, fields, attrs | ({"RTA_PREFSRC": str(source)} if source else {}))


def _not_set_up(error: OSError) -> NetworkError:
    return NetworkError(f"checks by way of the virtual's address cannot be set up: {error.strerror}")
