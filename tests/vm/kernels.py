"""Debian's kernels as files: fetched by package name from this machine's own mirror, unpacked, never installed."""

from __future__ import annotations

import fcntl
import gzip
import lzma
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import zstandard

CACHE = Path(__file__).parents[2] / "build/vm"

SUITES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie"}
"""The kernels we try, and the Debian release each is the kernel of."""

BOOT_MODULES = ("virtio_pci", "virtio_blk", "ext4", "9pnet_virtio", "9p", "overlay")
"""What the guest needs before it has a root file system."""

_DECOMPRESS = {
    b"\xfd7zXZ\x00": lambda data: lzma.LZMADecompressor().decompress(data),
    b"\x28\xb5\x2f\xfd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    b"\x1f\x8b\x08": gzip.decompress,
}


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel. release: as `uname -r` says; image: the ELF file; modules: what is /lib/modules there."""

    release: str
    image: Path
    modules: Path
    initramfs: Path


def fetch(version: str) -> Kernel:
    """The newest of Debian's kernels of that version (a key of SUITES), unpacked under build/vm; quick when there.

    Raises CalledProcessError with apt's words when the mirror does not have it.
    """
    home = CACHE / version
    with exclusively(CACHE / f"{version}.lock"):
        if not (home / "done").exists():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)
            _unpack(SUITES[version], home)
            _prepare(home)
            (home / "done").touch()
    return Kernel((home / "release").read_text(), home / "vmlinux", home / "root/usr/lib/modules", home / "initramfs")


@contextmanager
def exclusively(path: Path) -> Iterator[None]:
    """While nobody else holds this file's lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stdout + done.stderr)
    return done.stdout


def _mirror() -> str:
    """The Debian mirror of this machine: the first of apt's own that is none of security updates."""
    listed = _run("apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)").split("\n")
    mirrors = [line.split()[1] for line in listed if line.startswith("Debian ") and "security" not in line]
    if not mirrors:
        raise RuntimeError("apt knows no Debian mirror here: run 'apt-get update'")
    return mirrors[0]


def _unpack(suite: str, home: Path) -> None:
    """Put the files of the suite's kernel package under home/root, by an apt that has folders of its own."""
    state = home / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True)
    sources = state / "sources.list"
    sources.write_text(f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {_mirror()} {suite} main\n")
    options = [
        *("-o", f"Dir::Etc::SourceList={sources}", "-o", "Dir::Etc::SourceParts=/dev/null"),
        *("-o", f"Dir::State::Lists={state / 'lists'}", "-o", f"Dir::Cache={state / 'cache'}"),
        *("-o", "APT::Sandbox::User=root", "-q"),
    ]
    _run("apt-get", *options, "update")
    depends = _run("apt-cache", *options, "show", "linux-image-amd64").split("Depends: ")[1]
    package = depends.split()[0]
    _run("apt-get", *options, "download", package, cwd=state)
    [archive] = state.glob("*.deb")
    _run("dpkg-deb", "--extract", archive, home / "root")
    shutil.rmtree(state)


def _prepare(home: Path) -> None:
    root = home / "root"
    if (root / "lib").exists():  # releases before trixie
        shutil.copytree(root / "lib", root / "usr/lib", dirs_exist_ok=True)
        shutil.rmtree(root / "lib")
    (root / "lib").symlink_to("usr/lib")
    [modules] = (root / "usr/lib/modules").iterdir()
    _run("depmod", "--basedir", root, modules.name)
    [packed] = (root / "boot").glob("vmlinuz-*")
    (home / "vmlinux").write_bytes(_decompress(packed.read_bytes()))
    _make_initramfs(home, root, modules.name)
    (home / "release").write_text(modules.name)


def _decompress(image: bytes) -> bytes:
    """The ELF file inside a bzImage, so that no emulated CPU has to unpack it.

    Where it lies: Documentation/arch/x86/boot.rst, payload_offset and payload_length, from the end of the set-up code.
    """
    setup_sectors = image[0x1F1]
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length]
    for magic, decompress in _DECOMPRESS.items():
        if payload.startswith(magic):
            return decompress(payload)
    raise RuntimeError(f"this kernel is packed in a way unknown here: it begins with {payload[:6].hex()}")


def _make_initramfs(home: Path, root: Path, release: str) -> None:
    """busybox, the modules to reach the root file system in their order, and init.sh."""
    tree = home / "initramfs.d"
    for folder in ("bin", "modules", "proc", "sys", "dev", "root"):
        (tree / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    (tree / "bin/sh").symlink_to("busybox")
    shutil.copy(Path(__file__).with_name("init.sh"), tree / "init")
    (tree / "init").chmod(0o755)
    needed: dict[Path, None] = {}
    for module in BOOT_MODULES:
        shown = _run("modprobe", "--dirname", root, "--set-version", release, "--show-depends", module)
        needed |= {Path(line.split()[1]): None for line in shown.splitlines() if line.startswith("insmod")}
    for number, path in enumerate(needed):
        data = path.read_bytes()
        data = lzma.decompress(data) if path.suffix == ".xz" else data
        (tree / f"modules/{number:02}-{path.name.split('.')[0]}.ko").write_bytes(data)
    names = "\n".join(str(p.relative_to(tree)) for p in sorted(tree.rglob("*")))
    packed = subprocess.run(
        ["cpio", "--create", "--format=newc", "--quiet"],
        input=names.encode(),
        cwd=tree,
        capture_output=True,
        check=True,
    )
    (home / "initramfs").write_bytes(packed.stdout)
    shutil.rmtree(tree)
