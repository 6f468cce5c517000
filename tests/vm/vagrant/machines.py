"""The five machines while they are up: commands in them by ssh, and what can befall them by virsh."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLL_S = 0.5
SSH_S = 120.0
"""For a command that has no time of its own, also where the processor is emulated and shared."""
CONNECTIONS = Path("/run")
"""A short path, as sockets need, and ours alone; see isolation."""
NETWORK = "lbctl"
"""libvirt's name of the cluster's network; see Vagrantfile."""

Done = subprocess.CompletedProcess[str]


class MachineError(Exception):
    """Something did not become so in time, or a command failed; says which and what it printed."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How ssh reaches machines, and the log of everything that Vagrant said."""

    config: Path
    log: Path


def vagrant(log: Path, *words: str) -> str:
    """`vagrant WORDS...`, what it says also in the log. Raises MachineError."""
    done = subprocess.run(["vagrant", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    said = re.sub(r".*\r(?:\x1b\[K)?", "", done.stdout) + done.stderr  # without its progress bars
    with log.open("a") as file:
        file.write(f"$ vagrant {' '.join(words)}\n{said}")
    if done.returncode:
        last = "\n".join(said.splitlines()[-12:])
        raise MachineError(f"{last}\n'vagrant {' '.join(words)}' ended with {done.returncode}; all it said: {log}")
    return done.stdout


def wait_until(what: str, condition: Callable[[], Any], seconds: float) -> float:
    """Poll until it is so, and return after how many seconds. Raises MachineError when they are more than `seconds`."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > seconds:
            raise MachineError(f"{what}: not within {seconds:g} s")
        time.sleep(POLL_S)
    return time.monotonic() - began_s


class Machine:
    """One of them, by its name."""

    def __init__(self, name: str, reach: Reach) -> None:
        self.name, self._reach = name, reach

    def _ssh(self, command: str) -> list[str]:
        return [*self._through, f"sudo sh -c '{command}'"]

    @property
    def _through(self) -> list[str]:
        """One connection for all commands: to make one takes an emulated processor seconds."""
        words = ("ConnectTimeout=30", "ControlMaster=auto", f"ControlPath={CONNECTIONS}/%n", "ControlPersist=yes")
        options = [word for option in words for word in ("-o", option)]
        return ["ssh", "-F", str(self._reach.config), *options, self.name]

    def _hang_up(self) -> None:
        """The machine is another one now, or does not answer."""
        subprocess.run([*self._through[:-1], "-O", "exit", self.name], capture_output=True, check=False)

    def run(self, command: str, seconds: float = SSH_S) -> Done:
        """A shell command as root, to its end, whatever that is. No single quotes. An end that never comes is 124."""
        assert "'" not in command, command
        try:
            return subprocess.run(
                self._ssh(command),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            self._hang_up()
            return subprocess.CompletedProcess(late.cmd, 124, "", f"no end within {seconds:g} s")

    def output(self, command: str, seconds: float = SSH_S) -> str:
        """What it prints. Raises MachineError when it fails."""
        done = self.run(command, seconds)
        if done.returncode:
            raise MachineError(f"{self.name}: '{command}' ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def spawn(self, command: str) -> subprocess.Popen[str]:
        """A command that goes on. Its connection is its own and ends with it."""
        words = self._ssh(command)
        words[1:1] = ["-o", "ControlPath=none"]
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def status(self) -> dict[str, Any]:
        """A director's `lbctl status --json`; empty while it cannot be asked."""
        done = self.run("lbctl status --json")
        try:
            document: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        except ValueError:
            return {}
        return document

    def boot_id(self) -> str:
        """Another one after each boot; empty while it cannot be asked."""
        return self.run("cat /proc/sys/kernel/random/boot_id", 30).stdout.strip()

    # ------------------------------------------------------------------------------------- what befalls it

    def power_off(self) -> None:
        """As if its plug were pulled."""
        self._virsh("destroy", self._domain)
        self._hang_up()

    def power_on(self) -> None:
        """It boots."""
        self._virsh("start", self._domain)

    def freeze(self) -> None:
        """It stands still, and notices nothing of it."""
        self._virsh("suspend", self._domain)

    def thaw(self) -> None:
        """It goes on where it was."""
        self._virsh("resume", self._domain)

    def link(self, state: str) -> None:
        """Pull the cable of the cluster's network ("down") or put it in again ("up")."""
        self._virsh("domif-setlink", self._domain, self._card(), state)

    def reboot(self) -> None:
        """As an operator does it: its services are stopped."""
        self.run("systemctl reboot")
        self._hang_up()

    @property
    def _domain(self) -> str:
        return f"{project().name}_{self.name}"

    def _card(self) -> str:
        rows = [line.split() for line in self._virsh("domiflist", self._domain).splitlines()]
        return next(row[0] for row in rows if len(row) == 5 and row[2] == NETWORK)

    def _virsh(self, *words: str) -> str:
        done = subprocess.run(["virsh", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise MachineError(f"'virsh {' '.join(words)}' ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout


def project() -> Path:
    """The folder with the Vagrantfile, where this process is."""
    return Path(os.environ["VAGRANT_CWD"])


def copy_checkout(checkout: Path, to: Path) -> None:
    """What Vagrant works on: it leaves a key beside the configuration, and the configuration may get other times."""
    shutil.rmtree(to, ignore_errors=True)
    left_out = shutil.ignore_patterns(".git", ".venv", ".vagrant", "build", "__pycache__", "authkeys", ".*_cache")
    shutil.copytree(checkout, to, ignore=left_out, symlinks=True)
