"""Run a command in a fresh virtual machine: one of Debian's kernels over this machine's own files.

The guest sees every file of this machine and changes none: what it writes stays in its memory. It has no network but
what the command makes inside, and no other way out. With `cards` it has these network cards, eth0 and so on, on one
segment: a hub of qemu's, or, where a card has several queues, a bridge in a network namespace that only qemu is in.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.vm import disk
from tests.vm.kernels import Kernel

CHECKOUT = Path(__file__).parents[2]

VIRTIO, E1000 = "virtio-net-pci", "e1000"

_OFFLOADS = ("csum", "gso", "guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo")
"""What a hub of qemu's cannot carry."""


_BOOTS = 3
"""So often at most, while the kernel panics before the command begins. An emulated CPU may trap on an instruction that
another one is just changing (text_poke, RIP: sched_clock_idle_wakeup_event): seen on Debian's 6.12 with four CPUs."""

_BRIDGE = "lbctl-guest"
_MAKE_BRIDGE = f"""\
ip link add {_BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0
ip link set {_BRIDGE} addrgenmode none up
exec "$@"
"""
_PLUG_IN = f"""\
#!/bin/sh
exec ip link set "$1" addrgenmode none master {_BRIDGE} up
"""
"""qemu runs it with the name of a tap that it has made."""


@dataclass(frozen=True, slots=True)
class Card:
    """A network card. model: VIRTIO or E1000. queues: pairs of them, of VIRTIO alone."""

    model: str = VIRTIO
    queues: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went. status: the command's exit status, None when the guest ended before it did."""

    status: int | None
    output: str
    console: str


def can_virtualise() -> bool:
    """Does this machine's CPU run guests itself? /dev/kvm alone does not say so."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return Path("/dev/kvm").exists() and bool({"vmx", "svm"} & set(flags))


def run(
    kernel: Kernel,
    command: Sequence[str],
    *,
    cpus: int = 2,
    memory_mb: int = 2048,
    cards: Sequence[Card] = (),
    count_instructions: bool = False,
    limit_s: float = 600,
) -> Outcome:
    """Boot `kernel` and run `command` there as root, in this checkout's folder.

    count_instructions: one emulated CPU whose clock is the number of its instructions (1 ns each).
    """
    with tempfile.TemporaryDirectory(prefix="lbctl-guest-") as folder:
        job = Path(folder)
        (job / "boot").write_text(Path(__file__).with_name("boot.sh").read_text())
        (job / "run").write_text(f"cd {shlex.quote(str(CHECKOUT))} && exec {shlex.join(command)}\n")
        plug = job / "plug-in"
        plug.write_text(_PLUG_IN)
        plug.chmod(0o755)
        arguments = _arguments(kernel, job, 1 if count_instructions else cpus, memory_mb, cards, count_instructions)
        if _need_a_bridge(cards):
            arguments = ["unshare", "--net", "sh", "-ec", _MAKE_BRIDGE, "sh", *arguments]
        output, status = job / "output", job / "status"
        for _ in range(_BOOTS):
            said = _boot(arguments, limit_s)
            if output.exists() or b"Kernel panic" not in said:
                break
        return Outcome(
            status=int(status.read_text()) if status.exists() else None,
            output=output.read_text(errors="replace") if output.exists() else "",
            console=said.decode(errors="replace"),
        )


def _boot(arguments: Sequence[str], limit_s: float) -> bytes:
    """Until the machine is off. Returns what its console said."""
    with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as vm:
        try:
            said, _ = vm.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            vm.kill()
            said, _ = vm.communicate()
            said += f"\nkilled after {limit_s:g} s".encode()
        except BaseException:
            vm.kill()
            raise
    return said


def _arguments(kernel: Kernel, job: Path, cpus: int, memory_mb: int, cards: Sequence[Card], count: bool) -> list[str]:
    # Without these two flags the kernel copies memory a word at a time: emulated, 'rep movsb' is a turn for each byte.
    emulated = ("-cpu", "max,-erms,-fsrm")
    if count:
        accelerator = ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", *emulated]
    elif can_virtualise():
        accelerator = ["-accel", "kvm", "-cpu", "host"]
    else:
        accelerator = ["-accel", "tcg,thread=multi", *emulated]
    tied = ",ioeventfd=off,tx=timer,x-txtimer=20000" if count else ""
    return [
        *("qemu-system-x86_64", "-M", "pc,usb=off,hpet=off", *accelerator),
        *("-smp", str(cpus), "-m", str(memory_mb)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none", "-serial", "stdio"),
        *("-kernel", str(kernel.image), "-initrd", str(kernel.initramfs), "-append"),
        "console=ttyS0 quiet loglevel=4 panic=-1 nokaslr random.trust_cpu=on no_timer_check tsc=reliable net.ifnames=0"
        + ("" if count else " init_on_alloc=0 mitigations=off"),  # quicker, and of no matter but to who counts
        *("-drive", f"file={disk.image()},format=raw,if=none,id=disk,readonly=on"),
        *("-device", "virtio-blk-pci,drive=disk"),
        *_share("host", Path("/"), "readonly=on,multidevs=remap"),
        *_share("modules", kernel.modules, "readonly=on"),
        *_share("job", job),
        *(
            word
            for n, card in enumerate(cards)
            for word in _plugged(n, card, job / "plug-in", _need_a_bridge(cards), tied)
        ),
    ]


def _share(name: str, path: Path, options: str = "") -> list[str]:
    device = f"local,id={name},path={path},security_model=none"
    return [
        "-fsdev",
        ",".join(filter(None, (device, options))),
        "-device",
        f"virtio-9p-pci,fsdev={name},mount_tag={name}",
    ]


def _need_a_bridge(cards: Sequence[Card]) -> bool:
    """A hub's ports have one queue."""
    return any(card.queues > 1 for card in cards)


def _plugged(number: int, card: Card, plug: Path, bridge: bool, tied: str) -> list[str]:
    device = f"{card.model},netdev=n{number},mac=52:54:00:00:00:{number + 1:02x}"
    if card.model == VIRTIO:
        device += "".join(f",{name}=off" for name in _OFFLOADS) + tied
    end = f"hubport,hubid=0,id=n{number}"
    if bridge:
        end = f"tap,id=n{number},ifname=guest{number},script={plug},downscript=no,vhost=off"
    if card.queues > 1:
        end += f",queues={card.queues}"
        device += f",mq=on,vectors={2 * card.queues + 2}"
    return ["-netdev", end, "-device", device]
