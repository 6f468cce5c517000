"""Build a box for `vagrant up` with libvirt, in which everything is that script/provision would fetch.

    script/box                                   prints the box's path
    LBCTL_BOX=$(script/box) vagrant up           the five hosts, without any network but their own

Debian of this machine's own release, from the mirror that this machine's apt uses; Python's packages by this machine's
pip. Kept under build/box and built again when what it is made from changes (--force: also when not). What is said on
the way goes to stderr; the whole of it is in build/box/log. Needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.vm.kernels import exclusively
from tests.vm.vagrant import image

CHECKOUT = Path(__file__).parents[3]
HOME = CHECKOUT / "build/box"
INPUTS = (
    "pyproject.toml",
    "script/bootstrap",
    "script/provision",
    "tests/vm/vagrant/box.py",
    "tests/vm/vagrant/image.py",
)
DISK_MIB = 8192
"""As the guest sees it. The file is as large as what is in it."""

PACKAGES = (
    *("linux-image-amd64", "initramfs-tools", "systemd-sysv", "dbus", "udev", "kmod", "grub-pc-bin", "grub-common"),
    *("openssh-server", "sudo", "rsync", "ca-certificates"),  # what Vagrant itself asks for
    *("iproute2", "iputils-ping", "procps", "tcpdump", "ethtool"),
)
"""What script/provision finds on any Debian, and what one looks with."""

WHEELS = "usr/local/share/lbctl-wheels"

FILES = {
    "etc/dpkg/dpkg.cfg.d/small": "path-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n"
    "path-exclude=/usr/share/locale/*\n",
    "etc/initramfs-tools/conf.d/small": "MODULES=list\nCOMPRESS=gzip\n",
    "etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\n",
    "etc/fstab": f"LABEL={image.LABEL} / ext4 noatime,errors=remount-ro 0 1\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 lbctl\n",
    "etc/hostname": "lbctl\n",
    # Vagrant's own network; it adds the others.
    "etc/systemd/network/10-eth0.network": "[Match]\nName=eth0\n\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n"
    "IPv6AcceptRA=no\n\n[DHCPv4]\nClientIdentifier=mac\nUseDNS=no\nUseRoutes=no\n",
    "etc/sudoers.d/vagrant": "vagrant ALL=(ALL) NOPASSWD: ALL\n",
    "etc/ssh/sshd_config.d/vagrant.conf": "UseDNS no\nGSSAPIAuthentication no\n",
    "etc/pip.conf": f"[global]\nno-index = true\nfind-links = /{WHEELS}\ndisable-pip-version-check = true\n",
}

NOT_WANTED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
)

SET_UP = f"""
useradd --create-home --shell /bin/bash vagrant
echo vagrant:vagrant | chpasswd
chmod 440 /etc/sudoers.d/vagrant
chown -R vagrant:vagrant /home/vagrant/.ssh
systemctl enable --quiet systemd-networkd ssh
systemctl mask --quiet {" ".join(NOT_WANTED)}
systemctl disable --quiet nginx
: >/etc/machine-id
"""

GRUB = """\
set timeout=0
linux /boot/vmlinuz-{kernel} root=LABEL={label} ro net.ifnames=0 console=tty0 console=ttyS0,115200 mitigations=off quiet
initrd /boot/initrd.img-{kernel}
boot
"""


class BoxError(Exception):
    """The box cannot be built; says why and what to do."""


@dataclass(frozen=True, slots=True)
class Debian:
    """A release. sources: apt's lines for it; mirror: where the release itself is among them."""

    codename: str
    mirror: str
    sources: str


def name_for(codename: str) -> str:
    """The box's name: another one whenever something is different that it is made from."""
    digest = hashlib.sha256(codename.encode())
    for name in INPUTS:
        digest.update((CHECKOUT / name).read_bytes())
    return f"lbctl-{codename}-{digest.hexdigest()[:10]}"


def build(force: bool = False) -> Path:
    """The box, built unless it is there. Raises BoxError."""
    if os.geteuid() != 0:
        raise BoxError("building a box takes root: run this as root")
    debian = debian_here()
    box = HOME / f"{name_for(debian.codename)}.box"
    with exclusively(HOME / "lock"):
        if force or not box.exists():
            if platform.machine() != "x86_64":
                raise BoxError(f"a box for {platform.machine()} cannot be built yet, only for x86_64")
            for old in HOME.glob("*.box"):
                old.unlink()
            _build(debian, box)
    return box


def debian_here() -> Debian:
    """This machine's release: so pip's wheels fit Python there as well. Raises BoxError."""
    try:
        codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
        command = ("apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI) $(CODENAME)", "Created-By: Packages")
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, KeyError, subprocess.CalledProcessError) as error:
        raise BoxError(
            f"which Debian this is cannot be told ({error}): a box is built on Debian 12 or newer"
        ) from error
    wanted = (codename, f"{codename}-updates", f"{codename}-security")
    found = {words[2]: words[1] for line in listed if (words := line.split())[0] == "Debian" and words[2] in wanted}
    if codename not in found:
        raise BoxError(f"apt knows no Debian mirror of {codename} here: run 'apt-get update' and try again")
    sources = "".join(f"deb {uri} {suite} main\n" for suite, uri in sorted(found.items()))
    return Debian(codename, found[codename], sources)


# ------------------------------------------------------------------------------------------------ building


def _build(debian: Debian, box: Path) -> None:
    began_s = time.monotonic()

    def say(text: str) -> None:
        print(f"==> {text} ({time.monotonic() - began_s:.0f} s)", file=sys.stderr, flush=True)

    work = HOME / "work"
    root = work / "root"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with (HOME / "log").open("w") as log:
            builder = _Builder(root, log.fileno())
            say(f"Debian {debian.codename} from {debian.mirror}")
            builder.run("debootstrap", "--variant=minbase", debian.codename, root, debian.mirror)
            builder.write({**FILES, "etc/apt/sources.list": debian.sources})
            say("its packages")
            builder.install(*PACKAGES)
            say("Python's packages, fetched by this machine's pip")
            builder.wheels()
            say("what script/provision needs")
            builder.provision()
            say("users, network, kernel")
            kernel = builder.finish()
            say("the disk")
            image.make(root, work / "box.img", DISK_MIB)
            shutil.rmtree(root)
            _pack(work, box)
    except subprocess.CalledProcessError as error:
        said = (HOME / "log").read_text(errors="replace").splitlines()[-15:] + (error.stderr or "").splitlines()[-15:]
        command = " ".join(map(str, error.cmd))
        raise BoxError("\n".join([*said, f"'{command}' failed; all that was said: {HOME / 'log'}"])) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    say(f"done: {box.name}, {box.stat().st_size >> 20} MiB, Linux {kernel}")


def _pack(work: Path, box: Path) -> None:
    """What libvirt's provider of Vagrant takes: the disk and what it is."""
    described = {"provider": "libvirt", "format": "qcow2", "virtual_size": DISK_MIB >> 10}
    (work / "metadata.json").write_text(json.dumps(described))
    draft = box.with_suffix(".new")
    command = ("tar", "--use-compress-program", "gzip -1", "-cf", draft, "-C", work, "metadata.json", "box.img")
    subprocess.run(command, check=True, capture_output=True, text=True)
    draft.replace(box)


class _Builder:
    """A folder that becomes the guest's root file system. Programs that fail raise CalledProcessError."""

    def __init__(self, root: Path, log: int) -> None:
        self._root, self._log = root, log

    def run(self, *command: str | Path, env: Mapping[str, str] | None = None) -> None:
        """A command of this machine's; what it says goes to the log."""
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=env, check=True)

    def inside(self, script: str) -> None:
        """A shell script in the folder, as if it were booted. Its /proc goes away with the mount namespace."""
        proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        enter = 'mount -t proc proc "$0/proc" && exec chroot "$0" sh -euc "$1"'
        command = ("unshare", "--mount", "sh", "-euc", enter, self._root, script)
        self.run(*command, env={**clean, **proxies, "HOME": "/root"})

    def write(self, files: Mapping[str, str]) -> None:
        """Files with these contents, by their paths in the folder."""
        for name, text in files.items():
            path = self._root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def install(self, *packages: str) -> None:
        """Debian's packages, from now on without starting what they bring."""
        policy = self._root / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        shutil.copy("/etc/resolv.conf", self._root / "etc/resolv.conf")
        options = "-y -q -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-unsafe-io"
        self.inside(f"apt-get -q update; apt-get {options} install --no-install-recommends {' '.join(packages)}")

    def wheels(self) -> None:
        """Those of all that lbctl needs to be built and to run, of lbctl itself none."""
        wheels = self._root / WHEELS
        pip = (sys.executable, "-m", "pip", "wheel", "--no-input", "--quiet", "--wheel-dir", wheels)
        self.run(*pip, f"{CHECKOUT}[checks]", "setuptools>=77", "wheel")
        for ours in wheels.glob("lbctl-*.whl"):
            ours.unlink()

    def provision(self) -> None:
        """Let script/provision fetch all there is to fetch; then leave out lbctl, which comes with the checkout."""
        with self._checkout() as inside:
            self.inside(f"{inside}/script/provision --packages")
        self.inside("/opt/lbctl/bin/python -m pip uninstall -q -y lbctl; rm -f /usr/local/bin/lbctl")

    @contextlib.contextmanager
    def _checkout(self) -> Iterator[str]:
        """A copy of what pip needs of the checkout, and where it lies for the guest."""
        copy = self._root / "root/lbctl"
        copy.mkdir()
        for name in ("lb", "ha", "bpf", "script"):
            shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(CHECKOUT / name, copy / name)
        yield "/root/lbctl"
        shutil.rmtree(copy)

    def finish(self) -> str:
        """The user, the services, what boots. Returns the kernel's release."""
        [public] = Path("/usr/share").glob("rubygems-integration/all/gems/vagrant-[0-9]*/keys/vagrant.pub")
        self.write({"home/vagrant/.ssh/authorized_keys": public.read_text()})
        self.inside(SET_UP)
        [kernel] = (path.name for path in (self._root / "lib/modules").iterdir())
        self.write({"boot/grub/grub.cfg": GRUB.format(kernel=kernel, label=image.LABEL)})
        modules = " ".join(image.GRUB_MODULES)
        self.inside(
            f"update-initramfs -c -k {kernel} || update-initramfs -u -k {kernel};"
            f"grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o /boot/core.img {modules};"
            "apt-get clean; rm -rf /var/lib/apt/lists/* /usr/sbin/policy-rc.d /etc/resolv.conf"
        )
        return kernel


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="script/box", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--force", action="store_true", help="build it even if it is there")
    given = parser.parse_args()
    try:
        print(build(given.force))
    except BoxError as error:
        sys.exit(f"script/box: {error}")
    except KeyboardInterrupt:
        sys.exit("script/box: given up; what was begun is removed")


if __name__ == "__main__":
    main()
