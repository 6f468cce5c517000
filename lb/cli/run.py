"""`lbctl up`: a director's life."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import click

from lb import config, rundir
from lb.cli.options import conf_argument, node_option
from lb.cli.output import out
from lb.datapath import load
from lb.errors import LbctlError
from lb.model import Cluster, Node
from lb.obstacles import obstacles

START_TIMEOUT_S = load.TIMEOUT_S + 60.0
"""The compiler has most of it."""

LOG_DIR = Path("/var/log/lbctl")


@click.command()
@conf_argument
@node_option("Which director of the file this machine is; default: by host name, else by address.")
@click.option("-d", "--detach", is_flag=True, help=f"Run in the background, log to {LOG_DIR}/NODE.log.")
@click.option("-v", "--verbose", is_flag=True, help="Log details too.")
def up(conf: Path, node: str | None, detach: bool, verbose: bool) -> None:
    """Run this machine's director, in the foreground with its log, until Ctrl-C, SIGTERM or 'lbctl down'.

    \b
    lbctl up /etc/lbctl/cluster.toml
    lbctl up conf/cluster.toml --node lb1 -d

    Stopping hands the virtual addresses to the other director first. kill -9 does not stop the packets: the program
    stays in the kernel and the next 'up' adopts it with all its connections.
    """
    from lb.netif import own_addresses

    cluster = config.load(conf, obstacles)
    me = config.which_node(cluster, node, socket.gethostname(), own_addresses())
    if detach:
        _up_detached(cluster, me, verbose)
        return
    from lb import daemon, logs

    logs.configure(verbose)
    daemon.run(cluster, me.name)


def _up_detached(cluster: Cluster, node: Node, verbose: bool) -> None:
    if rundir.pid_behind(node.name) is not None:
        out.print(f"{node.name} runs already; 'lbctl reload' applies a changed configuration")
        return
    LOG_DIR.mkdir(parents=True, exist_ok=True)
    log = LOG_DIR / f"{node.name}.log"
    start = log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-m", "lb", "up", str(cluster.path), "--node", node.name]
    with log.open("ab") as file:
        process = subprocess.Popen(
            command + ["--verbose"] * verbose,
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, cwd="/",
        )  # fmt: skip
    deadline = time.monotonic() + START_TIMEOUT_S
    with out.status(f"starting {node.name} …"):
        while rundir.pid_behind(node.name) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_bytes()[start:].decode(errors="replace").splitlines()[-10:]
                raise LbctlError("\n".join([f"{node.name} did not start; the end of {log}:", *tail]))
            time.sleep(0.02)
    out.print(f"{node.name} runs (pid {process.pid}), log in {log}")
