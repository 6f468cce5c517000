"""Where programs and maps live on without a process: /sys/fs/bpf/lbctl/NODE/.

NODE/link_INTERFACE     an attachment
NODE/SCHEMA/…           the lasting maps; a program of another schema makes its own directory
NODE/SCHEMA/document    what those who only read need to know: layouts, timeouts, interfaces with their modes
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from lb import bpf
from lb.errors import NotRunningError, UsageError

FILE_SYSTEM = Path("/sys/fs/bpf")
ROOT = FILE_SYSTEM / "lbctl"


def home(node: str) -> Path:
    """The directory of a node. A bpf file system allows no dot in a name, a host name does: it becomes a colon."""
    return ROOT / node.replace(".", ":")


def mount() -> None:
    """Make sure that things can be pinned. Raises OSError."""
    if not os.path.ismount(FILE_SYSTEM):
        bpf.mount_bpffs(FILE_SYSTEM)


def find_node(node: str | None = None) -> str:
    """The node whose data plane is pinned here; `node` itself if given.

    Raises NotRunningError if there is none, UsageError if there are several to choose from.
    """
    if node is not None:
        return node
    nodes = sorted(path.name.replace(":", ".") for path in ROOT.iterdir()) if ROOT.is_dir() else []
    if not nodes:
        raise NotRunningError(f"no data plane below {ROOT}; start one: lbctl up CONF")
    if len(nodes) > 1:
        raise UsageError(f"data planes of {', '.join(nodes)} are here; say which: --node {nodes[0]}")
    return nodes[0]


def directory_of(node: str) -> Path | None:
    """The directory of the lasting maps in use: the one with the youngest document."""
    documents = list(home(node).glob("*/document"))
    return max(documents, key=lambda path: path.stat().st_mtime_ns).parent if documents else None


def write_document(directory: Path, document: dict[str, Any]) -> None:
    """Pin a document, in place of the one before."""
    text = json.dumps(document).encode()
    fd = bpf.create_map(bpf.MAP_TYPE_ARRAY, 4, len(text), 1)
    opened = bpf.Map(fd, np.dtype("u4"), np.dtype((np.void, len(text))))
    try:
        opened.update(np.zeros(1), np.frombuffer(text, opened.value))
        fresh = directory / "document_new"
        fresh.unlink(missing_ok=True)
        bpf.pin(opened.fd, fresh)
        fresh.replace(directory / "document")
    finally:
        opened.close()


def read_document(directory: Path) -> dict[str, Any]:
    """What `write_document` pinned there."""
    fd = bpf.open_pinned(directory / "document")
    opened = bpf.Map(fd, np.dtype("u4"), np.dtype((np.void, bpf.map_info(fd).value_size)))
    try:
        document: dict[str, Any] = json.loads(opened.read().tobytes())
        return document
    finally:
        opened.close()


def remove(directory: Path) -> None:
    """Unpin everything in a directory of maps."""
    with contextlib.suppress(FileNotFoundError):
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()


def remove_others(directory: Path) -> None:
    """Unpin the maps of other schemas beside it."""
    for other in directory.parent.iterdir():
        if other.is_dir() and other != directory:
            remove(other)


def remove_node(node: str) -> None:
    """Unpin everything of a node; the program is detached when nobody holds its link."""
    path = home(node)
    for link in path.glob("link_*"):
        link.unlink()
    for directory in path.iterdir() if path.is_dir() else ():
        remove(directory)
    for empty in (path, ROOT):
        with contextlib.suppress(OSError):
            empty.rmdir()
