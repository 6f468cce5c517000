"""What every director needs of its machine: rights, bcc, headers, a kernel that can.

Each judge is a function of values; the `look_` functions fetch them.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from lb import bpf
from lb.datapath.headers import make_tree
from lb.doctor.verdict import Verdict, fail, ok, warn
from lb.errors import DataPathError
from lb.netif import sysctl

KERNEL_AT_LEAST = (5, 9)
"""XDP links; `lb.bpf` uses nothing newer."""
MACHINES = ("x86_64", "aarch64")
"""Those whose bpf(2) and headers we know."""

_NEEDED_RIGHTS = (("CAP_NET_ADMIN", (12, 21)), ("CAP_NET_RAW", (13,)), ("CAP_BPF", (39, 21)))
"""Name, and the bits of which one is enough; 21 is CAP_SYS_ADMIN."""

_RETURN_PASS = bytes.fromhex("b7000000020000009500000000000000")
"""r0 = XDP_PASS; exit"""
_RING_BUFFER, _LRU_HASH, _PER_CPU_ARRAY = 27, 9, 6
_CLONE_NEWNET = 0x40000000
_LOOPBACK = 1
"""The index of `lo` in every network namespace."""
_CLOCK_UNSYNCHRONISED = 5


def look_at_rights() -> Iterator[Verdict]:
    """May this process do what a director does?"""
    status = Path("/proc/self/status").read_text()
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    yield judge_rights(os.geteuid(), int(match[1], 16) if match else 0)


def judge_rights(user: int, effective: int) -> Verdict:
    """effective: the capabilities in force, one bit each."""
    missing = [name for name, bits in _NEEDED_RIGHTS if not any(effective >> bit & 1 for bit in bits)]
    if missing:
        return fail(f"user {user} lacks {', '.join(missing)}", "run it as root, in a container with these capabilities")
    return ok(f"user {user} with CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF")


def look_at_bcc() -> Iterator[Verdict]:
    """Is there a module bcc, and is it the compiler?"""
    found = importlib.util.find_spec("bcc")
    folder = Path(found.origin).parent if found and found.origin else None
    yield judge_bcc(folder)
    try:
        ctypes.CDLL("libbcc.so.0")
    except OSError as error:
        yield fail(f"libbcc.so.0 cannot be loaded: {error}", "apt-get install --reinstall libbpfcc python3-bpfcc")


def judge_bcc(folder: Path | None) -> Verdict:
    """folder: where the module is, if there is one."""
    if folder is None:
        return fail(
            f"{sys.executable} has no module bcc",
            "apt-get install python3-bpfcc; /usr/bin/python3 -m venv --system-site-packages for the environment",
        )
    if not (folder / "libbcc.py").is_file():
        return fail(
            f"the module bcc in {folder} is PyPI's, another project", "pip uninstall bcc; apt-get install python3-bpfcc"
        )
    return ok(f"{folder}")


def look_at_headers() -> Iterator[Verdict]:
    """Can the header tree for the compiler be made?"""
    with tempfile.TemporaryDirectory(prefix="lbctl-doctor-") as folder:
        try:
            make_tree(Path(folder))
        except DataPathError as error:
            yield fail(str(error), "apt-get install linux-libc-dev")
        else:
            yield ok("/usr/include/linux of linux-libc-dev")


def look_at_kernel() -> Iterator[Verdict]:
    """Is it new enough?"""
    yield judge_kernel(platform.release(), platform.machine())


def judge_kernel(release: str, machine: str) -> Verdict:
    """release: as `uname -r`; machine: as `uname -m`."""
    wanted = ".".join(map(str, KERNEL_AT_LEAST))
    match = re.match(r"(\d+)\.(\d+)", release)
    if match and (int(match[1]), int(match[2])) < KERNEL_AT_LEAST:
        return fail(f"Linux {release} is older than {wanted}", "upgrade: Debian 12 has 6.1")
    if machine not in MACHINES:
        return fail(f"Linux {release} on {machine}", f"use a machine of another kind: {', '.join(MACHINES)}")
    return ok(f"Linux {release} on {machine}")


def look_at_bpf() -> Iterator[Verdict]:
    """Does the kernel take what the packet path is made of? Tried out, on nothing that carries packets."""
    if platform.machine() not in MACHINES:
        return
    tries: dict[str, Callable[[], int]] = {
        "XDP program": lambda: bpf.load_xdp(_RETURN_PASS),
        "LRU hash": lambda: bpf.create_map(_LRU_HASH, 4, 4, 1024),
        "per-CPU array": lambda: bpf.create_map(_PER_CPU_ARRAY, 4, 8, 1),
        "mapped array": lambda: bpf.create_map(bpf.MAP_TYPE_ARRAY, 4, 8, 1, bpf.F_MMAPABLE),
        "ring buffer": lambda: bpf.create_map(_RING_BUFFER, 0, 0, os.sysconf("SC_PAGE_SIZE")),
        "XDP link": _attach_in_a_namespace_of_its_own,
    }
    able = []
    for name, attempt in tries.items():
        try:
            os.close(attempt())
        except PermissionError as error:
            yield fail(f"{name}: {error.strerror}", "run it as root; in a container or under lockdown, allow bpf(2)")
        except OSError as error:
            yield fail(
                f"{name}: {error.strerror}",
                f"this kernel lacks it: Linux {KERNEL_AT_LEAST[0]}.{KERNEL_AT_LEAST[1]} or newer",
            )
        else:
            able.append(name)
    if able:
        yield ok(", ".join(able))


def _attach_in_a_namespace_of_its_own() -> int:
    """An XDP link on the `lo` of a new network namespace, which only a thread has and which goes with it."""
    done: list[int | OSError] = []

    def attempt() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            number = ctypes.get_errno()
            done.append(OSError(number, os.strerror(number)))
            return
        try:
            program = bpf.load_xdp(_RETURN_PASS)
            try:
                done.append(bpf.attach_xdp(program, _LOOPBACK, bpf.XDP_FLAGS_SKB_MODE))
            finally:
                os.close(program)
        except OSError as error:
            done.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    (result,) = done
    if isinstance(result, OSError):
        raise result
    return result


def look_at_bpffs() -> Iterator[Verdict]:
    """Is there a place for maps that outlive a process?"""
    yield judge_bpffs(Path("/proc/mounts").read_text())


def judge_bpffs(mounts: str) -> Verdict:
    """mounts: as /proc/mounts."""
    if any(line.split()[1:3] == ["/sys/fs/bpf", "bpf"] for line in mounts.splitlines()):
        return ok("/sys/fs/bpf is mounted")
    return fail("/sys/fs/bpf is not mounted", "mount -t bpf bpf /sys/fs/bpf")


def look_at_jit() -> Iterator[Verdict]:
    """Does the kernel translate BPF programs?"""
    name = "net/core/bpf_jit_enable"
    yield judge_jit(sysctl.read(name) if sysctl.exists(name) else None)


def judge_jit(setting: str | None) -> Verdict:
    """setting: net.core.bpf_jit_enable; None where it is not shown: in all network namespaces but the first."""
    if setting == "0":
        return warn("off: packets take several times longer", "sysctl -w net.core.bpf_jit_enable=1")
    return ok("on" if setting else "not shown in this network namespace")


def look_at_clock() -> Iterator[Verdict]:
    """Do the directors' logs tell the same time?"""
    yield judge_clock(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024)))


def judge_clock(state: int) -> Verdict:
    """state: as adjtimex(2) returns it."""
    if state == _CLOCK_UNSYNCHRONISED:
        return warn("not synchronised: logs of two directors will not line up", "apt-get install chrony")
    return ok("synchronised")
