"""The child process that compiles and loads: `python -m lb.datapath.compiler FD KIND < TEXT`. The only importer of bcc.

LLVM takes a hundred megabytes and one to five seconds; the daemon has neither to spare. The child sends a JSON document
and, along with its first byte, the descriptors of the program and of its own maps over the Unix socket FD, and ends.
What the compiler or the verifier has to say goes to standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lb import bpf
from lb.datapath.headers import make_tree

FUNCTION = "lb"
SHARED = (
    *("reals", "ways", "real_stats", "services", "counters", "answered", "lease", "epochs", "loads"),
    *("datagrams", "paces", "earlies"),
)
OWN = ("schedules", "slots", "lists", "localities", "denied_by", "denied_packets", "allowances")
TABLES, EMBRYOS, RINGS = ("connections", "connections6"), ("embryos", "embryos6"), ("events", "events6")
FAMILIES = (*TABLES, *EMBRYOS, *RINGS)
"""The maps of bpf/maps.h: pinned ones, those that only this program has, and the pinned ones of each family, which a
program has that balances it."""


def layout_of(kind: type[Any]) -> Any:
    """An `lb.abi.Layout` of a ctypes type."""
    if not issubclass(kind, ctypes.Structure):
        signed = str(getattr(kind, "_type_", "")).islower()
        return f"{'i' if signed else 'u'}{8 * ctypes.sizeof(kind)}"
    fields = []
    for name, inner, *_ in kind._fields_:
        count = getattr(inner, "_length_", 0)
        fields.append([name, layout_of(_one(inner)), getattr(kind, name).offset, count])
    return {"size": ctypes.sizeof(kind), "fields": fields}


def compile_and_load(text: str, jumbo: bool = False) -> tuple[list[int], dict[str, Any]]:
    """Descriptors of the program and of its OWN maps, and a document of all maps' layouts. Raises what bcc raises.

    jumbo: the program takes frames in several buffers, which bcc cannot tell the kernel.
    """
    with module_of(text) as module:
        if jumbo:
            program_fd = bpf.load_xdp(module.dump_func(FUNCTION), jumbo=True)
        else:
            program_fd = module.load_func(FUNCTION, module.XDP).fd
    families = [name for name in FAMILIES if _has(module, name)]
    tables = {name: module.get_table(name) for name in (*SHARED, *OWN, *families)}
    layouts = {name: {"key": layout_of(t.Key), "value": layout_of(_one(t.Leaf))} for name, t in tables.items()}
    return [program_fd, *(tables[name].map_fd for name in OWN)], layouts


def compile_and_load_probe(text: str) -> tuple[list[int], dict[str, Any]]:
    """Descriptors of the two programs of bpf/probe.c and of its map `probes`; no document. Raises what bcc raises."""
    with module_of(text) as module:
        programs = [module.load_func(name, module.SCHED_CLS) for name in ("ask", "answer")]
    return [*(program.fd for program in programs), module.get_table("probes").map_fd], {}


@contextlib.contextmanager
def module_of(text: str) -> Iterator[Any]:
    """bcc's module of a text, as long as the headers are there that it is compiled with."""
    with tempfile.TemporaryDirectory(prefix="lbctl-headers-") as headers:
        flags = make_tree(Path(headers))
        os.environ["BCC_KERNEL_SOURCE"] = headers
        from bcc import BPF

        yield BPF(text=text, cflags=list(flags))


def _has(module: Any, name: str) -> bool:
    try:
        module.get_table(name)
    except KeyError:
        return False
    return True


def _one(kind: Any) -> Any:
    """The type of one element of an array. bcc makes an array of a per-CPU map's leaf, one a CPU."""
    return kind._type_ if issubclass(kind, ctypes.Array) else kind


COMPILERS: dict[str, Callable[[str], tuple[list[int], dict[str, Any]]]] = {
    "packet": compile_and_load,
    "jumbo": partial(compile_and_load, jumbo=True),
    "probe": compile_and_load_probe,
}
"""By the second argument."""


def main() -> None:
    """Compile standard input, and hand the result over."""
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        fds, layouts = COMPILERS[sys.argv[2]](sys.stdin.read())
        document = json.dumps(layouts).encode()
        socket.send_fds(parent, [document[:1]], fds)
        parent.sendall(document[1:])
    os._exit(0)  # bcc's own clean-up takes longer than the kernel's


if __name__ == "__main__":
    main()
