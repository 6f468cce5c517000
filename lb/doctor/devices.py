"""Will an interface's driver run the program itself? Cards, and what stands above them: bonds and VLAN interfaces."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lb.doctor.drivers import NATIVE, driver_of, queue_pairs
from lb.doctor.verdict import Verdict, fail, ok, warn

BOND_MODES = ("round-robin", "active-backup", "xor", "802.3ad")
"""Those in which bonding takes a program (bond_xdp_check), as /proc/net/bonding names them."""

LIMITS_IGNORED = (6, 0)
"""Since this Linux generic mode asks the card alone whether it can send, not the byte queue limits."""

_VLAN = "802.1Q VLAN Support"
_BOND = "bonding"
_BOND_SYMBOL = re.compile(r" bond_xdp(\s|$)", re.MULTILINE)
"""What bonding has for it in /proc/kallsyms, since 5.15."""


@dataclass(frozen=True, slots=True)
class Device:
    """An interface. driver: as ethtool names it, "" where it does not say. pairs, most: of queues, in use and possible.

    below: the slaves of a bond, what a VLAN interface is on. mode: a bond's, in the kernel's words; able: does this
    kernel's bonding run programs?
    """

    name: str
    driver: str
    pairs: int = 0
    most: int = 0
    below: tuple[Device, ...] = ()
    mode: str = ""
    able: bool = True


def device(name: str) -> Device:
    """What there is under this name."""
    network = Path("/proc/thread-self/net")
    driver = driver_of(name)
    if driver == _BOND:
        text = _read(network / "bonding" / name)
        below = tuple(map(device, re.findall(r"^Slave Interface: (\S+)$", text, re.MULTILINE)))
        mode = re.search(r"^Bonding Mode: (.+)$", text, re.MULTILINE)
        able = bool(_BOND_SYMBOL.search(_read(Path("/proc/kallsyms"))))
        return Device(name, driver, below=below, mode=mode[1] if mode else "", able=able)
    if driver == _VLAN:
        found = re.search(r"^Device: (\S+)$", _read(network / "vlan" / name), re.MULTILINE)
        return Device(name, driver, below=(Device(found[1], driver_of(found[1])),) if found else ())
    return Device(name, driver, *queue_pairs(name))


def judge_device(found: Device, cpus: int, attach: str) -> Verdict:
    """cpus: of this machine. attach: what the configuration orders."""
    if found.driver == "veth":
        return ok("veth: native, if the other end of each pair has an XDP program too (the lab sees to that)")
    lacking, mend = _lacking(found)
    if not lacking:
        return _scarce(found, cpus) or ok(f"{_named(found)}: native XDP")
    seen = f"{lacking}: generic XDP only, several times slower"
    if attach == "native":
        return fail(seen, f'write attach = "auto" in [cluster], or: {mend}')
    return warn(seen, f"{mend}, if you need the speed")


def judge_queue_limits(found: Device, attach: str, release: str) -> Verdict:
    """Does a card without XDP send whatever the program sends? release: as `uname -r`; attach: what is configured.

    In generic mode nobody queues behind the program. Until Linux 6.0 what byte queue limits hold back was dropped there
    (generic_xdp_tx in net/core/dev.c), some packets of sixteen that came at once on an e1000.
    """
    version = re.match(r"(\d+)\.(\d+)", release)
    heeded = version is not None and (int(version[1]), int(version[2])) < LIMITS_IGNORED
    if not heeded or found.below or (found.driver in NATIVE and attach != "generic"):
        return ok(f"nothing waits for them on {found.name}")
    return warn(
        f"Linux {release} drops what they hold back of a burst, in generic mode",
        f"echo 1000000 | tee /sys/class/net/{found.name}/queues/tx-*/byte_queue_limits/limit_min, on each boot",
    )


def _lacking(found: Device) -> tuple[str, str]:
    """Who cannot do it and what to do about it; two empty ones if all can."""
    if found.driver == _VLAN and found.below:
        below = found.below[0].name
        return f"{found.name} is a VLAN interface on {below}", f"balance on {below} itself, see docs/frames.md"
    if found.driver == _BOND and not found.able:
        return f"{_named(found)}, of which this kernel knows no XDP", "Linux 5.15 or newer"
    if found.driver == _BOND and not any(mode in found.mode for mode in BOND_MODES):
        return f"{_named(found)} in mode {found.mode}", f"a bond of another mode: {', '.join(BOND_MODES)}"
    for slave in found.below:
        if slave.driver not in NATIVE:
            return (
                f"{_named(found)}, of which {slave.name} ({slave.driver}) has no XDP",
                f"another card for {slave.name}",
            )
    if found.driver not in NATIVE:
        return found.driver or "a driver without a name", f"another card for {found.name}"
    return "", ""


def _scarce(found: Device, cpus: int) -> Verdict | None:
    """virtio_net sends from programs by queues of their own, one a CPU, beside those it has in use."""
    for card in (*found.below, found):
        needed = min(card.pairs, cpus) + cpus  # while a program is attached, these are among those in use
        if card.driver == "virtio_net" and card.most < needed:
            return warn(
                f"{card.name}: virtio_net with {card.most} queue pairs; native XDP wants {needed}, makes CPUs wait "
                "for each other with fewer, and is refused by older kernels",
                f"give it {needed} in the hypervisor (qemu: queues={needed}, mq=on, vectors={2 * needed + 2})",
            )
    return None


def _named(found: Device) -> str:
    """A bond with the drivers of its slaves."""
    drivers = sorted({slave.driver for slave in found.below})
    return f"{found.driver} over {', '.join(drivers)}" if drivers else found.driver


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
