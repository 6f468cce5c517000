"""A client that floods: first packets of connections that it never goes on with, from addresses that are nobody's.

    python flooding.py INTERFACE MAC ADDRESS TCP_PORT UDP_PORT PACKETS RATE    then says how long it took, in seconds

MAC: the director's. RATE: packets a second, half of them SYNs, half of them datagrams.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from ipaddress import IPv4Address

NOBODY = int(IPv4Address("198.18.0.0"))
CLIENTS = 1 << 17
EVERY_S = 0.01


def checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def packet(number: int, address: int, ports: tuple[int, int]) -> bytes:
    """IPv4 with a SYN, or with an empty datagram, by turns. ports: of TCP and of UDP."""
    client, port = NOBODY + number * 977 % CLIENTS, 1024 + number * 7919 % 60_000
    is_udp = number % 2
    pseudo = struct.pack("!IIHH", client, address, 17 if is_udp else 6, 8 if is_udp else 20)
    if is_udp:
        layer = struct.pack("!HHHH", port, ports[1], 8, 0)
    else:
        layer = struct.pack("!HHIIBBHHH", port, ports[0], number, 0, 0x50, 2, 65_535, 0, 0)
    at = 6 if is_udp else 16
    layer = layer[:at] + struct.pack("!H", checksum(pseudo + layer)) + layer[at + 2 :]
    head = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(layer), 0, 0x4000, 64, 17 if is_udp else 6, 0, client, address)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + layer


def main() -> None:
    interface, mac, address, tcp, udp, count, rate = sys.argv[1:]
    virtual, ports = int(IPv4Address(address)), (int(tcp), int(udp))
    packets = [packet(number, virtual, ports) for number in range(int(count))]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as line:
        line.bind((interface, 0))
        head = bytes.fromhex(mac.replace(":", "")) + line.getsockname()[4] + b"\x08\x00"
        began_s, at_once = time.monotonic(), max(1, round(int(rate) * EVERY_S))
        for number, sent in enumerate(packets):
            if number % at_once == 0:
                time.sleep(max(0.0, began_s + number / int(rate) - time.monotonic()))
            line.send(head + sent)
        print(time.monotonic() - began_s)


if __name__ == "__main__":
    main()
