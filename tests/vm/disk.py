"""What a guest reads most as a disk: Python, its modules and bcc's libraries. Over 9p each small file takes a hundred
times longer, and before Linux 5.13 so does each page of a large one."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.vm.kernels import CACHE, exclusively

_LIBBCC = "/usr/lib/x86_64-linux-gnu/libbcc.so.0"
_SPARE_MB = 64
_OPAQUE = "trusted.overlay.opaque"
"""overlayfs does not look below a directory that says 'y' here."""


def image() -> Path:
    """An ext4 file system with these files under their own names; made anew when one of them has changed."""
    files, trees = _files(), _trees()
    recipe = hashlib.sha256("\n".join(sorted(_state(files, trees))).encode()).hexdigest()[:16]
    made = CACHE / f"disk-{recipe}.ext4"
    with exclusively(CACHE / "disk.lock"):
        if not made.exists():
            for old in CACHE.glob("disk-*"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            _make(made, files, trees)
    return made


def _files() -> list[Path]:
    """Python itself and what bcc is linked with."""
    shown = subprocess.run(["ldd", _LIBBCC], capture_output=True, text=True, check=True).stdout
    return [Path(name).resolve() for name in (sys.executable, _LIBBCC, *re.findall(r"=> (/\S+)", shown))]


def _trees() -> list[Path]:
    """Directories with all that is in them."""
    return [Path(sysconfig.get_path("stdlib")), Path("/usr/lib/python3"), Path(sys.prefix)]


def _state(files: Sequence[Path], trees: Sequence[Path]) -> Iterator[str]:
    """What changes when a file does. What Python compiles by itself does not count."""
    for path in (*files, *(found for tree in trees for found in tree.rglob("*") if "__pycache__" not in found.parts)):
        status = path.lstat()
        yield f"{path} {status.st_size} {status.st_mtime_ns}"


def _make(image: Path, files: Sequence[Path], trees: Sequence[Path]) -> None:
    copies, unfinished = image.with_suffix(".d"), image.with_suffix(".part")
    for path in files:
        copy = copies / path.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    for tree in trees:
        copy = copies / tree.relative_to("/")
        shutil.copytree(tree, copy, symlinks=True)
        os.setxattr(copy, _OPAQUE, b"y")
    size_mb = sum(path.lstat().st_size + 4096 for path in copies.rglob("*")) // (1 << 20) + _SPARE_MB
    options = ("-q", "-F", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-m", "0", "-E", "root_owner=0:0")
    made = subprocess.run(
        ["/sbin/mke2fs", *options, "-d", copies, unfinished, f"{size_mb}m"], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise RuntimeError(f"mke2fs: {made.stderr}")
    unfinished.rename(image)
    shutil.rmtree(copies)
