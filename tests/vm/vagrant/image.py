"""A disk that boots, made from a folder: one partition, ext4, GRUB. Nothing is mounted and no loop device needed.

GRUB lies where BIOSes look for it: boot.img in the first sector, and core.img behind it, in front of the partition.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

SECTOR = 512
FIRST_SECTOR = 2048
"""Where the partition begins. core.img has the sectors from the second one to here."""
MIB = 1 << 20

LABEL = "root"

GRUB_MODULES = ("biosdisk", "part_msdos", "ext2", "linux", "normal", "configfile")
"""What core.img needs to read the partition and to start Linux from it."""

_CODE_BYTES = 440
"""Of boot.img; behind them lie the disk's signature and the partition table."""
_LINUX = 0x83
_ACTIVE = 0x80
_NO_CHS = b"\xfe\xff\xff"
"""Cylinder, head and sector of what lies beyond them: read the sector number instead."""


def make(root: Path, qcow2: Path, size_mib: int) -> None:
    """Write the disk of what is under `root`, which holds boot/grub/grub.cfg, boot/core.img and GRUB's boot.img.

    Raises CalledProcessError, with what the program said, when e.g. the folder does not fit.
    """
    system, disk = qcow2.with_suffix(".ext4"), qcow2.with_suffix(".raw")
    offset = FIRST_SECTOR * SECTOR
    try:
        for path, size in ((system, size_mib * MIB - offset), (disk, size_mib * MIB)):
            with path.open("wb") as file:
                file.truncate(size)
        options = "root_owner=0:0,lazy_itable_init=1"
        _run("mke2fs", "-q", "-t", "ext4", "-m", "0", "-L", LABEL, "-E", options, "-d", root, system)
        with disk.open("r+b") as file:
            core = (root / "boot/core.img").read_bytes()
            if SECTOR + len(core) > offset:
                raise ValueError(f"GRUB's core.img has {len(core)} bytes and at most {offset - SECTOR} fit")
            code = (root / "usr/lib/grub/i386-pc/boot.img").read_bytes()
            file.write(code[:_CODE_BYTES] + partition_table(size_mib * MIB // SECTOR)[_CODE_BYTES:] + core)
        _run("dd", f"if={system}", f"of={disk}", "bs=1M", f"seek={offset // MIB}", "conv=notrunc,sparse")
        _run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, qcow2)
    finally:
        system.unlink(missing_ok=True)
        disk.unlink(missing_ok=True)


def partition_table(sectors: int) -> bytes:
    """The first sector of a disk with one bootable partition to its end, and no code. Pure."""
    entry = struct.pack("<B3sB3sII", _ACTIVE, _NO_CHS, _LINUX, _NO_CHS, FIRST_SECTOR, sectors - FIRST_SECTOR)
    return bytes(446) + entry + bytes(3 * 16) + b"\x55\xaa"


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
