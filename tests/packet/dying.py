"""A director's packet path in a process that is killed: `python -m tests.packet.dying NODE`.

Loads reals 1 and 2, opens ten connections, says "ready" and waits for its end.
"""

from __future__ import annotations

import sys

from tests.packet.world import World, real, tcp


def main() -> None:
    """Never returns by itself."""
    world = World.open(sys.argv[1])
    world.apply_reals(real(1), real(2))
    for port in range(1000, 1010):
        world.send(tcp("S", port))
        world.send(tcp("A", port))
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
