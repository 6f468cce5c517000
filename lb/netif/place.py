"""Where the virtual addresses are: on the interface, or at a MAC of their own on a device of their own.

The device is a macvlan of the interface, up only while the addresses are there. The kernel answers ARP and neighbour
discovery on it with the virtual MAC, which is all it is for: packets of the virtuals are taken by the packet path
before they get there, and leave from the interface's MAC (bpf/mac.h).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from lb.addresses import Address
from lb.errors import NetworkError
from lb.netif import sysctl, wiring
from lb.netif.links import add_address, link, link_names, remove_address, set_up

_NAME_BYTES = 15
_ROOT = "net/ipv4/conf"


def device_of(interface: str) -> str:
    """The name of the device beside an interface."""
    return f"lbv-{interface}"[:_NAME_BYTES]


class Place:
    """Of the virtual addresses, from its making until `close`. name: of the device that has them.

    mac: at which they are; six bytes. virtual: is that one of their own?
    """

    def __init__(self, interface: str, virtual_mac: bytes) -> None:
        """virtual_mac: empty, they are on the interface. Raises NetworkError."""
        self._interface = interface
        self.virtual = bool(virtual_mac)
        self.mac = virtual_mac or link(interface).mac
        self.name = device_of(interface) if self.virtual else interface
        self._before: dict[str, str] = {}
        if self.virtual:
            self._open()
        else:
            _delete(device_of(interface))  # an earlier process's, of another configuration

    def _open(self) -> None:
        if sysctl.read(f"{_ROOT}/all/rp_filter") == "1":
            raise NetworkError(
                "net.ipv4.conf.all.rp_filter is 1, so the kernel would not answer for addresses at a virtual_mac; "
                "set it to 0 or 2"
            )
        if self.name in link_names() and link(self.name).mac != self.mac:
            _delete(self.name)
        if self.name not in link_names():
            wiring.add_macvlan(self._interface, self.name, self.mac)
        # The interface itself keeps silent about addresses that are not on it.
        for name, value in (("arp_ignore", "1"), ("arp_announce", "2")):
            self._set(f"{_ROOT}/{self._interface}/{name}", value)
        sysctl.write(f"{_ROOT}/{self.name}/rp_filter", "0")
        own = f"net/ipv6/conf/{self.name}"
        if sysctl.exists(f"{own}/addr_gen_mode"):  # no address, and so no talk, of its own
            sysctl.write(f"{own}/addr_gen_mode", "1")
            sysctl.write(f"{own}/accept_ra", "0")

    def _set(self, name: str, value: str) -> None:
        self._before[name] = sysctl.read(name)
        sysctl.write(name, value)

    def add(self, addresses: Iterable[Address]) -> None:
        """They are here from now on. Raises NetworkError."""
        if self.virtual:
            set_up(self.name)
        for address in addresses:
            add_address(self.name, address)

    def remove(self, addresses: Iterable[Address], all_gone: bool = False) -> None:
        """They are not here any more. all_gone: and nothing else is. Raises NetworkError."""
        if self.virtual and all_gone and self.name in link_names():
            # First: else leaving IPv6's groups would show the switch the MAC here, after the heir announced it there.
            set_up(self.name, False)
        for address in addresses:
            remove_address(self.name, address)

    def close(self) -> None:
        """The interface is as it was; an address that is still on it stays."""
        if not self.virtual:
            return
        _delete(self.name)
        for name, value in self._before.items():
            with contextlib.suppress(NetworkError):
                sysctl.write(name, value)


def _delete(name: str) -> None:
    if name in link_names():
        wiring.delete(name)
