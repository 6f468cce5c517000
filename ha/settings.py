"""The configuration, as heartbeats and roles want it. Pure."""

from __future__ import annotations

import hashlib

from ha.state import Settings
from lb.model import Cluster


def digest(cluster: Cluster) -> str:
    """The same on two nodes whose files say the same."""
    return hashlib.sha256(cluster.model_dump_json(exclude={"path"}).encode()).hexdigest()[:16]


def settings(cluster: Cluster, me: str) -> Settings:
    """Of this node."""
    ha = cluster.ha
    names = tuple(node.name for node in cluster.nodes)
    return Settings(me, names, ha.keepalive, ha.deadtime, ha.initdead, ha.preferred, ha.auto_failback)
