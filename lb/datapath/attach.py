"""The program on its interfaces: attached by a pinned link, so that it outlives us and can be swapped in one step."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from lb import bpf
from lb.errors import DataPathError

log = structlog.get_logger(__name__)

NATIVE_MTU = 3498
"""A frame has to fit into a page of 4096 bytes beside XDP's headroom (256) and the kernel's trailer (320), with
Ethernet's header and two VLAN tags; drivers refuse native XDP for more, unless the program takes several buffers."""

_SIOCGIFHWADDR, _SIOCGIFMTU = 0x8927, 0x8921
_FLAGS = {"native": bpf.XDP_FLAGS_DRV_MODE, "generic": bpf.XDP_FLAGS_SKB_MODE}
_CANNOT = (errno.EOPNOTSUPP, errno.EINVAL, errno.ERANGE, errno.ENOMEM)
"""How drivers say that they do no XDP, not at this MTU, or not with this many queues."""


def interface_index(interface: str) -> int:
    """Raises DataPathError when there is no such interface in this network namespace."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        known = ", ".join(name for _, name in socket.if_nameindex())
        raise DataPathError(f"there is no interface {interface!r} here; there are: {known}") from None


def interface_mac(interface: str) -> bytes:
    """Six bytes. Raises DataPathError."""
    return _ask(interface, _SIOCGIFHWADDR)[2:8]


def interface_mtu(interface: str) -> int:
    """Bytes of a packet. Raises DataPathError."""
    return int.from_bytes(_ask(interface, _SIOCGIFMTU)[:4], sys.byteorder)


def _ask(interface: str, question: int) -> bytes:
    """What struct ifreq holds behind the interface's name."""
    request = struct.pack("16s24x", interface.encode()[:15])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            return fcntl.ioctl(asking, question, request)[16:]
    except OSError as error:
        raise DataPathError(f"the MAC and MTU of {interface!r} cannot be read: {error.strerror}") from None


class Attachment:
    """The link of one interface. wish: native, generic, or auto: native where the driver can, else generic.

    pinned_mode: what the link that an earlier process left was attached as, None if nobody knows.
    """

    def __init__(self, pin: Path, interface: str, wish: str, pinned_mode: str | None) -> None:
        self.mode = ""
        self._pin = pin
        self._interface = interface
        self._modes = ("native", "generic") if wish == "auto" else (wish,)
        self._pinned_mode = pinned_mode
        self._fd: int | None = None

    def put(self, program_fd: int) -> None:
        """Let this program see the next packet: swapped in for the one before, or attached. Raises DataPathError."""
        if self._fd is None:
            self._adopt()
        elif not self.holds():
            self._drop()
        if self._fd is None:
            self._attach(program_fd)
            return
        try:
            bpf.replace_program(self._fd, program_fd)
        except OSError as error:
            raise DataPathError(f"the program on {self._interface} cannot be swapped: {error}") from None

    def holds(self) -> bool:
        """Does the program still hang on the interface of that name? Not if that was removed and made anew."""
        return self._fd is not None and bpf.link_interface(self._fd) == interface_index(self._interface)

    def close(self, detach: bool) -> None:
        """Give the descriptor back. detach: take the program off the interface; else the pin keeps it there."""
        if self._fd is None:
            return
        if detach:
            self._pin.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the interface is gone, and the program with it
                bpf.detach_link(self._fd)
        os.close(self._fd)
        self._fd = None

    def _adopt(self) -> None:
        """Take the link that an earlier process left, if it hangs where and as we want it."""
        try:
            self._fd = bpf.open_pinned(self._pin)
        except FileNotFoundError:
            return
        if self.holds() and self._pinned_mode in self._modes:
            self.mode = self._pinned_mode or ""
            log.info("the program of an earlier process goes on", interface=self._interface, mode=self.mode)
        else:
            log.info("a stale attachment is replaced", pin=str(self._pin))
            self._drop()

    def _drop(self) -> None:
        self.close(detach=True)

    def _attach(self, program_fd: int) -> None:
        index = interface_index(self._interface)
        refusals = []
        for mode in self._modes:
            try:
                self._fd = bpf.attach_xdp(program_fd, index, _FLAGS[mode])
            except OSError as error:
                if error.errno in (errno.EBUSY, errno.EEXIST):
                    raise DataPathError(
                        f"{self._interface} has an XDP program of somebody else; see 'ip link show {self._interface}', "
                        f"remove it with 'ip link set {self._interface} xdp off' or end what attached it"
                    ) from None
                if error.errno not in _CANNOT:
                    raise DataPathError(f"XDP cannot be attached to {self._interface}: {error}") from None
                refusals.append(f"{mode}: {error.strerror}")
                continue
            self.mode = mode
            self._pin.unlink(missing_ok=True)
            bpf.pin(self._fd, self._pin)
            if refusals:
                what = "native XDP is refused, packets take the slower generic way"
                log.warning(what, interface=self._interface, refused=refusals, see="lbctl doctor")
            else:
                log.info("attached", interface=self._interface, mode=mode)
            return
        words = "; ".join(refusals)
        raise DataPathError(f"{self._interface} does no XDP ({words}); try attach = 'auto'{self._narrower()}")

    def _narrower(self) -> str:
        """What else may help where frames are too large for the driver."""
        mtu = interface_mtu(self._interface)
        if mtu <= NATIVE_MTU:
            return ""
        lacking = "the driver" if bpf.takes_jumbo() else "this kernel (before 5.18)"
        return f", or an MTU of at most {NATIVE_MTU}: {lacking} shows XDP no frames of {mtu} bytes in several buffers"


class Attachments:
    """One program on each of a node's interfaces. home: where their links are pinned; modes: as what these were."""

    def __init__(self, home: Path, interfaces: Sequence[str], wish: str, modes: Mapping[str, str]) -> None:
        self._home = home
        self._each = {name: Attachment(home / _pin(name), name, wish, modes.get(name)) for name in interfaces}

    @property
    def modes(self) -> dict[str, str]:
        """Each interface's: native or generic; empty before the first `put`."""
        return {name: attachment.mode for name, attachment in self._each.items()}

    def put(self, program_fd: int) -> None:
        """Let this program see the next packet of each. Raises DataPathError."""
        for attachment in self._each.values():
            attachment.put(program_fd)
        self._drop_others()

    def holds(self) -> bool:
        """Does the program still hang on all of them?"""
        return all(attachment.holds() for attachment in self._each.values())

    def close(self, detach: bool) -> None:
        """See `Attachment.close`."""
        for attachment in self._each.values():
            attachment.close(detach)

    def _drop_others(self) -> None:
        """Take the program off interfaces that an earlier process had and this one has not."""
        for path in self._home.glob("link_*"):
            if path.name not in map(_pin, self._each):
                fd = bpf.open_pinned(path)
                path.unlink()
                with contextlib.suppress(OSError):  # the interface is gone
                    bpf.detach_link(fd)
                os.close(fd)


def _pin(interface: str) -> str:
    """A bpf file system allows no dot in a name."""
    return f"link_{interface.replace('.', ':')}"
