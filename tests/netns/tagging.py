"""A whole lab in VLANs on kernels without 802.1Q: each host tags what it sends and untags what it gets, by tc."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from subprocess import run

from pyroute2 import IPRoute

from lb import bpf, namespaces

_SCHED_CLS = 3
_VLAN_PUSH, _VLAN_POP = 18, 19
_INGRESS, _EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_EVERY_PROTOCOL = 3  # ETH_P_ALL


def _instruction(code: int, registers: int = 0, immediate: int = 0, offset: int = 0) -> bytes:
    return struct.pack("<BBhi", code, registers, offset, immediate)


_KEEP_CONTEXT = _instruction(0xBF, 0x16)  # r6 = r1
_CONTEXT = _instruction(0xBF, 0x61)  # r1 = r6
_DROP_UNTAGGED = (
    _instruction(0x61, 0x62, offset=20)  # r2 = skb->vlan_present
    + _instruction(0x55, 2, offset=2)  # if r2 != 0 skip two
    + _instruction(0xB7, 0, 2)  # r0 = TC_ACT_SHOT
    + _instruction(0x95)
)
_END = _instruction(0xB7) + _instruction(0x95)  # r0 = TC_ACT_OK; exit


def _push(ethertypes: Sequence[int]) -> bytes:
    """The outermost one last. Its VLAN is 5, and one more for each tag within."""
    text = _KEEP_CONTEXT
    for vlan, ethertype in reversed(list(enumerate(ethertypes, start=5))):
        wire = int.from_bytes(ethertype.to_bytes(2, "big"), "little")
        text += _CONTEXT + _instruction(0xB7, 2, wire) + _instruction(0xB7, 3, vlan) + _instruction(0x85, 0, _VLAN_PUSH)
    return text + _END


def _pop(count: int) -> bytes:
    return _KEEP_CONTEXT + (_DROP_UNTAGGED + _CONTEXT + _instruction(0x85, 0, _VLAN_POP)) * count + _END


def visible_tags(namespace: str, interface: str) -> None:
    """Tags travel in the frames of this interface, as on a cable, and not beside them."""
    with namespaces.inside(namespace, "tagging"):
        for feature in ("tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"):
            run(["ethtool", "-K", interface, feature, "off"], check=True, timeout=10, capture_output=True)


def tag(namespace: str, interface: str, ethertypes: Sequence[int]) -> None:
    """Everything that this host sends there has these tags from now on, and what it gets without them is lost."""
    with namespaces.inside(namespace, "tagging"), IPRoute() as netlink:
        index = netlink.link_lookup(ifname=interface)[0]
        netlink.tc("add", "clsact", index)
        for parent, text in ((_INGRESS, _pop(len(ethertypes))), (_EGRESS, _push(ethertypes))):
            program = bpf.load_program(_SCHED_CLS, text)
            try:
                netlink.tc(
                    *("add-filter", "bpf", index),
                    fd=program,
                    name="tagging",
                    parent=parent,
                    classid=1,
                    direct_action=True,
                    protocol=_EVERY_PROTOCOL,
                )
            finally:
                os.close(program)


def ports(namespace: str) -> list[str]:
    """The interfaces of a switch that cables are plugged into."""
    with namespaces.inside(namespace, "tagging"), IPRoute() as netlink:
        return [link.get_attr("IFLA_IFNAME") for link in netlink.get_links() if link.get_attr("IFLA_MASTER")]
