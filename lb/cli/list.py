"""`lbctl list`: what the data plane holds, in ipvsadm's columns."""

from __future__ import annotations

import time
from itertools import chain

import click

from lb.cli import ipvsadm
from lb.cli.options import node_option
from lb.cli.output import json_option, print_json
from lb.datapath.view import View, find_pinned
from lb.errors import UsageError

RATE_INTERVAL_S = 1.0


@click.command(name="list")
@node_option()
@click.option("-c", "--connections", is_flag=True, help="Each connection with its state and real.")
@click.option("--stats", is_flag=True, help="Totals: connections, packets, bytes.")
@click.option("--rate", is_flag=True, help="Connections, packets and bytes a second, over one second.")
@click.option("--thresholds", is_flag=True, help="Connection limits of the reals, and how many they have.")
@json_option
def list_(node: str | None, connections: bool, stats: bool, rate: bool, thresholds: bool, as_json: bool) -> None:
    """Show what the data plane holds, read back from its maps, in ipvsadm's columns.

    \b
    lbctl list
    lbctl list --connections
    lbctl list --stats

    It needs no running director: what a dead one left in the kernel is shown too. OutPkts and OutBytes are 0, since
    with direct routing the answers do not pass the director.
    """
    if connections + stats + rate + thresholds > 1:
        raise UsageError("--connections, --stats, --rate and --thresholds show different tables; give one of them")
    view = View.open(find_pinned(node))
    if connections:
        families = [ipvsadm.connections(rows, view.timeouts_s(rows).tolist()) for rows in view.snapshot(half_open=True)]
        rows = list(chain.from_iterable(families))
        print_json(rows) if as_json else click.echo(ipvsadm.format_connections(rows))
        return
    held = view.held()
    if rate:
        before, started = held, time.monotonic()
        time.sleep(RATE_INTERVAL_S)
        document = ipvsadm.rates(before, view.held(), time.monotonic() - started)
    else:
        document = ipvsadm.services(held)
    if as_json:
        print_json(document)
    elif thresholds:
        click.echo(ipvsadm.format_thresholds(document))
    else:
        form = ipvsadm.format_rates if rate else ipvsadm.format_stats if stats else ipvsadm.format_services
        click.echo(form(document))
