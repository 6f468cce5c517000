"""Has a packet program compiled and loaded in a child process, and takes over its descriptors."""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lb
from lb.datapath.compiler import OWN
from lb.errors import DataPathError

TIMEOUT_S = 600.0
"""An idle machine takes one to five, by the configuration; an emulated CPU that it shares took more than 180."""
_TELLING = re.compile(r"error:|Error|Permission denied|not permitted|^R\d|invalid|unreachable|too many|^processed")
_KEPT_LINES = 12
_TOO_MUCH = ("BPF program is too large", "jumps is too complex")
"""How verifiers say that they give up (kernel/bpf/verifier.c)."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A program in the kernel: its descriptor, those of its own maps, and the layouts (`lb.abi.Layout`) of all maps."""

    program_fd: int
    map_fds: dict[str, int]
    layouts: dict[str, Any]


def load(text: str, jumbo: bool = False) -> Loaded:
    """Compile a text of `source.program_text` and load it. Takes seconds; blocks.

    jumbo: as in the configuration of that text.

    Its pinned maps are opened, or made where they are missing. Raises DataPathError with the compiler's words.
    """
    document, (program_fd, *map_fds) = _compiled(text, "jumbo" if jumbo else "packet")
    return Loaded(program_fd, dict(zip(OWN, map_fds, strict=True)), json.loads(document))


def load_probe(text: str) -> tuple[int, int, int]:
    """The same for a text of `source.probe_text`. Returns the descriptors of `ask`, `answer` and the map `probes`."""
    _, (ask_fd, answer_fd, map_fd) = _compiled(text, "probe")
    return ask_fd, answer_fd, map_fd


def _compiled(text: str, kind: str) -> tuple[bytes, list[int]]:
    """What the child sends of a text of that kind (`compiler.COMPILERS`)."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-m", "lb.datapath.compiler", str(theirs.fileno()), kind],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env=_environment(),
                text=True,
            )
        try:
            _, words = child.communicate(text, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise DataPathError(f"compiling the packet program took more than {TIMEOUT_S:g} s") from None
        if child.returncode:
            raise DataPathError(explained(words, platform.release()))
        return _receive(ours)


def explained(words: str, release: str) -> str:
    """What to say of a program that could not be loaded. words: the child's; release: as `uname -r`."""
    if any(limit in words for limit in _TOO_MUCH):
        return (
            f"the packet program of this configuration is more than Linux {release} is willing to check (a million "
            "instructions); use fewer different schedulers, or fewer reals where the scheduler compares them\n"
            + telling_lines(words)
        )
    return f"the packet program could not be loaded\n{telling_lines(words)}"


def telling_lines(words: str) -> str:
    """The lines of a compiler's, verifier's or interpreter's output that say what is wrong."""
    lines = words.strip().splitlines()
    telling = [line for line in lines if _TELLING.search(line)]
    return "\n".join((telling or lines)[-_KEPT_LINES:])


def _environment() -> dict[str, str]:
    """Ours, so that the child finds our packages wherever we run from."""
    path = [str(Path(lb.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def _receive(from_child: socket.socket) -> tuple[bytes, list[int]]:
    document, fds, _, _ = socket.recv_fds(from_child, 65_536, 1 + len(OWN), socket.MSG_CMSG_CLOEXEC)
    while more := from_child.recv(65_536):
        document += more
    return document, fds
