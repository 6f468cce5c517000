"""Run a command in a fresh virtual machine: one of Debian's kernels over this machine's own files.

The guest sees every file of this machine and changes none: what it writes stays in its memory. It has no network but
what the command makes inside, and no other way out. With `cards` it has that many virtio network cards, eth0 and so
on, that one hub of qemu's joins.
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

_OFFLOADS = ("csum", "gso", "guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo")
"""What a hub of qemu's cannot carry."""


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
    cards: int = 0,
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
        arguments = _arguments(kernel, job, 1 if count_instructions else cpus, memory_mb, cards, count_instructions)
        with subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as vm:
            try:
                said, _ = vm.communicate(timeout=limit_s)
            except subprocess.TimeoutExpired:
                vm.kill()
                said, _ = vm.communicate()
                said += f"\nkilled after {limit_s:g} s".encode()
            except BaseException:
                vm.kill()
                raise
        output, status = job / "output", job / "status"
        return Outcome(
            status=int(status.read_text()) if status.exists() else None,
            output=output.read_text(errors="replace") if output.exists() else "",
            console=said.decode(errors="replace"),
        )


def _arguments(kernel: Kernel, job: Path, cpus: int, memory_mb: int, cards: int, count: bool) -> list[str]:
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
        *(word for n in range(cards) for word in _card(n, tied)),
    ]


def _share(name: str, path: Path, options: str = "") -> list[str]:
    device = f"local,id={name},path={path},security_model=none"
    return [
        "-fsdev",
        ",".join(filter(None, (device, options))),
        "-device",
        f"virtio-9p-pci,fsdev={name},mount_tag={name}",
    ]


def _card(number: int, tied: str) -> list[str]:
    off = ",".join(f"{name}=off" for name in _OFFLOADS)
    mac = f"52:54:00:00:00:{number + 1:02x}"
    return [
        *("-netdev", f"hubport,hubid=0,id=n{number}"),
        *("-device", f"virtio-net-pci,netdev=n{number},mac={mac},{off}{tied}"),
    ]
