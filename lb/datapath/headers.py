"""The kernel headers that bcc wants, made of linux-libc-dev alone.

bcc looks for the headers of the running kernel and stops without them; an XDP program needs the UAPI ones only, which
are the same for every kernel. BCC_KERNEL_SOURCE points it at this tree instead, and the system's directories come last.
"""

from __future__ import annotations

import platform
from pathlib import Path

from lb.errors import DataPathError

_SYSTEM = Path("/usr/include")
_ARCHITECTURES = {"x86_64": ("x86", "x86_64-linux-gnu"), "aarch64": ("arm64", "aarch64-linux-gnu")}
"""machine → the kernel's name of it, and Debian's directory for its headers."""

_KCONFIG = """\
#pragma once
#define CONFIG_BPF_SYSCALL 1
typedef signed char s8;
typedef unsigned char u8;
typedef short s16;
typedef unsigned short u16;
typedef int s32;
typedef unsigned int u32;
typedef long long s64;
typedef unsigned long long u64;
typedef _Bool bool;
typedef unsigned long size_t;
typedef long ssize_t;
typedef unsigned long uintptr_t;
enum { false, true };
#define NULL ((void *)0)
"""
"""bcc includes this first of all. In the kernel, all of it would come from linux/types.h and linux/stddef.h."""

_BPF = f"""\
#ifndef _UAPI__LINUX_BPF_H__
#define _UAPI__LINUX_BPF_H__
#include "{_SYSTEM}/linux/bpf.h"
#endif
"""
"""bcc brings a copy of its own under this guard, which must not come after the system's."""


def make_tree(root: Path) -> tuple[str, ...]:
    """Fill an empty directory; returns the compiler's flags for all other headers.

    Raises DataPathError when linux-libc-dev is not installed or the machine is unknown.
    """
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise DataPathError(f"the packet program cannot be compiled on {machine!r}; it can on {known}")
    kernel_name, debian_name = _ARCHITECTURES[machine]
    if not (_SYSTEM / "linux/bpf.h").is_file():
        raise DataPathError(f"{_SYSTEM}/linux/bpf.h is missing; install it: apt-get install linux-libc-dev")
    files = {
        "include/linux/kconfig.h": _KCONFIG,
        "include/linux/log2.h": "",
        "include/uapi/linux/bpf.h": _BPF,
        "include/uapi/linux/if_packet.h": f'#include "{_SYSTEM}/linux/if_packet.h"\n',
        f"arch/{kernel_name}/include/asm/page.h": "#define PAGE_SIZE 4096\n",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return "-idirafter", str(_SYSTEM), "-idirafter", str(_SYSTEM / debian_name)
