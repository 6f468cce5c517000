"""This host's network configuration: links, addresses, neighbours, and being told when they change.

The only package that imports pyroute2. It uses pyroute2's messages and none of its sockets: AsyncIPRoute
cannot run under uvloop (which refuses AF_NETLINK endpoints) and IPRoute cannot run inside a running loop.
`rtnl` has ours. Everything acts on the network namespace of the calling thread.
"""

from lb.netif.detour import Detour
from lb.netif.links import (
    FAMILIES,
    Link,
    add_address,
    addresses,
    link,
    link_names,
    own_addresses,
    remove_address,
    set_up,
)
from lb.netif.neighbours import Neighbours
from lb.netif.place import Place
from lb.netif.routes import Route, route
from lb.netif.watch import InterfaceWatch
from lb.netif.ways import Ways

__all__ = [
    "FAMILIES",
    "Detour",
    "InterfaceWatch",
    "Link",
    "Neighbours",
    "Place",
    "Route",
    "Ways",
    "add_address",
    "addresses",
    "link",
    "link_names",
    "own_addresses",
    "remove_address",
    "route",
    "set_up",
]
