"""A libvirt of our own: processes, network, /run and libvirt's folders in namespaces that end with us.

Bridges, firewall rules and dnsmasq stay there, this machine's own libvirt (if it has one) is neither seen nor touched,
and when the first process of the namespaces ends, whatever it dies of, the kernel ends the others. What stays is in one
folder of files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.vm.guest import can_virtualise

INSIDE = "LBCTL_VAGRANT_INSIDE"
TRANSLATED_MIB = 128
"""Of memory in which qemu keeps translated code of a guest; unbounded it takes 1 GiB each."""
READY_S = 60.0

FOLDERS = ("etc/libvirt", "var/lib/libvirt", "var/cache/libvirt", "var/log/libvirt")

QEMU = Path("/usr/bin/qemu-system-x86_64")
QEMU_HOME = Path("/run/qemu")
QEMU_FINDS = ("lib", "share")
"""Folders beside its own, in which it looks for modules and firmware."""
WRAPPER = """\
#!/bin/bash
# libvirt cannot say this: bound the memory of the emulator's translated code.
words=("$@")
for i in "${{!words[@]}}"; do [ "${{words[i]}}" != tcg ] || words[i]=tcg,tb-size={mib}; done
exec {qemu} "${{words[@]}}"
"""


def enter(module: str, arguments: Sequence[str]) -> int:
    """Run `python -m MODULE ARGUMENTS` in namespaces of its own, to its end. Returns its exit status."""
    namespaces = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
    with_us = ("setpriv", "--pdeathsig", "KILL")
    command = [*with_us, "unshare", *namespaces, sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, env={**os.environ, INSIDE: "yes"}) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # it has it too, and cleans up
                continue
            except BaseException:
                process.kill()
                raise


def is_inside() -> bool:
    """Does this process run in them?"""
    return INSIDE in os.environ


def become_init() -> None:
    """Go on in a child; this process waits for it, and for all whose parents have ended, and ends as the child did.

    libvirt's daemons need that: as long as nobody has waited for a process, it counts as alive.
    """
    child = os.fork()
    if child == 0:
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(child, number))
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


@contextlib.contextmanager
def libvirt(state: Path) -> Iterator[None]:
    """A libvirtd that keeps its files in `state`, and this process's environment set for `vagrant` and `virsh`.

    Raises RuntimeError with its words when it does not start.
    """
    _mount(state)
    os.environ |= {
        "VAGRANT_HOME": str(state / "home"),
        "VAGRANT_DOTFILE_PATH": str(state / "dot"),
        "VAGRANT_DEFAULT_PROVIDER": "libvirt",
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_NO_COLOR": "1",
        "LIBVIRT_DEFAULT_URI": "qemu:///system",
    }
    with contextlib.ExitStack() as stack:
        for daemon in ("virtlogd", "libvirtd"):
            stack.enter_context(_daemon(daemon, state / f"{daemon}.log"))
        _wait_for_libvirtd(state / "libvirtd.log")
        yield


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def _mount(state: Path) -> None:
    """Give the namespaces a face of their own."""
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "run", "/run")
    Path("/run/lock").mkdir()
    _run("umount", "--recursive", "--lazy", "/sys")  # its control groups too: libvirt does without
    _run("mount", "-t", "sysfs", "sys", "/sys")
    for folder in FOLDERS:
        mine = state / folder
        mine.mkdir(parents=True, exist_ok=True)
        Path("/", folder).mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", mine, Path("/", folder))
    Path("/etc/libvirt/qemu.conf").write_text('user = "root"\ngroup = "root"\nsecurity_driver = "none"\n')
    Path("/etc/libvirt/libvirtd.conf").write_text('auth_unix_rw = "none"\n')
    if not can_virtualise():
        # Not under `state`: setuptools follows links when it looks for packages in the checkout.
        real, wrapper = QEMU_HOME / "bin" / QEMU.name, QEMU_HOME / "bounded"
        real.parent.mkdir(parents=True, exist_ok=True)
        real.touch()
        _run("mount", "--bind", QEMU, real)
        for folder in QEMU_FINDS:
            (QEMU_HOME / folder).symlink_to(Path("/usr", folder))
        wrapper.write_text(WRAPPER.format(mib=TRANSLATED_MIB, qemu=real))
        wrapper.chmod(0o755)
        _run("mount", "--bind", wrapper, QEMU)
    _run("ip", "link", "set", "lo", "up")
    # A bridge is a switch here, whatever this machine's firewall may be asked about in its own namespace.
    for switch in Path("/proc/sys/net/bridge").glob("bridge-nf-call-*"):
        switch.write_text("0")


@contextlib.contextmanager
def _daemon(name: str, log: Path) -> Iterator[None]:
    program = shutil.which(name, path="/usr/sbin:/usr/bin")
    if program is None:
        raise RuntimeError(f"{name} is not installed: run 'script/bootstrap --vagrant'")
    with log.open("wb") as file:
        process = subprocess.Popen([program], stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_for_libvirtd(log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while subprocess.run(["virsh", "version"], capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            raise RuntimeError(f"libvirtd is not ready after {READY_S:g} s:\n{log.read_text(errors='replace')}")
        time.sleep(0.2)
