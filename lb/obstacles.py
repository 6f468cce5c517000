"""What keeps this machine from asking what a configuration says: a library, a file or a program that is not there.

The same file is also read where no check runs, so these are no errors of the file: `lbctl check` warns of them, and a
director refuses to start, or to change over, with them.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path as FilePath

from lb.kinds import Kind
from lb.model import Cluster, Question
from lb.positions import Finding, Path
from lb.wording import show

FILES = ("passwd_file", "secret_file", "ca", "certificate", "key")


def obstacles(cluster: Cluster) -> Iterator[Finding]:
    """Everything that is missing here, for any check."""
    for v, virtual in enumerate(cluster.virtuals):
        place: Path = ("virtual", v, "check")
        for p, asked in enumerate(virtual.check.questions):
            yield from _question(asked, (*place, "part", p) if virtual.check.parts else place)


def _question(asked: Question, place: Path) -> Iterator[Finding]:
    kind: Kind = asked.kind
    if kind.library and importlib.util.find_spec(kind.library) is None:
        message = f"{show(asked.service)} needs {kind.library}, which is missing: pip install 'lbctl[{kind.extra}]'"
        yield Finding(((*place, "service"),), message)
    for key in FILES:
        path = getattr(asked, key)
        if path is not None and (reason := _unreadable(path)):
            yield Finding(((*place, key),), f"{path}: {reason}")
    if asked.command and shutil.which(asked.command[0]) is None:
        yield Finding(((*place, "command"),), f"{show(asked.command[0])} is not a program that can be run here")


def _unreadable(path: str) -> str:
    try:
        with FilePath(path).open("rb"):
            return ""
    except OSError as error:
        return os.strerror(error.errno or 0).lower()
