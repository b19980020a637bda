"""Which addresses are of the public Internet and not our own, and what the others are.

An IPv6 address that stands for an IPv4 one is judged as that one.
"""

from __future__ import annotations

import socket
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

THIS_MACHINE = "this machine or its link"
PRIVATE = "in a private network"
NOT_PUBLIC = "no public address"

_KINDS = {
    THIS_MACHINE: ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "::/127", "fe80::/10"),
    PRIVATE: (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15",
        "fc00::/7", "fec0::/10", "64:ff9b:1::/48",
    ),
    NOT_PUBLIC: ("192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/4", "240.0.0.0/4", "2001::/23"),
}  # fmt: skip
_GLOBAL = "2000::/3"
"""All of IPv6 that is given out; the rest is refused, whatever it will mean some day."""

_LAST_4_BYTES = ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")
"""IPv4-compatible, IPv4-mapped, IPv4-translated, and NAT64."""
_6TO4 = "2002::/16"


def why_not_public(address: str) -> str | None:
    """What an address is that is not of the public Internet, or is our own; None for others."""
    ip = _embedded(ip_address(address.partition("%")[0]))
    for kind, networks in _tables().items():
        if any(ip in network for network in networks):
            return kind
    if isinstance(ip, IPv6Address) and ip not in IPv6Network(_GLOBAL):
        return NOT_PUBLIC
    return THIS_MACHINE if _is_own(ip) else None


def _is_own(ip: IPv4Address | IPv6Address) -> bool:
    """Whether an interface of this machine has an address: what would be sent there came from it.

    Nothing is sent.
    """
    family = socket.AF_INET if isinstance(ip, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(ip), 9))
            return ip_address(probe.getsockname()[0].partition("%")[0]) == ip
    except OSError:
        return False


def _embedded(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(ip, IPv4Address) or int(ip) <= 1:
        return ip
    if ip in IPv6Network(_6TO4):
        return IPv4Address(ip.packed[2:6])
    if any(ip in IPv6Network(network) for network in _LAST_4_BYTES):
        return IPv4Address(ip.packed[12:])
    return ip


@cache
def _tables() -> dict[str, list[IPv4Network | IPv6Network]]:
    def network(text: str) -> IPv4Network | IPv6Network:
        return IPv6Network(text) if ":" in text else IPv4Network(text)

    return {kind: [network(text) for text in texts] for kind, texts in _KINDS.items()}
